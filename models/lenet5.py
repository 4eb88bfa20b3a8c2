"""LeNet-5, after LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition"."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import output_size
from models.layers import ACTIVATIONS, dropout, pool


class LeNet5(nnx.Module):
    """The form taught today: every map of C3 sees all six of S2, and the head is a dense layer.

    The stages carry the paper's names (section II.B): C1, S2, C3, S4, C5, F6, and "output" for the logits. On a 32x32
    image with one channel and ten classes it has 156 + 2,416 + 48,120 + 10,164 + 850 = 61,706 parameters. C5 is a
    convolution in the paper; on the 5x5 maps that S4 leaves it equals the dense layer that stands here.

    Args:
      image_size: side of the input in pixels, 16 or more.
      channels: channels of the input.
      classes: number of logits.
      activation: "relu" or "tanh".
      pooling: "max" or "average".
      dropout: probability of zeroing a unit of C5 and F6 in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        channels: int = 1,
        classes: int = 10,
        activation: str = "relu",
        pooling: str = "max",
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        size = output_size("C1", image_size, 5)
        size = output_size("S2", size, 2, stride=2)
        size = output_size("C3", size, 5)
        size = output_size("S4", size, 2, stride=2)
        self.activation, self.pooling, self.dropout = activation, pooling, dropout
        self.c1 = nnx.Conv(channels, 6, (5, 5), padding="VALID", dtype=dtype, rngs=rngs)
        self.c3 = nnx.Conv(6, 16, (5, 5), padding="VALID", dtype=dtype, rngs=rngs)
        self.c5 = nnx.Linear(size * size * 16, 120, dtype=dtype, rngs=rngs)
        self.f6 = nnx.Linear(120, 84, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(84, classes, dtype=dtype, rngs=rngs)

    def stages(self, x: jax.Array, *, key: jax.Array | None = None) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, activation) of each stage; shapes are those of a 32x32 image."""
        activate = ACTIVATIONS[self.activation]
        keys = (None, None) if key is None else jax.random.split(key)
        for convolution, convolved, pooled in ((self.c1, "C1", "S2"), (self.c3, "C3", "S4")):
            maps = convolution(x)
            yield convolved, activate(maps)  # C1 [B, 28, 28, 6], C3 [B, 10, 10, 16]
            # A monotone activation commutes with the maximum, and after pooling there is a quarter left to activate.
            # Where nobody looks at C1 and C3 as yielded above, the compiler drops them.
            x = activate(pool(maps, 2, "max")) if self.pooling == "max" else pool(activate(maps), 2, "average")
            yield pooled, x  # S2 [B, 14, 14, 6], S4 [B, 5, 5, 16]
        x = x.reshape(x.shape[0], -1)  # [B, 400]
        x = dropout(activate(self.c5(x)), self.dropout, keys[0])
        yield "C5", x  # [B, 120]
        x = dropout(activate(self.f6(x)), self.dropout, keys[1])
        yield "F6", x  # [B, 84]
        yield "output", self.output(x)  # [B, classes]

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of images `[B, H, W, C]`."""
        *_, (_, logits) = self.stages(x, key=key)
        return logits
