"""VGG-16 with batch normalisation on a folder of photos, from scratch, at 224 pixels.

    python -m scripts.train --config=configs/vgg16_folder.py --workdir=runs/vgg16_folder \
        --config.dataset.source=folder:ROOT

ROOT holds a folder for each class, or train/ and perhaps val/ and test/ with such folders.
A whole training was not run here: two CPU cores take about a second an image. It is for a GPU or a TPU.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.name = "vgg16"
    config.model.batch_norm = True
    config.model.init = "he"
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
    config.train.epochs = 60.0
    config.train.batch_size = 16
    config.evaluate.batch_size = 16
    config.evaluate.every_epochs = 5.0
    config.log.every_steps = 10
    return config
