"""LeNet-5 as published.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from models.geometry import Initializer, windows
from models.layers import Convolution, Dense, Dropout, PartialConvolution, RadialBasis
from models.network import Network, NetworkError
from models.pooling import Subsampling

# Table I: which maps of S2 each map of C3 sees.
_C3 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
# The digits of figure 3, 7 by 12 pixels each. They follow a transcription that is in public use (with the bars above
# some of them); they have not been held against the paper's print.
_DIGITS = (
    ".#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.",
    "....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###",
    "..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##",
    ".##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##",
    "##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###",
    "##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######",
    "##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##",
    "##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##",
    ".##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.",
    "..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..",
    "....... ....... ....... ....... .....## ....... ....... ....... ....... .......",
    "....... ....... ....... ....... .....## ....... ....... ....... ....... .......",
)
# Ink is 1 and paper -1, read row by row.
CODES = tuple(
    tuple(1 if pixel == "#" else -1 for pixel in "".join(rows))
    for rows in zip(*(row.split() for row in _DIGITS), strict=True)
)
# j of equation 9, a squared distance. The paper says that it is positive, and no more.
_RUBBISH = 0.1


def _uniform(inputs: int | np.ndarray) -> Initializer:
    """Return the initializer of appendix A: between -2.4 and 2.4 over the number of inputs of a unit."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -2.4, 2.4) / np.asarray(inputs, dtype)


class LeNet1998(Network):
    """C1, S2, C3, S4, C5, F6 and the output: 60,000 trainable parameters and 340,908 connections on a 32x32 image.

    Maps of C3 see some of S2's (table I), subsampling has a coefficient and a bias for each map, units are scaled tanh,
    and the output is the distance to a fixed picture of each digit. C5 is a convolution in the paper; on the 5x5 maps
    that S4 leaves it equals the dense layer that stands here.

    Args:
      image_size: side of the input in pixels, 16 or more.
      channels: channels of the input.
      classes: ten, the digits.
      dropout: probability of zeroing a unit of C5 and F6 in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from: uniform between -2.4 and 2.4 over the number of inputs of a unit
        (appendix A); biases begin at 0.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
      NetworkError: other than ten classes.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        channels: int = 1,
        classes: int = 10,
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if classes != len(CODES):
            raise NetworkError(
                f"LeNet-5 of 1998 answers with pictures of the ten digits, not with {classes} classes; "
                "its variant modern takes any number"
            )
        super().__init__((image_size, image_size, channels))

        def subsampling() -> Subsampling:
            return Subsampling(
                self.shape[-1], windows(2, stride=2), dtype=dtype, coefficient_init=_uniform(4), rngs=rngs
            )

        def dense(units: int) -> Dense:
            inputs = math.prod(self.shape)
            return Dense(inputs, units, dtype=dtype, kernel_init=_uniform(inputs), rngs=rngs)

        c1 = Convolution(channels, 6, windows(5), dtype=dtype, kernel_init=_uniform(25 * channels), rngs=rngs)
        self.add("C1", c1, activation="scaled_tanh")
        self.add("S2", subsampling(), activation="scaled_tanh")
        inputs = np.concatenate([[25 * len(seen)] * len(seen) for seen in _C3])
        c3 = PartialConvolution(_C3, 6, windows(5), dtype=dtype, kernel_init=_uniform(inputs), rngs=rngs)
        self.add("C3", c3, activation="scaled_tanh")
        self.add("S4", subsampling(), activation="scaled_tanh")
        self.add("C5", dense(120), activation="scaled_tanh")
        self.add("F6", Dropout(dropout), dense(84), activation="scaled_tanh")
        self.add("output", Dropout(dropout), RadialBasis(CODES))

    def log_probabilities(self, logits: jax.Array) -> jax.Array:
        """Return the logarithm of each digit's probability; the probabilities add up to less than 1.

        What is missing is that of no digit at all, at a constant distance: minus the logarithm of the true class's
        probability is the paper's loss (section II.C, equation 9).
        """
        with_rubbish = jnp.concatenate([logits, jnp.full_like(logits[:, :1], -_RUBBISH)], axis=1)
        return jax.nn.log_softmax(with_rubbish)[:, :-1]
