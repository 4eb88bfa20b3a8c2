"""Layers that the networks share and Flax does not have in this form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# All of them are monotone: LeNet5.stages relies on it.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}
POOLINGS = ("max", "average")


def pool(x: jax.Array, window: int, kind: str) -> jax.Array:
    """Pool over windows that touch but do not overlap; what is left over at the far edges is dropped.

    Without overlap a window is an axis of a reshaped array. XLA reduces that at once, where the gradient of its
    general window reduction has to search each window again: LeNet-5's training step on a CPU took 1.8 times as
    long with it. Where several pixels of a window share the maximum, they share its gradient in equal parts.

    Args:
      x: maps, `[B, H, W, C]`.
      window: side of the window and stride, in pixels.
      kind: "max" or "average".

    Returns:
      `[B, H // window, W // window, C]`.
    """
    batch, height, width, channels = x.shape
    height, width = height // window, width // window
    x = x[:, : height * window, : width * window]
    x = x.reshape(batch, height, window, width, window, channels)
    return x.max(axis=(2, 4)) if kind == "max" else x.mean(axis=(2, 4))


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Average the maps `[B, H, W, C]` into `[B, size, size, C]`, as torch's AdaptiveAvgPool2d does.

    Row i of the result is the mean of the rows floor(i * H / size) to ceil((i + 1) * H / size), columns likewise. Maps
    smaller than `size` are repeated; maps of that size come back as they are.
    """

    def shares(length: int) -> jax.Array:
        """Of each row that comes in (columns) in each that goes out (rows)."""
        places, index = np.arange(length), np.arange(size)[:, np.newaxis]
        within = (places >= index * length // size) & (places < -((index + 1) * length // -size))
        return jnp.asarray(within / within.sum(axis=1, keepdims=True), x.dtype)

    _, height, width, _ = x.shape
    if (height, width) == (size, size):
        return x
    return jnp.einsum("bhwc,ih,jw->bijc", x, shares(height), shares(width))


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero each value with probability `rate` and scale the rest by 1 / (1 - rate); without a key, return x."""
    return nnx.Dropout(rate)(x, deterministic=key is None, rngs=key)
