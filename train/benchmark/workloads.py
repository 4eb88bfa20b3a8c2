"""The work that is timed: one network, one batch size, training step or inference."""

from typing import NamedTuple

import numpy as np

from train.data.examples import Examples

SUITES = ("train", "infer")
PRECISIONS = ("float32", "bfloat16")


class Network(NamedTuple):
    """What a network is timed on.

    Attributes:
      batch_size: images a step.
      image_size: side of the images in pixels.
      channels: of the images.
      classes: logits.
      macs: multiply-accumulates of one image's forward pass, by the formula (padding counted): each convolution's
        kernel times the positions of its map, each dense layer's kernel.
      first_macs: those of the first layer, whose input takes no gradient.
    """

    batch_size: int
    image_size: int
    channels: int
    classes: int
    macs: int
    first_macs: int


NETWORKS = {
    "lenet5": Network(256, 32, 1, 10, 416_520, 117_600),
    "alexnet": Network(64, 224, 3, 1000, 714_188_480, 70_276_800),
    "vgg16": Network(8, 224, 3, 1000, 15_470_264_320, 86_704_128),
}

# Where each network keeps its layers with parameters, in the order of the forward pass.
LAYERS: dict[str, list[tuple[str | int, ...]]] = {
    "lenet5": [("c1",), ("c3",), ("c5",), ("f6",), ("output",)],
    "alexnet": [*(("convolutions", place) for place in range(5)), ("fc6",), ("fc7",), ("fc8",)],
    "vgg16": [*(("convolutions", place) for place in range(13)), ("fc6",), ("fc7",), ("fc8",)],
}
# Side of the square matrices whose product tells what the machine can do.
PRODUCT_SIDE = 2048
# Pixels, being 0..1, less the one and over the other.
MEAN, STD = 0.5, 0.25


class Workload(NamedTuple):
    """A row of the table.

    Attributes:
      suite: "train": forward, backward and SGD with momentum; "infer": forward. Both from bytes on the device.
      model: a key of `NETWORKS`.
      precision: what layers compute in; parameters are float32.
    """

    suite: str
    model: str
    precision: str

    @property
    def network(self) -> Network:
        """What the network is timed on."""
        return NETWORKS[self.model]

    @property
    def flops(self) -> int:
        """Floating-point operations an image: two a multiply-accumulate; in training, three passes but the input's."""
        macs = self.network.macs
        return 2 * (3 * macs - self.network.first_macs if self.suite == "train" else macs)


def batch_of(work: Workload) -> Examples:
    """Return noise with labels; the same on both sides."""
    measured, random = work.network, np.random.default_rng(0)
    shape = (measured.batch_size, measured.image_size, measured.image_size, measured.channels)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    return Examples(images, random.integers(0, measured.classes, len(images), dtype=np.int32))
