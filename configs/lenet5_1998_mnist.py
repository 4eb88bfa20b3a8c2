"""LeNet-5 as published in 1998 (60,000 trainable parameters, distances to pictures of digits) on MNIST.

    python -m scripts.train --config=configs/lenet5_1998_mnist.py --workdir=runs/lenet5_1998_mnist \
        --config.dataset.source=idx:FOLDER

FOLDER holds the four files of MNIST in IDX format, gzipped or not.
Expected: 98.96 % on the 10,000 test images (mean of three seeds: 99.02, 98.99, 98.88), in about 200 s a run on two CPU
cores; the paper has 99.05 %. As there, 20 passes without distortions; its second-order rates are replaced by one cycle.
"""

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
