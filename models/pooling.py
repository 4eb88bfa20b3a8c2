"""Pooling: the largest, the mean, or LeNet-5's trainable sum of each window; and the mean to a fixed size."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import ReceptiveField, Window
from models.geometry import Elementwise, Fields, Initializer, Shape, Sliding, Windows


@dataclass(frozen=True)
class MaxPool(Sliding):
    """The largest value of each window; what is added around the map never wins."""

    windows: Windows

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, *outputs, C]` of `[B, *spatial, C]`."""
        if _touch(self.windows):
            return _largest_of_tiles(_whole(x, self.windows), self.windows)
        around = [(0, 0), *_padding(x.shape, self.windows), (0, 0)]
        x = jnp.pad(x, around, constant_values=-jnp.inf)
        for axis, window in enumerate(self.windows, start=1):  # the largest of a window is the largest of its rows'
            x = _largest(x, window, axis)
        return x


@dataclass(frozen=True)
class AveragePool(Sliding):
    """The mean of each window: of its pixels in the map, and with `count_padding` of those in the padding too."""

    windows: Windows
    count_padding: bool = False

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, *outputs, C]` of `[B, *spatial, C]`."""
        if _touch(self.windows):
            return _tiles(x, self.windows).mean(axis=_inside(self.windows))
        counts = np.ones(())
        for window, length in zip(self.windows, x.shape[1:-1], strict=True):
            counts = np.multiply.outer(counts, window.counts(length, padding=self.count_padding))
        return _sums(x, self.windows) / jnp.asarray(counts[..., np.newaxis], x.dtype)


class Subsampling(nnx.Module, Sliding):
    """LeNet-5's: the sum of each window, times a coefficient of the map, plus a bias of the map.

    LeCun et al. 1998, section II.B.

    Args:
      channels: maps.
      windows: one for each spatial dimension.
      dtype: what it computes in.
      coefficient_init: initializer of the coefficients `[C]`.
      rngs: where the initial parameters come from; biases begin at 0.
    """

    def __init__(
        self, channels: int, windows: Windows, *, dtype: DTypeLike, coefficient_init: Initializer, rngs: nnx.Rngs
    ) -> None:
        self.windows, self.dtype = windows, dtype
        self.coefficient = nnx.Param(coefficient_init(rngs.params(), (channels,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((channels,), jnp.float32))

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, *outputs, C]` of `[B, *spatial, C]`."""
        total = AveragePool(self.windows)(x) * math.prod(window.size for window in self.windows)
        return total * self.coefficient[...].astype(self.dtype) + self.bias[...].astype(self.dtype)

    def macs(self, shape: Shape) -> int:
        """Return one for each output: the coefficient's."""
        return math.prod(self.output(shape))

    def connections(self, shape: Shape) -> int:
        """Return how many inputs, the bias among them, its outputs have together."""
        return super().connections(shape) + math.prod(self.output(shape))


def _touch(windows: Windows) -> bool:
    """Whether windows cover the map without overlap."""
    return all(window == Window(window.size, window.size) for window in windows)


