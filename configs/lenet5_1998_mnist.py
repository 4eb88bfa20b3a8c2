"""LeNet-5 as published in 1998 (60,000 trainable parameters, distances to pictures of digits) on MNIST."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.variant = "1998"
    config.dataset.source = "idx:data/mnist"
    config.dataset.resize = "pad"
    config.dataset.validation = 5000.0
    # Paper is -0.1 and ink is 1.175, as in section II.B.
    config.dataset.mean = (0.1 / 1.275,)
    config.dataset.std = (1 / 1.275,)
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.005
    config.schedule.warmup_epochs = 2.0
    config.train.epochs = 20.0
    config.train.batch_size = 64
    config.optimizer.clip_norm = 10.0
    return config
