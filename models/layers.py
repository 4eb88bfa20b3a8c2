"""The layers with products, and those that work on each value or each pixel; pooling stands in pooling.py.

A layer is called with maps `[B, *spatial, C]` (or `[B, C]`) and the key of a training call, or None. Each knows its own
arithmetic (see geometry.py). Those with parameters are Flax modules, the others plain values.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import GeometryError, ReceptiveField
from models.geometry import Elementwise, Fields, Initializer, Shape, Sliding, Windows

# All of them are monotone: Network.stages relies on it.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    # LeCun et al. 1998, appendix A: f(1) = 1 and f(-1) = -1.
    "scaled_tanh": lambda x: 1.7159 * jnp.tanh(2 / 3 * x),
}


# Of kernels; biases begin at 0.
INITS: dict[str, Initializer] = {
    # LeCun, Bottou, Orr and Mueller 1998, "Efficient BackProp", section 4.6: keeps the variance through linear layers.
    "lecun": nnx.initializers.lecun_normal(),
    # Glorot and Bengio 2010, which VGG's paper advises in the end (section 3.1): deep nets then need no net A before.
    "glorot": nnx.initializers.glorot_uniform(),
    # As VGG's section 3.1 has it: N(0, 0.01), 0.01 being the variance. Too much: net A's first logits are near 10^6.
    "gaussian": nnx.initializers.normal(0.1),
    # He et al. 2015, arXiv 1502.01852: keeps the variance through rectified layers.
    "he": nnx.initializers.he_normal(),
    # As torch begins: up to 1 over the square root of the number of inputs, a third of LeCun's variance.
    "torch": nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}


class Convolution(nnx.Conv, Sliding):
    """A convolution, in groups perhaps, of maps with as many dimensions as it has windows.

    Args:
      channels: that come in.
      width: channels that go out.
      windows: one for each spatial dimension.
      groups: parts of the channels that see each other alone.
      rngs: where the initial parameters come from.
      more: nnx.Conv's dtype, use_bias, kernel_init, bias_init.

    Raises:
      GeometryError: groups do not divide the channels.
    """

    def __init__(
        self, channels: int, width: int, windows: Windows, *, groups: int = 1, rngs: nnx.Rngs, **more: Any
    ) -> None:
        for number, which in ((channels, "that come in"), (width, "that go out")):
            if number % groups:
                raise GeometryError(f"{groups} groups do not divide the {number} channels {which}")
        self.windows = windows
        super().__init__(
            channels,
            width,
            tuple(window.size for window in windows),
            tuple(window.stride for window in windows),
            padding=tuple(window.padding for window in windows),
            kernel_dilation=tuple(window.dilation for window in windows),
            feature_group_count=groups,
            conv_general_dilated=_group_by_group,
            rngs=rngs,
            **more,
        )

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return maps `[B, *outputs, width]` of `[B, *spatial, channels]`."""
        return super().__call__(x)

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (*self.positions(shape), self.out_features)

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates of an example, by the formula: those with padding count too."""
        return math.prod(self.positions(shape)) * math.prod(self.kernel_shape)

    def connections(self, shape: Shape) -> int:
        """Return how many inputs, the bias among them, its outputs have together."""
        return self.macs(shape) + math.prod(self.output(shape)) * self.use_bias


def _group_by_group(
    x: jax.Array, kernel: jax.Array, *arguments: Any, feature_group_count: int, **more: Any
) -> jax.Array:
    """Do what jax.lax.conv_general_dilated does, with a convolution for each group.

    XLA's gradient of one grouped convolution takes 3 to 6 times as long on a CPU: of AlexNet's conv2, 32 images, 1.82 s
    against 0.30 s.
    """
    channels, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (x, kernel))
    parts = [jax.lax.conv_general_dilated(*pair, *arguments, **more) for pair in zip(channels, kernels, strict=True)]
    return jnp.concatenate(parts, axis=-1)


class PartialConvolution(nnx.Module, Sliding):
    """A convolution whose outputs see some of the inputs each, by a table; kernels of other pairs do not exist.

    Args:
      table: of each output map, which input maps it sees.
      channels: that come in.
      windows: one for each spatial dimension.
      dtype: what it computes in.
      kernel_init: initializer of the kernels `[*window, pairs]`.
      rngs: where the initial parameters come from; biases begin at 0.
    """

    def __init__(
        self,
        table: Sequence[Sequence[int]],
        channels: int,
        windows: Windows,
        *,
        dtype: DTypeLike,
        kernel_init: Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        self.windows, self.channels, self.width, self.dtype = windows, channels, len(table), dtype
        self.pairs = tuple((seen, out) for out, row in enumerate(table) for seen in row)
        sides = tuple(window.size for window in windows)
        self.kernel = nnx.Param(kernel_init(rngs.params(), (*sides, len(self.pairs)), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((self.width,), jnp.float32))

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return maps `[B, H, W, outputs]` of `[B, H, W, channels]`."""
        # One convolution with zeros where the table has no pair: sixteen small ones take longer.
        seen, out = np.array(self.pairs).T
        kernel = self.kernel[...].astype(self.dtype)
        full = jnp.zeros((*kernel.shape[:-1], self.channels, self.width), self.dtype).at[..., seen, out].set(kernel)
        maps = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            full,
            [window.stride for window in self.windows],
            [window.padding for window in self.windows],
            rhs_dilation=[window.dilation for window in self.windows],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return maps + self.bias[...].astype(self.dtype)

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (*self.positions(shape), self.width)

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates of the pairs that exist."""
        return math.prod(self.positions(shape)) * math.prod(self.kernel.shape)

    def connections(self, shape: Shape) -> int:
        """Return how many inputs, the bias among them, its outputs have together."""
        return self.macs(shape) + math.prod(self.output(shape))


class Dense(nnx.Linear):
    """A dense layer on flattened maps: `[B, *]` becomes `[B, width]`."""

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, width]` of `[B, *]`."""
        return super().__call__(x.reshape(x.shape[0], -1))

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (self.out_features,)

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive fields of its outputs: each sees all."""
        *sides, _ = shape
        return tuple(map(lambda field, side: field.of_all(side), fields, sides)) if sides else fields

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates of an example."""
        return self.in_features * self.out_features

    def connections(self, shape: Shape) -> int:
        """Return how many inputs, the bias among them, its outputs have together."""
        return self.macs(shape) + self.out_features


