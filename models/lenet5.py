"""LeNet-5 in the form taught today, and the same for series; as published it stands in lenet1998.py.

After LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".
"""

import math

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.geometry import windows
from models.layers import Convolution, Dense, Dropout, Series
from models.network import Network
from models.pooling import AveragePool, MaxPool

POOLINGS = {"max": MaxPool, "average": AveragePool}


class LeNet5(Network):
    """Two convolutions, each with a pooling behind it, and three dense layers.

    The stages carry the paper's names (section II.B): C1, S2, C3, S4, C5, F6, and "output" for the logits. Here every
    map of C3 sees all six of S2, and the head is a dense layer: on a 32x32 image with one channel and ten classes there
    are 156 + 2,416 + 48,120 + 10,164 + 850 = 61,706 parameters. C5 is a convolution in the paper; on the 5x5 maps that
    S4 leaves it equals the dense layer that stands here.

    In one dimension it reads an image row by row, so that a data set of images is one of series: 28x28 pixels are 784
    values, of which S4 sees 16 at once.

    Args:
      dimensions: 2, or 1 for series.
      image_size: side of the input in pixels: 16 or more, for series 4 or more.
      channels: channels of the input.
      classes: number of logits.
      activation: a key of `ACTIVATIONS`.
      pooling: a key of `POOLINGS`.
      dropout: probability of zeroing a unit of C5 and F6 in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
    """

    def __init__(
        self,
        *,
        dimensions: int = 2,
        image_size: int = 32,
        channels: int = 1,
        classes: int = 10,
        activation: str = "relu",
        pooling: str = "max",
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__((image_size, image_size, channels))
        reading = (Series(),) if dimensions == 1 else ()
        kernel = windows(5, dimensions=dimensions)
        halving = POOLINGS[pooling](windows(2, stride=2, dimensions=dimensions))
        c1 = Convolution(channels, 6, kernel, dtype=dtype, rngs=rngs)
        self.add("C1", *reading, c1, activation=activation)
        self.add("S2", halving)
        self.add("C3", Convolution(6, 16, kernel, dtype=dtype, rngs=rngs), activation=activation)
        self.add("S4", halving)
        self.add("C5", Dense(math.prod(self.shape), 120, dtype=dtype, rngs=rngs), activation=activation)
        self.add("F6", Dropout(dropout), Dense(120, 84, dtype=dtype, rngs=rngs), activation=activation)
        self.add("output", Dropout(dropout), Dense(84, classes, dtype=dtype, rngs=rngs))
