"""AlexNet on CIFAR-10, its 32 pixels scaled to 64, the least that AlexNet takes being 63.

    python -m scripts.train --config=configs/alexnet_cifar10.py --workdir=runs/alexnet_cifar10 \
        --config.dataset.source=tfds:cifar10

Not run here: about 80 minutes on two CPU cores. No figure is claimed.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.name = "alexnet"
    config.dataset.source = "tfds:cifar10"
    config.dataset.image_size = 64
    config.dataset.validation = 5000.0
    config.augment.pad_and_crop = 8
    config.augment.flip = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 5.0
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.02
    config.schedule.warmup_epochs = 3.0
    config.train.epochs = 15.0
    config.train.batch_size = 128
    return config