@dataclass(frozen=True)
class RadialBasis(Elementwise):
    """Minus the squared distance of `[B, F]` to each of the fixed codes, so that the nearest has the largest logit.

    LeCun et al. 1998, equation 7, but for the sign.

    Attributes:
      codes: of each class, F numbers.
    """

    codes: tuple[tuple[int, ...], ...]

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of `[B, F]`."""
        # In float32 whatever comes in: the small difference of two large distances decides.
        return -jnp.square(x.astype(jnp.float32)[:, np.newaxis] - np.array(self.codes, np.float32)).sum(-1)

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (len(self.codes),)

    def macs(self, shape: Shape) -> int:
        """Return one for each number of each code: a square, added."""
        return len(self.codes) * shape[-1]

    def connections(self, shape: Shape) -> int:
        """Return how many inputs its outputs have together."""
        return self.macs(shape)


class BatchNorm(nnx.BatchNorm, Elementwise):
    """Batch normalisation; in training it uses and records the batch's statistics."""

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:  # type: ignore[override]
        """Return `[B, *spatial, C]` of the same; with a key, by the batch's own mean and variance."""
        return super().__call__(x, use_running_average=key is None)


@dataclass(frozen=True)
class LocalResponseNorm(Elementwise):
    """Divide each value by (k + alpha * the sum of squares over neighbouring channels) ** beta.

    Krizhevsky et al. 2012, section 3.3. Caffe, ONNX and torch divide alpha by the number of neighbours: for theirs,
    give alpha / size.

    Attributes:
      size: n, how many channels are neighbours, the value's own in the middle.
      alpha: as above.
      beta: as above.
      k: as above.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, *spatial, C]` of the same."""
        return _divide(x, self).astype(x.dtype)

    def scale(self, x: jax.Array) -> jax.Array:
        """Return the sums that are raised to -beta, in float32 at least."""
        squares = jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        return self.k + self.alpha * self._sum(squares, self._before)

    def _sum(self, x: jax.Array, before: int) -> jax.Array:
        """Add to each channel `before` channels before it, and as many behind as make `size`."""
        around = [(0, 0)] * (x.ndim - 1) + [(before, self.size - 1 - before)]
        ones = (1,) * (x.ndim - 1)
        return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, (*ones, self.size), (*ones, 1), around)

    @property
    def _before(self) -> int:
        return (self.size - 1) // 2

    def gradient(self, x: jax.Array, gradient: jax.Array) -> jax.Array:
        """Return the gradient with respect to x, of that with respect to the result."""
        scale = self.scale(x)
        direct = gradient * jnp.exp(-self.beta * jnp.log(scale))
        # Whoever is a neighbour of x has x as a neighbour: the window is mirrored.
        through_sums = self._sum(direct * x / scale, self.size - 1 - self._before)
        return direct - 2 * self.alpha * self.beta * x * through_sums


# With a gradient of its own: jax's takes twice the time on a CPU. exp(log) is faster than a power.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _divide(x: jax.Array, norm: LocalResponseNorm) -> jax.Array:
    return x * jnp.exp(-norm.beta * jnp.log(norm.scale(x)))


_divide.defvjp(
    lambda x, norm: (_divide(x, norm), x),
    lambda norm, x, gradient: (norm.gradient(x, gradient).astype(x.dtype),),
)


@dataclass(frozen=True)
class Dropout(Elementwise):
    """Zero each value with probability `rate` in training, and scale the rest by 1 / (1 - rate).

    Attributes:
      rate: 0 or more, below 1.
    """

    rate: float

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return x; with a key, with values dropped."""
        return nnx.Dropout(self.rate)(x, deterministic=key is None, rngs=key)


@dataclass(frozen=True)
class Series(Elementwise):
    """Read an image `[B, H, W, C]` row by row, as a series `[B, H * W, C]`."""

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return `[B, H * W, C]` of `[B, H, W, C]`."""
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return (math.prod(shape[:-1]), shape[-1])

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive field of a value: itself. From here on fields are those along the series."""
        return (ReceptiveField(),)
