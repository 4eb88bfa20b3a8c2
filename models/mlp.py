"""The multilayer perceptron: what one would use if nobody had thought of convolution."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.layers import ACTIVATIONS, dropout


class MLP(nnx.Module):
    """Dense layers on the flattened image: every unit has a weight of its own for every pixel.

    Stages are hidden1, hidden2, ... and "output" for the logits. On 28x28 pixels hidden=(300, 100) is the net of
    LeCun et al. 1998, section III.C (28x28-300-100-10), with 266,610 parameters.

    Args:
      image_size: side of the input in pixels.
      channels: channels of the input.
      classes: number of logits.
      hidden: units of each hidden layer.
      activation: "relu" or "tanh".
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
        self.activation, self.dropout = activation, dropout
        widths = (image_size * image_size * channels, *hidden)
        self.hidden = nnx.List(
            nnx.Linear(inputs, units, dtype=dtype, rngs=rngs) for inputs, units in zip(widths, hidden, strict=False)
        )
        self.output = nnx.Linear(widths[-1], classes, dtype=dtype, rngs=rngs)

    def stages(self, x: jax.Array, *, key: jax.Array | None = None) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, activation) of each stage."""
        activate = ACTIVATIONS[self.activation]
        x = x.reshape(x.shape[0], -1)  # [B, H * W * C]
        for index, layer in enumerate(self.hidden):
            layer_key = None if key is None else jax.random.fold_in(key, index)
            x = dropout(activate(layer(x)), self.dropout, layer_key)
            yield f"hidden{index + 1}", x  # [B, hidden[index]]
        yield "output", self.output(x)  # [B, classes]

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of images `[B, H, W, C]`."""
        *_, (_, logits) = self.stages(x, key=key)
        return logits
