"""What each source calls our layers: the tables by which names are matched."""

from collections.abc import Callable, Mapping

from models.alexnet import AlexNet
from models.layers import BatchNorm, Convolution
from models.network import Network
from models.pooling import MaxPool
from models.vgg import VGG

# From our layer's name to the source's.
Table = dict[str, str]

_ALEXNET = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
_KERAS_CLASSIFIER = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def torchvision(network: Network) -> Table:
    """Return the names of torchvision.models, for AlexNet in its form and VGG in those it has (A, B, D, E)."""
    if isinstance(network, AlexNet):
        return _ALEXNET
    return _vgg_features(network) | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}


def torchvision_2016(network: Network) -> Table:
    """Return the names that VGG had in torchvision before 2017 and has in jcjohnson/pytorch-vgg: Dropout came first."""
    return _vgg_features(network) | {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}


def timm(network: Network) -> Table:
    """Return timm's names of VGG; its fc1 and fc2 are written as convolutions."""
    return _vgg_features(network) | {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}


def _vgg_features(network: Network) -> Table:
    """Number what stands in torchvision's Sequential `features`: convolution, its normalisation, ReLU, pooling."""
    table, place = {}, 0
    for stage in network.plan:
        for layer, name in zip(network.layers_of(stage), stage.layers, strict=True):
            if isinstance(layer, Convolution | BatchNorm):
                table[str(name)] = f"features.{place}"
                place += 1
            elif isinstance(layer, MaxPool):
                place += 1
        place += stage.activation == "relu" and stage.name.startswith("conv")
    return table


def keras(network: Network) -> Table:
    """Return the names of keras.applications.VGG16 and VGG19."""
    convolutions = [stage.name for stage in network.plan if stage.name.startswith("conv")]
    return {name: f"block{name[4]}_conv{name[6:]}" for name in convolutions} | _KERAS_CLASSIFIER


def stages(network: Network) -> Table:
    """Return the papers' names, which are those of our stages, and Caffe's."""
    return {str(name): str(name) for stage in network.plan for name in stage.layers if isinstance(name, str)}


def tables(network: Network) -> Mapping[str, Callable[[Network], Table]]:
    """Return the tables that know a network."""
    if isinstance(network, VGG):
        convolutions = (layer for stage in network.plan for layer in network.layers_of(stage))
        sides = {layer.kernel_shape[0] for layer in convolutions if isinstance(layer, Convolution)}
        if sides != {3} or any(stage.name == "norm1" for stage in network.plan):  # C and A-LRN are the paper's alone
            return {"stages": stages}
        of_torch = {"torchvision": torchvision, "torchvision before 2017": torchvision_2016, "timm": timm}
        return of_torch | {"Keras": keras, "stages": stages}
    if isinstance(network, AlexNet) and not any(stage.name == "norm1" for stage in network.plan):
        return {"torchvision": torchvision, "stages": stages}
    return {"stages": stages}
