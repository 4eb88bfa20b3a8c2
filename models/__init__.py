"""What a network is: Flax NNX modules that know no files, no data sets and no runs.

Every network takes normalised images `[B, H, W, C]` and returns logits `[B, classes]`. `network.stages(x)` yields
`(name, activation)` for each stage in order, under the names of the paper; the last one is the logits.
Passing `key` makes the call a training call: dropout draws from it. Without one nothing is random.
"""

from collections.abc import Callable, Mapping
from functools import partial

from models.alexnet import AlexNet
from models.lenet5 import LeNet5
from models.lenet1998 import LeNet1998
from models.mlp import MLP
from models.network import Network
from models.vgg import VGG

__all__ = ["MLP", "NETWORKS", "VGG", "AlexNet", "LeNet5", "LeNet1998", "Network", "full_name"]


def _vgg(*variants: str) -> dict[str | None, Callable[..., Network]]:
    return {variant: partial(VGG, variant=variant) for variant in variants}


# By name, then by variant, the first being the default. Networks in one form have the variant None.
NETWORKS: Mapping[str, Mapping[str | None, Callable[..., Network]]] = {
    "lenet5": {"modern": LeNet5, "1998": LeNet1998},
    "lenet1d": {None: partial(LeNet5, dimensions=1, image_size=8)},
    "alexnet": {
        "torchvision": partial(AlexNet, variant="torchvision"),
        "2012": partial(AlexNet, variant="2012", image_size=227),
        "caffenet": partial(AlexNet, variant="caffenet", image_size=227),
        "bvlc": partial(AlexNet, variant="bvlc", image_size=227),
    },
    "vgg": _vgg(*VGG.VARIANTS),
    "vgg11": _vgg("A"),
    "vgg13": _vgg("B"),
    "vgg16": _vgg("D"),
    "vgg19": _vgg("E"),
    "mlp": {None: MLP},
}


def full_name(name: str, variant: str | None) -> str:
    """Return how people call a network: "lenet5 1998", or "mlp" where there is one form alone."""
    return f"{name} {variant}" if variant else name