def _tiles(x: jax.Array, windows: Windows) -> jax.Array:
    """Return `[B, H, h, W, w, C]` of `[B, H * h, W * w, C]`; what is left over at the far edges is dropped.

    XLA reduces an axis at once, where the gradient of its general window reduction has to search each window again:
    LeNet-5's training step on a CPU took 1.8 times as long with it. Where several pixels of a window share the maximum,
    they share its gradient in equal parts.
    """
    x = _whole(x, windows)
    sides = [
        side
        for window, length in zip(windows, x.shape[1:-1], strict=True)
        for side in (length // window.size, window.size)
    ]
    return x.reshape(x.shape[0], *sides, x.shape[-1])


def _whole(x: jax.Array, windows: Windows) -> jax.Array:
    """Return `[B, *spatial, C]` without what touching windows leave over at the far edges."""
    return x[:, *(slice(length - length % window.size) for window, length in zip(windows, x.shape[1:-1], strict=True))]


def _inside(windows: Windows) -> tuple[int, ...]:
    """Return which axes of `_tiles` lie inside a window."""
    return tuple(range(2, 2 + 2 * len(windows), 2))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest_of_tiles(x: jax.Array, windows: Windows) -> jax.Array:
    """Return the largest value of each of the touching windows that cover maps. There is no forward mode (jax.jvp)."""
    # Compared in float32 at least: XLA:CPU rounds to bfloat16 at each step.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return _tiles(wide, windows).max(axis=_inside(windows)).astype(x.dtype)


# What it computes is jax's own gradient; jitted, it is one equation, whose name tells others what it is (train/onednn).
@functools.partial(jax.jit, static_argnums=3)
def shared_out(x: jax.Array, largest: jax.Array, gradient: jax.Array, windows: Windows) -> jax.Array:
    """Return the gradient of maps from that of the largest value of each of the touching windows that cover them.

    Args:
      x: the maps, `[B, H * h, W * w, C]`.
      largest: of each window, `[B, H, W, C]`.
      gradient: with respect to it.
      windows: h x w pixels; those that share the maximum of a window share its gradient in equal parts.
    """
    inside, dtype = _inside(windows), jnp.promote_types(x.dtype, jnp.float32)
    equal = _tiles(x.astype(dtype), windows) == jnp.expand_dims(largest.astype(dtype), inside)
    shares = gradient.astype(dtype) / equal.sum(axis=inside, dtype=dtype)
    return jnp.where(equal, jnp.expand_dims(shares, inside), 0).reshape(x.shape).astype(x.dtype)


def _largest_of_tiles_forward(x: jax.Array, windows: Windows) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    largest = _largest_of_tiles(x, windows)
    return largest, (x, largest)


_largest_of_tiles.defvjp(
    _largest_of_tiles_forward,
    lambda windows, kept, gradient: (shared_out(*kept, gradient, windows),),
)


def _padding(shape: Shape, windows: Windows) -> list[tuple[int, int]]:
    """Return (before, after) for each spatial dimension of `[B, *spatial, C]`.

    Behind a map with `ceil` there is as much as its last window needs: perhaps more than the padding, or less, where a
    window that begins there would fit into it.
    """
    padding = []
    for window, length in zip(windows, shape[1:-1], strict=True):
        end = window.places(window.outputs(length) - 1).stop
        padding.append((window.padding[0], max(0 if window.ceil else window.padding[1], end - length)))
    return padding


def _sums(x: jax.Array, windows: Windows) -> jax.Array:
    """Add up each window of `[B, *spatial, C]`."""
    return jax.lax.reduce_window(
        x,
        np.zeros((), x.dtype),
        jax.lax.add,
        (1, *(window.size for window in windows), 1),
        (1, *(window.stride for window in windows), 1),
        [(0, 0), *_padding(x.shape, windows), (0, 0)],
        window_dilation=(1, *(window.dilation for window in windows), 1),
    )


# XLA's general window reduction searches each window again for the gradient, on a CPU with an index for each dimension
# of each pixel: of AlexNet's pool1, 64 images, 403 ms and five times the map's memory. This takes 50 ms and two maps.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _largest(x: jax.Array, window: Window, axis: int) -> jax.Array:
    """Return the largest value of each window along an axis of padded maps.

    Several that are largest along an axis share their gradient. There is no forward mode (jax.jvp).
    """
    return functools.reduce(jnp.maximum, _at_each_place(x, window, axis))


def _at_each_place(x: jax.Array, window: Window, axis: int) -> list[jax.Array]:
    """Return for each place in a window what stands there, in all windows along an axis of padded maps."""
    last = ((x.shape[axis] - window.extent) // window.stride) * window.stride
    return [
        jax.lax.slice_in_dim(x, first, first + last + 1, window.stride, axis)
        for first in range(0, window.extent, window.dilation)
    ]


def _largest_forward(x: jax.Array, window: Window, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    largest = _largest(x, window, axis)
    return largest, (x, largest)


def _largest_backward(
    window: Window, axis: int, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    dtype = gradient.dtype
    # In float32 at least, rounded once: XLA:CPU takes 7 to 9 times as long to round each sum to bfloat16.
    x, largest, gradient = (array.astype(jnp.promote_types(dtype, jnp.float32)) for array in (*kept, gradient))
    gradient /= sum((there == largest).astype(gradient.dtype) for there in _at_each_place(x, window, axis))
    total = jnp.zeros_like(x)
    covered = (largest.shape[axis] - 1) * window.stride + 1
    for first in range(0, window.extent, window.dilation):
        # Lay the outputs over the pixels that this place of their windows looks at, with gaps of the stride.
        gaps = [(0, 0, 0)] * x.ndim
        gaps[axis] = (first, x.shape[axis] - first - covered, window.stride - 1)
        over = jax.lax.pad(largest, np.array(np.inf, x.dtype), gaps)
        total += jnp.where(x == over, jax.lax.pad(gradient, np.array(0, x.dtype), gaps), 0)
    return (total.astype(dtype),)


_largest.defvjp(_largest_forward, _largest_backward)


@dataclass(frozen=True)
class AdaptiveAveragePool(Elementwise):
    """Average the maps into maps of one size, as torch's AdaptiveAvgPool does.

    Row i of the result is the mean of the rows floor(i * H / size) to ceil((i + 1) * H / size), columns likewise. Maps
    smaller than `size` are repeated; maps of that size come back as they are.

    Attributes:
      size: of each side, in pixels.
    """

    size: int

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, size, size, C]` of `[B, H, W, C]`."""
        for axis, length in enumerate(x.shape[1:-1], start=1):
            if length != self.size:
                x = jnp.moveaxis(jnp.tensordot(x, jnp.asarray(self.shares(length), x.dtype), (axis, 1)), -1, axis)
        return x

    def shares(self, length: int) -> np.ndarray:
        """Of each row that comes in (columns) in each that goes out (rows)."""
        places, index = np.arange(length), np.arange(self.size)[:, np.newaxis]
        within = (places >= index * length // self.size) & (places < -((index + 1) * length // -self.size))
        return within / within.sum(axis=1, keepdims=True)

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (*[self.size] * (len(shape) - 1), shape[-1])

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive fields of its outputs: those of its inputs where the size is theirs already.

        Otherwise its windows differ in size and distance; each output then counts as seeing all, which is what the
        dense layer behind it sees.
        """
        if self.output(shape) == shape:
            return fields
        every = [field.of_all(side) for field, side in zip(fields, shape, strict=False)]
        return tuple(ReceptiveField(field.size, 0, field.offset) for field in every)

    def connections(self, shape: Shape) -> int:
        """Return how many inputs its outputs have together; none where it has nothing to do."""
        if self.output(shape) == shape:
            return 0
        *sides, channels = shape
        return channels * math.prod(int((self.shares(side) > 0).sum()) for side in sides)
