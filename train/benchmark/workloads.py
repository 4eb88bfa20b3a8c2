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
    """

    batch_size: int
    image_size: int
    channels: int
    classes: int


NETWORKS = {
    "lenet5": Network(256, 32, 1, 10),
    "alexnet": Network(64, 224, 3, 1000),
    "vgg16": Network(8, 224, 3, 1000),
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


def batch_of(work: Workload) -> Examples:
    """Return noise with labels; the same on both sides."""
    measured, random = work.network, np.random.default_rng(0)
    shape = (measured.batch_size, measured.image_size, measured.image_size, measured.channels)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    return Examples(images, random.integers(0, measured.classes, len(images), dtype=np.int32))
