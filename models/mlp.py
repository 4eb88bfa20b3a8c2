"""The multilayer perceptron: what one would use if nobody had thought of convolution."""

import math

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.layers import Dense, Dropout
from models.network import Network


class MLP(Network):
    """Dense layers on the flattened image: every unit has a weight of its own for every pixel.

    Stages are hidden1, hidden2, ... and "output" for the logits. On 28x28 pixels hidden=(300, 100) is the net of
    LeCun et al. 1998, section III.C (28x28-300-100-10), with 266,610 parameters.

    Args:
      image_size: side of the input in pixels.
      channels: channels of the input.
      classes: number of logits.
      hidden: units of each hidden layer.
      activation: a key of `ACTIVATIONS`.
      dropout: probability of zeroing a hidden unit in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from.
    """

    def __init__(
        self,
        *,
        image_size: int = 28,
        channels: int = 1,
        classes: int = 10,
        hidden: tuple[int, ...] = (300, 100),
        activation: str = "relu",
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__((image_size, image_size, channels))
        for number, units in enumerate((*hidden, classes), start=1):
            last = number > len(hidden)
            self.add(
                "output" if last else f"hidden{number}",
                *((Dropout(dropout),) if number > 1 else ()),  # of the hidden layer before
                Dense(math.prod(self.shape), units, dtype=dtype, rngs=rngs),
                activation="identity" if last else activation,
            )
