"""The arithmetic of convolution along one dimension: sizes, how often a pixel is used, receptive fields.

The formulas are those of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (arXiv 1603.07285);
the receptive field is that of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks"
(Distill 2019, doi:10.23915/distill.00021). A map of two dimensions takes two windows, a series one, a volume three.
"""

from dataclasses import dataclass
from typing import NamedTuple


class GeometryError(ValueError):
    """A map, a window or groups do not fit each other; names the sizes."""


@dataclass(frozen=True)
class Window:
    """A kernel or pooling window along one dimension of a map; all lengths in pixels.

    Attributes:
      size: f, how many pixels it looks at.
      stride: s, how far it moves from one output to the next.
      padding: pixels that are added (before, after) the map; p on both sides is (p, p), "valid" is (0, 0).
      dilation: distance between the pixels it looks at.
      ceil: let a last window begin inside the map that ends outside it, as Caffe does.
    """

    size: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    ceil: bool = False

    @classmethod
    def same(cls, length: int, size: int, stride: int = 1, dilation: int = 1, *, lower: bool = False) -> "Window":
        """Return the window whose padding makes ceil(length / stride) outputs.

        With an odd size and stride 1 that is (f - 1) / 2 on both sides. An odd pixel goes behind the map, or before it
        where `lower`.
        """
        outputs = -(-length // stride)
        total = max(0, (outputs - 1) * stride + (size - 1) * dilation + 1 - length)
        less, more = total // 2, total - total // 2
        return cls(size, stride, (more, less) if lower else (less, more), dilation)

    @property
    def extent(self) -> int:
        """Pixels from the first that it looks at to the last."""
        return (self.size - 1) * self.dilation + 1

    def outputs(self, length: int) -> int:
        """How many outputs a map of that length has: floor((n + 2p - f) / s) + 1, p being the same on both sides.

        With `ceil` the quotient is rounded up, unless the last window would begin in the padding behind the map. Where
        the window does not fit, 0.
        """
        room = length + sum(self.padding) - self.extent
        count = max(0, (room + (self.stride - 1) * self.ceil) // self.stride + 1)
        begins_behind = (count - 1) * self.stride >= length + self.padding[0]
        return count - (self.ceil and count > 0 and begins_behind)

    def places(self, output: int) -> range:
        """Return where an output looks, as pixels of the map; those before 0 and from `length` on are padding."""
        first = output * self.stride - self.padding[0]
        return range(first, first + self.extent, self.dilation)

    def counts(self, length: int, *, padding: bool = False) -> list[int]:
        """Return how many pixels of a map each output looks at; with `padding`, those of the padding count too.

        What a last window of `ceil` looks at beyond the padding never counts.
        """
        before, after = self.padding if padding else (0, 0)
        looked_at = range(-before, length + after)
        return [sum(place in looked_at for place in self.places(output)) for output in range(self.outputs(length))]

    def uses(self, length: int) -> list[int]:
        """Return how often each pixel of a map is looked at."""
        uses = [0] * length
        for output in range(self.outputs(length)):
            for place in self.places(output):
                if 0 <= place < length:
                    uses[place] += 1
        return uses


def sizes_until_none_fits(length: int, window: Window) -> list[int]:
    """Return the length of the map, and after each further application of the window, until it does not fit.

    Raises:
      GeometryError: it always fits.
    """
    sizes = [length]
    while outputs := window.outputs(sizes[-1]):
        if outputs >= sizes[-1]:
            raise GeometryError(f"a window of {window.size} makes {outputs} of {sizes[-1]} pixels: it always fits")
        sizes.append(outputs)
    return sizes


class ReceptiveField(NamedTuple):
    """What an output sees of the input along one dimension; all in the input's pixels.

    Attributes:
      size: from the first pixel that it sees to the last.
      stride: how far apart neighbouring outputs' fields begin.
      offset: where the first output's field begins; negative where it reaches into padding.
    """

    size: int = 1
    stride: int = 1
    offset: int = 0

    def behind(self, window: Window) -> "ReceptiveField":
        """Return the field of what a window makes of outputs with this field."""
        return ReceptiveField(
            self.size + (window.extent - 1) * self.stride,
            self.stride * window.stride,
            self.offset - window.padding[0] * self.stride,
        )

    def of_all(self, outputs: int) -> "ReceptiveField":
        """Return the field of what sees so many outputs at once."""
        return self.behind(Window(outputs))
