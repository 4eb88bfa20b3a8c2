"""A multilayer perceptron, 300 and 100 hidden units (266,610 parameters), on MNIST: what the lecture argues against.

    python -m scripts.train --config=configs/mlp_mnist.py --workdir=runs/mlp_mnist --config.dataset.source=idx:FOLDER

FOLDER holds the four files of MNIST in IDX format, gzipped or not.
Expected: 99.12 % on the 10,000 test images (mean of three seeds: 99.07, 99.04, 99.26), in about 40 s a run on two CPU
cores: with the same distortions, and four times the parameters, it errs 1.8 times as often as LeNet-5.
"""

from ml_collections import ConfigDict

from configs import lenet5_mnist


def get_config() -> ConfigDict:
    """Return the experiment: that of LeNet-5 on MNIST, with the other network."""
    config = lenet5_mnist.get_config()
    config.model.name = "mlp"
    config.dataset.image_size = 28
    return config
