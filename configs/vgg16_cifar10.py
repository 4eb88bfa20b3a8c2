"""VGG-16 with batch normalisation on CIFAR-10 at its own 32 pixels, the least that VGG-16 takes.

    python -m scripts.train --config=configs/vgg16_cifar10.py --workdir=runs/vgg16_cifar10 \
        --config.dataset.source=tfds:cifar10

Not run here: it is for a GPU or a TPU. No figure is claimed.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.name = "vgg16"
    config.model.batch_norm = True
    config.model.init = "he"
    config.dataset.source = "tfds:cifar10"
    config.dataset.image_size = 32
    config.dataset.validation = 5000.0
    config.augment.pad_and_crop = 4
    config.augment.flip = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 5.0
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.05
    config.schedule.warmup_epochs = 5.0
    config.train.epochs = 30.0
    config.train.batch_size = 128
    return config
