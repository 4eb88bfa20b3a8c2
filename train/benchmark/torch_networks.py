"""The three networks in torch.nn, layer for layer as torchvision has them (LeNet-5 as here), and weights for them.

Imported by the peer's process and by tests alone: `train` works without torch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


def _alexnet(channels: int, classes: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        ),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, classes),
        ),
    )


def vgg16(channels: int, classes: int, dropout: float, *, batch_norm: bool = False) -> nn.Module:
    """Return VGG-16 (configuration D) for so many channels and classes, with that probability of dropout."""
    features: list[nn.Module] = []
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if not width:
            features.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        features.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
        if batch_norm:
            features.append(nn.BatchNorm2d(width))
        features.append(nn.ReLU(inplace=True))
        channels = width
    return nn.Sequential(
        nn.Sequential(*features),
        nn.AdaptiveAvgPool2d((7, 7)),
        nn.Flatten(),
        nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        ),
    )


def _lenet5(channels: int, classes: int, dropout: float) -> nn.Module:
    # The maximum before the activation, as here: the same function with a quarter to activate, 1.2 times as fast.
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel_size=5),
        nn.MaxPool2d(kernel_size=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.MaxPool2d(kernel_size=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, classes),
    )


NETWORKS = {"lenet5": _lenet5, "alexnet": _alexnet, "vgg16": vgg16}


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Return the convolutions and dense layers in order."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def to_torch(layer: nn.Module, kernel: np.ndarray, maps: int | None) -> torch.Tensor:
    """Return one of our kernels in torch's layout.

    Args:
      layer: torch's layer.
      kernel: `[kh, kw, in, out]` of a convolution, `[in, out]` of a dense layer.
      maps: of the dense layer that looks at flattened maps, how many: ours come as H, W, C, torch's as C, H, W.
    """
    if isinstance(layer, nn.Conv2d):
        return torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    if maps:
        side = round((len(kernel) / maps) ** 0.5)
        kernel = kernel.reshape(side, side, maps, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
    return torch.from_numpy(np.ascontiguousarray(kernel.T))


def each_in_torch(
    network: nn.Module, ours: Sequence[dict[str, np.ndarray]]
) -> list[tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    """Return (layer, kernel, bias) of each convolution and dense layer: ours, in torch's layout."""
    pairs = []
    maps: int | None = None
    for layer, arrays in zip(layers_of(network), ours, strict=True):
        flattened = maps if isinstance(layer, nn.Linear) else None
        pairs.append((layer, to_torch(layer, arrays["kernel"], flattened), torch.tensor(arrays["bias"])))
        maps = layer.out_channels if isinstance(layer, nn.Conv2d) else None
    return pairs


@torch.no_grad()
def copy_weights(network: nn.Module, ours: Sequence[dict[str, np.ndarray]]) -> None:
    """Set kernels and biases, in order, from ours."""
    for layer, kernel, bias in each_in_torch(network, ours):
        layer.weight.copy_(kernel)
        layer.bias.copy_(bias)
