"""The worked examples of the lecture, in numbers, computed by the layers that the networks are made of."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.arithmetic import Window, sizes_until_none_fits
from models.geometry import Layer, windows
from models.layers import ACTIVATIONS, Convolution
from models.pooling import AveragePool, MaxPool

# Of the lecture, after Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (arXiv 1603.07285).
INPUT = np.array([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]], np.float32)
FILTER = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]], np.float32)


class Example(NamedTuple):
    """A worked example.

    Attributes:
      title: what it shows.
      input: a matrix, several by name, or numbers by name.
      filter: the same; None where there is none.
      output: what comes out, the same.
      panels: (name, matrix) of what a picture of it shows, in order.
      steps: what happens at each position, one after the other.
      notes: what to learn from it.
    """

    title: str
    input: Any
    filter: Any
    output: Any
    panels: list[tuple[str, np.ndarray]]
    steps: list[str]
    notes: list[str]


def number(value: float | np.number) -> str:
    """Write a number as a lecturer does: 12, 1.7."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _slide(layer: Layer, matrix: np.ndarray) -> np.ndarray:
    """Return what a layer with one channel makes of a matrix."""
    return np.asarray(layer(jnp.asarray(matrix, jnp.float32)[np.newaxis, ..., np.newaxis])[0, ..., 0])


