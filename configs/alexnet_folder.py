"""AlexNet on a folder of photos, from scratch, at 224 pixels.

    python -m scripts.train --config=configs/alexnet_folder.py --workdir=runs/alexnet_folder \
        --config.dataset.source=folder:ROOT

ROOT holds a folder for each class, or train/ and perhaps val/ and test/ with such folders.
Expected on 244 photos of ants and bees (hymenoptera): 67.3 % on the 153 of val (mean of three seeds: 68.6, 67.3, 66.0),
in about 7 minutes a run on two CPU cores and 3.1 GB of memory. So few photos do not train AlexNet from scratch.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.name = "alexnet"
    config.dataset.source = "folder:data/photos"
    config.dataset.image_size = 224
    config.dataset.crop = 0.875
    config.augment.random_resized_crop = 0.25
    config.augment.flip = True
    config.augment.color_noise = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 5.0
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.01
    config.schedule.warmup_epochs = 10.0
    config.train.epochs = 40.0
    config.train.batch_size = 32
    config.evaluate.batch_size = 64
    config.evaluate.every_epochs = 5.0
    config.log.every_steps = 10
    return config
