"""What one fixed permutation of the pixels does: nothing to a perceptron, much to LeNet-5. MNIST.

    python -m scripts.train --config=configs/permuted_mnist.py:lenet5 --workdir=runs/permuted/lenet5 \
        --config.dataset.source=idx:FOLDER
    python -m scripts.train --config=configs/permuted_mnist.py:mlp --workdir=runs/permuted/mlp \
        --config.dataset.source=idx:FOLDER

FOLDER holds the four files of MNIST in IDX format, gzipped or not. Beside the same networks on the pixels as they are,
which are those of shift_mnist.py:

    python -m scripts.compare --runs=runs/shift/lenet5,runs/permuted/lenet5,runs/shift/mlp,runs/permuted/mlp \
        --output=permutation.png

Expected (seed 0): LeNet-5 99.15 % on the pixels as they are, 96.51 % permuted; the perceptron 98.39 % and 98.47 %. On
two CPU cores LeNet-5 takes 70 s, the perceptron 12 s.
"""

from ml_collections import ConfigDict

from configs import shift_mnist


def get_config(name: str = "lenet5") -> ConfigDict:
    """Return the experiment for a network: lenet5 or mlp."""
    config = shift_mnist.get_config(name)
    config.dataset.permutation = 1998
    return config
