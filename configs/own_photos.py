"""A classifier of your own photos: AlexNet, with what other weights have learnt where there are some.

    python -m scripts.train --config=configs/own_photos.py:ROOT --workdir=runs/own_photos \
        --config.transfer.weights=RUN_OR_FILE

ROOT holds a folder of photos for each class (or train/ and perhaps val/ and test/ with such folders); it says how many
classes there are and what they are called. With weights, all but AlexNet's last layer is frozen, its activations of
eight augmented views of each photo are stored, and the last layer learns from those. Without, all learns from scratch,
which takes thousands of photos. For weights of another network, --config.model.name=vgg16.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base


def get_config(root: str = "photos") -> ConfigDict:
    """Return the experiment on a folder of photos."""
    config = base.get_config()
    config.model.name = "alexnet"
    config.dataset.source = f"folder:{root}"
    config.dataset.image_size = placeholder(int)  # that of the weights, else the network's
    config.dataset.crop = 0.875
    config.augment.random_resized_crop = 0.35
    config.augment.flip = True
    config.transfer.views = 8
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 0.05
    config.schedule.learning_rate = 3e-4
    config.schedule.warmup_epochs = 2.0
    config.train.epochs = 40.0
    config.train.batch_size = 32
    config.evaluate.batch_size = 64
    config.evaluate.every_epochs = 5.0
    config.log.every_steps = 10
    return config
