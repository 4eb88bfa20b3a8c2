"""LeNet-5 in the form taught today, and the same for series; as published it stands in lenet1998.py.

After LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition".
"""

import math

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.geometry import windows
from models.layers import INITS, Convolution, Dense, Dropout, Series
from models.network import Network, NetworkError
from models.pooling import AveragePool, MaxPool

POOLINGS = {"max": MaxPool, "average": AveragePool}


class LeNet5(Network):
    """Convolutions, each with a pooling behind it, then dense layers: two and three of them in LeNet-5.

    The stages carry the paper's names (section II.B): C1, S2, C3, S4, C5, F6, and "output" for the logits. Here every
    map of C3 sees all six of S2, and the head is a dense layer: on a 32x32 image with one channel and ten classes there
    are 156 + 2,416 + 48,120 + 10,164 + 850 = 61,706 parameters. C5 is a convolution in the paper; on the 5x5 maps that
    S4 leaves it equals the dense layer that stands here.

    Other widths, kernels, paddings and depths make the small nets that people train on digits everywhere. Their stages
    are numbered as LeNet-5's are: C for a convolution and for the dense layer that sees all maps, S for a pooling, F
    for a further dense layer.

    In one dimension it reads an image row by row, so that a data set of images is one of series: 28x28 pixels are 784
    values, of which S4 sees 16 at once.

    Args:
      dimensions: 2, or 1 for series.
      image_size: side of the input in pixels: with LeNet-5's sizes 16 or more, for series 4 or more.
      channels: channels of the input.
      classes: number of logits.
      widths: maps that each convolution makes.
      kernels: side of each convolution's kernels, in pixels.
      padding: pixels of zeros around the maps that each convolution sees.
      pools: side and stride of the pooling behind each convolution, in pixels; behind one with 1 there is none.
      hidden: units of each dense layer before the logits.
      activation: a key of `ACTIVATIONS`.
      pooling: a key of `POOLINGS`.
      init: a key of `INITS`, for all kernels.
      dropout: probability of zeroing a unit of C5 and F6 in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
      NetworkError: widths, kernels, padding and pools do not have one entry for each convolution.
    """

    def __init__(
        self,
        *,
        dimensions: int = 2,
        image_size: int = 32,
        channels: int = 1,
        classes: int = 10,
        widths: tuple[int, ...] = (6, 16),
        kernels: tuple[int, ...] = (5, 5),
        padding: tuple[int, ...] = (0, 0),
        pools: tuple[int, ...] = (2, 2),
        hidden: tuple[int, ...] = (120, 84),
        activation: str = "relu",
        pooling: str = "max",
        init: str = "lecun",
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__((image_size, image_size, channels))
        each = {"widths": widths, "kernels": kernels, "padding": padding, "pools": pools}
        if len(set(map(len, each.values()))) > 1:
            counts = ", ".join(f"{name}={values}" for name, values in each.items())
            raise NetworkError(f"{counts}: must have one entry for each convolution")
        reading: tuple[Series, ...] = (Series(),) if dimensions == 1 else ()
        number, kernel_init = 0, INITS[init]
        for width, kernel, around, pool in zip(*each.values(), strict=True):
            number += 1
            window = windows(kernel, padding=around, dimensions=dimensions)
            convolution = Convolution(self.shape[-1], width, window, dtype=dtype, kernel_init=kernel_init, rngs=rngs)
            self.add(f"C{number}", *reading, convolution, activation=activation)
            reading = ()
            if pool > 1:
                number += 1
                self.add(f"S{number}", POOLINGS[pooling](windows(pool, stride=pool, dimensions=dimensions)))
        for place, units in enumerate(hidden):
            number += 1
            # C5 is a convolution in the paper. Dropout stands behind each of these layers, so before the next.
            dropped = (Dropout(dropout),) if place else ()
            dense = Dense(math.prod(self.shape), units, dtype=dtype, kernel_init=kernel_init, rngs=rngs)
            self.add(f"F{number}" if place else f"C{number}", *dropped, dense, activation=activation)
        dropped = (Dropout(dropout),) if hidden else ()
        self.add(
            "output", *dropped, Dense(math.prod(self.shape), classes, dtype=dtype, kernel_init=kernel_init, rngs=rngs)
        )
