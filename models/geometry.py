"""What a layer says about itself: the shape it makes, what its outputs see, its multiply-accumulates and connections.

Shapes are those of one example, `(*spatial, C)` or `(C,)`, without the batch.
"""

import math
from collections.abc import Callable
from typing import Protocol

import jax

from models.arithmetic import GeometryError, ReceptiveField, Window

Shape = tuple[int, ...]
Windows = tuple[Window, ...]
Fields = tuple[ReceptiveField, ...]
Initializer = Callable[..., jax.Array]


class Layer(Protocol):
    """What a stage is made of."""

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return what the layer makes of a batch `[B, *spatial, C]`; with a key, in training."""
        ...

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example; raises GeometryError where it cannot."""
        ...

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive fields of its outputs along each dimension of the image, from those of its inputs."""
        ...

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates of an example, by the formula: those with padding count too."""
        ...

    def connections(self, shape: Shape) -> int:
        """Return how many inputs, biases among them, its outputs have together, as LeCun et al. 1998 count."""
        ...


class Elementwise:
    """A layer that leaves the shape as it is, and multiplies nothing that counts."""

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example."""
        return shape

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive fields of its outputs."""
        return fields

    def macs(self, shape: Shape) -> int:
        """Return 0."""
        return 0

    def connections(self, shape: Shape) -> int:
        """Return 0."""
        return 0


def windows(size: int, stride: int = 1, padding: int = 0, *, dimensions: int = 2, ceil: bool = False) -> Windows:
    """Return the same window for each spatial dimension; the padding, in pixels, is on both sides."""
    return (Window(size, stride, (padding, padding), ceil=ceil),) * dimensions


def by(sides: Shape) -> str:
    """Write sides as people do: 3x3."""
    return "x".join(map(str, sides))


class Sliding:
    """A layer that looks at each place of a map through a window.

    Attributes:
      windows: one for each spatial dimension.
    """

    windows: Windows

    def positions(self, shape: Shape) -> Shape:
        """Return how many outputs there are along each spatial dimension of maps `[*spatial, C]`.

        Raises:
          GeometryError: none along one of them; names the sizes on both sides.
        """
        *sides, _ = shape
        outputs = tuple(window.outputs(side) for window, side in zip(self.windows, sides, strict=True))
        if not all(outputs):
            first = self.windows[0]
            padded = f" padded by {'+'.join(map(str, first.padding))}" if any(first.padding) else ""
            window = by(tuple(window.extent for window in self.windows))
            raise GeometryError(f"a {window} window makes {by(outputs)} of a {by(tuple(sides))} map{padded}")
        return outputs

    def output(self, shape: Shape) -> Shape:
        """Return the shape that it makes of an example; this one keeps the channels."""
        return (*self.positions(shape), shape[-1])

    def fields(self, shape: Shape, fields: Fields) -> Fields:
        """Return the receptive fields of its outputs, from those of its inputs."""
        return tuple(field.behind(window) for field, window in zip(fields, self.windows, strict=True))

    def macs(self, shape: Shape) -> int:
        """Return the multiply-accumulates of an example: none, for the largest value or a mean takes no product."""
        return 0

    def connections(self, shape: Shape) -> int:
        """Return how many inputs its outputs have together."""
        return math.prod(self.output(shape)) * math.prod(window.size for window in self.windows)
