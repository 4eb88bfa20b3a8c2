"""AlexNet and VGG of plain torch.nn under torchvision's names, for torchvision is no dependency of these tests."""

import torch
from torch import nn

# Convolutions in each block.
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


class TorchNetwork(nn.Module):
    """AlexNet or VGG as torchvision has it."""

    def __init__(self, name: str, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(*(alexnet_features() if name == "alexnet" else vgg_features(name)))
        side, maps = (6, 256) if name == "alexnet" else (7, 512)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        dense = [nn.Linear(maps * side**2, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, classes)]
        for place in (0, 3) if name == "alexnet" else (2, 5):
            dense.insert(place, nn.Dropout())
        self.classifier = nn.Sequential(*dense)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def alexnet_features() -> list[nn.Module]:
    return [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]


class CaffeNetwork(nn.Module):
    """Caffe's AlexNet, or CaffeNet, which pools before it normalises; torch divides alpha by the channels, as Caffe."""

    def __init__(self, variant: str, classes: int) -> None:
        super().__init__()
        self.pools_first = variant == "caffenet"
        sizes = ((3, 96, 11, 4, 0, 1), (96, 256, 5, 1, 2, 2), (256, 384, 3, 1, 1, 1), (384, 384, 3, 1, 1, 2))
        self.convolutions = nn.ModuleList()
        for channels, width, side, stride, padding, groups in (*sizes, (384, 256, 3, 1, 1, 2)):
            self.convolutions.append(nn.Conv2d(channels, width, side, stride, padding, groups=groups))
        self.dense = nn.ModuleList([nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes)])
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for place, convolution in enumerate(self.convolutions):
            x = convolution(x).relu()
            if place < 2:
                x = self.norm(self.pool(x)) if self.pools_first else self.pool(self.norm(x))
        x = self.pool(x).flatten(1)
        return self.dense[2](self.dense[1](self.dense[0](x).relu()).relu())


def vgg_features(name: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in zip((64, 128, 256, 512, 512), BLOCKS[name.removesuffix("_bn")], strict=True):
        for _ in range(count):
            norm = [nn.BatchNorm2d(width)] if name.endswith("_bn") else []
            layers += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


def torch_network(name: str, classes: int = 1000) -> TorchNetwork:
    """A network whose batch statistics are none that an initializer makes, in evaluation."""
    torch.manual_seed(0)
    network = TorchNetwork(name, classes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, draw in ((module.running_mean, "normal_"), (module.bias, "normal_")):
                getattr(tensor.data, draw)()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return network