def convolve(matrix: np.ndarray, kernel: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Slide a square kernel over a matrix."""
    layer = Convolution(1, 1, windows(len(kernel), stride, padding), use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(kernel, jnp.float32)[..., np.newaxis, np.newaxis]
    return _slide(layer, matrix)


def _positions(matrix: np.ndarray, window: Window) -> Iterator[tuple[str, list[float]]]:
    """Yield (position, the values that the window looks at there, row by row); padding is 0."""
    length = len(matrix)
    padded = np.pad(matrix, window.padding)
    first = window.padding[0]
    for row in range(window.outputs(length)):
        for column in range(window.outputs(length)):
            seen = padded[np.ix_(*([place + first for place in window.places(at)] for at in (row, column)))]
            yield f"row {row + 1}, column {column + 1}", seen.ravel().tolist()


def _products(matrix: np.ndarray, window: Window, output: np.ndarray) -> list[str]:
    steps = []
    for (where, seen), value in zip(_positions(matrix, window), output.ravel(), strict=True):
        terms = " + ".join(f"{number(pixel)}*{number(w)}" for pixel, w in zip(seen, FILTER.ravel(), strict=True))
        steps.append(f"{where}: {terms} = {number(value)}")
    return steps


def _filtered(title: str, stride: int, padding: int, notes: list[str]) -> Example:
    output = convolve(INPUT, FILTER, stride, padding)
    panels = [("input", INPUT), ("filter", FILTER)]
    if padding:
        panels.insert(1, (f"padded by {padding}", np.pad(INPUT, padding)))
    if stride > 1:
        panels.append(("output, stride 1", convolve(INPUT, FILTER, 1, padding)))
    panels.append((f"output, stride {stride}" if stride > 1 else "output", output))
    steps = _products(INPUT, Window(3, stride, (padding, padding)), output)
    return Example(title, INPUT, FILTER, output, panels, steps, notes)


def _filter() -> Example:
    title = "A 3x3 filter slides over 5x5 pixels; each output is a sum of products"
    return _filtered(title, 1, 0, ["n x n pixels under an f x f filter leave n - f + 1 a side: 5 - 3 + 1 = 3."])


def _padding() -> Example:
    notes = [
        "With p pixels of padding n + 2p - f + 1 are left: 5 + 2 - 3 + 1 = 5, as many as came in.",
        'That is "same" padding: p = (f - 1) / 2. The lecture then keeps every other output (stride 2).',
    ]
    return _filtered("A border of zeros keeps the size; then stride 2", 2, 1, notes)


def _stride() -> Example:
    notes = ["With stride s floor((n + 2p - f) / s) + 1 are left: floor((5 + 2 - 3) / 2) + 1 = 3."]
    return _filtered("With stride 2 the filter skips every other position; padding 1", 2, 1, notes)


def _pooled(title: str, pool: Layer, step: Callable[[str, str], str]) -> Example:
    output = _slide(pool, INPUT)
    steps = [
        f"{where}: {step(', '.join(map(number, seen)), ' + '.join(map(number, seen)))} = {number(value)}"
        for (where, seen), value in zip(_positions(INPUT, Window(3)), output.ravel(), strict=True)
    ]
    note = "Pooling has no parameters. Its output size follows the same formula as a filter's."
    return Example(title, INPUT, None, output, [("input", INPUT), ("output, 3x3", output)], steps, [note])


def _max_pool() -> Example:
    title = "Max pooling, 3x3, stride 1: the largest value of each window"
    return _pooled(title, MaxPool(windows(3)), lambda listed, added: f"max({listed})")


def _average_pool() -> Example:
    title = "Average pooling, 3x3, stride 1: the mean of each window"
    return _pooled(title, AveragePool(windows(3)), lambda listed, added: f"({added}) / 9")


def _channels() -> Example:
    image = {"red": INPUT, "green": INPUT.T, "blue": INPUT[::-1]}
    kernels = {"red": FILTER, "green": FILTER.T, "blue": FILTER[:, ::-1]}
    maps = {name: convolve(plane, kernels[name]) for name, plane in image.items()}
    total = np.sum(list(maps.values()), axis=0)
    panels = [
        panel
        for name in image
        for panel in ((f"input, {name}", image[name]), (f"filter, {name}", kernels[name]), (name, maps[name]))
    ]
    steps = [
        f"row {row + 1}, column {column + 1}: "
        + " + ".join(number(plane.item(row, column)) for plane in maps.values())
        + f" = {number(total.item(row, column))}"
        for row, column in np.ndindex(total.shape)
    ]
    notes = [
        "One filter for an image of three channels is 3x3x3: 27 weights. Its three maps are added into one.",
        "Green and blue are made of the red plane and filter here: turned, and mirrored.",
    ]
    title = "Three channels: a filter has a slice for each, and the results are added"
    return Example(title, image, kernels, total, [*panels, ("sum, 3x3x1", total)], steps, notes)


def _nonlinearity() -> Example:
    maps, bias = convolve(INPUT, FILTER), -12.0
    output = np.asarray(ACTIVATIONS["relu"](jnp.asarray(maps + bias)))
    values = zip(_positions(maps, Window(1)), maps.ravel().tolist(), output.ravel().tolist(), strict=True)
    steps = [f"{where}: g({number(before)} - 12) = {number(after)}" for (where, _), before, after in values]
    panels = [("input", INPUT), ("filter", FILTER), ("convolved", maps), ("g(. + b), b = -12", output)]
    notes = ["One bias b for the whole map, then g at each position: g(. + b). Here g is ReLU, the larger of 0 and x."]
    return Example("A bias and a non-linearity follow", INPUT, FILTER, output, panels, steps, notes)


def _shrink() -> Example:
    sizes = sizes_until_none_fits(32, Window(5))
    steps = [f"{size} - 5 + 1 = {after}" for size, after in itertools.pairwise(sizes)]
    notes = [
        f"{len(steps)} convolutions leave {sizes[-1]}x{sizes[-1]}, and a 5x5 filter does not fit any more: "
        "1x1 is never reached. It would be from 29 pixels, after 7, or 33, after 8.",
        "Without padding a network cannot go deep: each 5x5 filter takes 4 pixels a side.",
    ]
    title = "How often can a 5x5 filter be applied to 32x32 pixels?"
    return Example(title, {"size": 32}, {"size": 5}, sizes, [], steps, notes)


def _usage() -> Example:
    uses = [np.multiply.outer(*[Window(3, 1, (padding, padding)).uses(5)] * 2) for padding in (0, 1)]
    notes = [
        f"Without padding the corner is used {uses[0][0, 0]} time, the middle {uses[0][2, 2]} times: "
        "what stands at the edge hardly counts.",
        f"With padding 1 the corner is used {uses[1][0, 0]} times.",
    ]
    panels = [("input", INPUT), ("uses", uses[0]), ("uses with padding 1", uses[1])]
    steps = [f"row {row + 1}: {', '.join(map(number, line))}" for row, line in enumerate(uses[0])]
    title = "In how many outputs of a 3x3 filter does each of 5x5 pixels take part?"
    return Example(title, INPUT, {"size": 3}, uses[0], panels, steps, notes)


def _mlp() -> Example:
    pixels, channels, hidden = 108_000_000, 3, 100
    weights = pixels * channels * hidden
    few = Convolution(channels, hidden, windows(5), rngs=nnx.Rngs(0))
    shared = int(np.prod(few.kernel_shape)) + hidden
    steps = [
        f"inputs: {pixels:,} pixels * {channels} channels = {pixels * channels:,}",
        f"weights: {pixels * channels:,} inputs * {hidden} units = {weights:,}, and {hidden} biases",
        f"memory: {weights:,} weights * 4 bytes (float32) = {4 * weights:,} bytes = {4 * weights / 1e9:.1f} GB",
        f"beside it, {hidden} filters of 5x5x{channels}: {shared:,} weights and biases, whatever the size of the photo",
    ]
    notes = [
        "An ear at the left and the same ear at the right meet different weights: a perceptron learns it twice.",
        "A perceptron takes all inputs for independent; a filter looks at neighbours together.",
    ]
    title = "One hidden layer of 100 units on a photo of 108 megapixels"
    output = {"weights": weights, "biases": hidden, "bytes": 4 * weights}
    return Example(title, {"pixels": pixels, "channels": channels, "units": hidden}, None, output, [], steps, notes)


EXAMPLES: Mapping[str, Callable[[], Example]] = {
    "filter": _filter,
    "padding": _padding,
    "stride": _stride,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "channels": _channels,
    "nonlinearity": _nonlinearity,
    "shrink": _shrink,
    "usage": _usage,
    "mlp": _mlp,
}
