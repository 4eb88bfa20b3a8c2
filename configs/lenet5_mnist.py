"""LeNet-5 (61,706 parameters) on MNIST; the paper of 1998 reports 99.05 %, and 99.20 % with distortions.

    python -m scripts.train --config=configs/lenet5_mnist.py --workdir=runs/lenet5_mnist \
        --config.dataset.source=idx:FOLDER

FOLDER holds the four files of MNIST in IDX format, gzipped or not.
Expected: 99.51 % on the 10,000 test images (mean of three seeds: 99.39, 99.57, 99.56), in about 200 s a run on two
CPU cores.
A seeded 5,000 of the 60,000 training images choose the checkpoint; 28x28 pixels are padded to 32x32 as in the paper.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.dataset.source = "idx:data/mnist"
    config.dataset.resize = "pad"
    config.dataset.validation = 5000.0
    config.augment.shift = 2
    config.augment.rotate = 10.0
    config.augment.scale = 0.1
    config.augment.shear = 0.1
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "one_cycle"
    config.schedule.warmup_epochs = 5.0
    config.train.epochs = 25.0
    config.train.batch_size = 256
    config.train.ema = 0.999
    return config
