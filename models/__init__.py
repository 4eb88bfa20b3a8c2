"""What a network is: Flax NNX modules that know no files, no data sets and no runs.

Every network takes normalised images `[B, H, W, C]` and returns logits `[B, classes]`. `network.stages(x)` yields
`(name, activation)` for each stage in order, under the names of the paper; the last one is the logits.
Passing `key` makes the call a training call: dropout draws from it. Without one nothing is random.
"""

from models.alexnet import AlexNet
from models.lenet5 import LeNet5
from models.mlp import MLP
from models.vgg import VGG16

__all__ = ["MLP", "NETWORKS", "VGG16", "AlexNet", "LeNet5"]

NETWORKS = {"lenet5": LeNet5, "alexnet": AlexNet, "vgg16": VGG16, "mlp": MLP}
