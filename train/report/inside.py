"""What is inside a trained network: its first filters, what stages make of one image, and units that say nothing."""

import math
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from train.answers import PIXELS, Answers
from train.data.transforms import normalise, pixel_order
from train.network import Described
from train.pages import drawing
from train.pages.drawing import NewFigure

# Filters and maps that are drawn at most: AlexNet has 64 filters in its first layer, or 96; of maps, one row a stage.
_FILTERS, _MAPS = 96, 12
# Perceptrons see through as many weights as there are pixels; these many of their units are drawn.
_UNITS = 40


@dataclass(frozen=True)
class Silence:
    """Units of a stage that say the same of every image.

    Attributes:
      stage: its name.
      units: how many there are; of maps, channels.
      silent: the numbers of those whose activation never changes, int64 `[M]`.
    """

    stage: str
    units: int
    silent: np.ndarray


def silence(answers: Answers) -> list[Silence]:
    """Return the silent units of each hidden stage. Of a ReLU they are the dead ones: 0 for every image."""
    *hidden, _ = answers.extremes.items()
    return [Silence(name, least.size, np.flatnonzero(least == most)) for name, (least, most) in hidden]


def filters(described: Described, config: ConfigDict) -> list[np.ndarray]:
    """Return the kernels of the first layer as pictures, `[H, W, C]` with C of 1 or 3, any numbers, RGB.

    A perceptron's first weights are laid out as the image is, whatever order it sees the pixels in. Of many, the first.
    """
    _, params, _ = described
    first = nnx.merge(*described).plan[0].name
    kernel = np.asarray(params[first]["kernel"], np.float32)
    side, channels = config.dataset.image_size, config.dataset.channels
    if kernel.ndim == 2:
        kernel = kernel.reshape(side * side, channels, -1)[..., :_UNITS]
        if config.dataset.permutation is not None:
            order = pixel_order(config.dataset.permutation, side * side)
            kernel = kernel[np.argsort(order)]
        kernel = kernel.reshape(side, side, channels, -1)
    elif kernel.ndim == 3:  # of a series: [size, in, out], a column for each input
        kernel = kernel[:, :, np.newaxis]
    pictures = np.moveaxis(kernel, -1, 0)[:_FILTERS]
    if pictures.shape[-1] not in (1, 3):
        pictures = pictures.mean(-1, keepdims=True)
    elif config.dataset.channel_order == "BGR":
        pictures = pictures[..., ::-1]
    return list(pictures)


def draw_filters(pictures: list[np.ndarray], new: NewFigure) -> bytes:
    """Return a PNG file; each filter has its own scale: gray filters are 0 in the middle of it."""
    columns = min(16, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width, _ = pictures[0].shape
    side = 9.5 / max(columns, 10)
    figure = new(columns * side, rows * side * min(3.0, height / width))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, picture in zip(axes, pictures, strict=False):
        most = float(np.abs(picture).max()) or 1.0
        if picture.shape[-1] == 3:
            axis.imshow((picture / most + 1) / 2, interpolation="nearest")
        else:
            axis.imshow(picture[..., 0], cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest", aspect="auto")
    return drawing.png(figure)


def maps(described: Described, config: ConfigDict, image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return what each stage makes of an image uint8 `[H, W, C]`: (name, activation `[*spatial, C]`)."""
    graph, params, stats = described

    @jax.jit
    def stages(params: dict, stats: dict, batch: jax.Array) -> dict[str, jax.Array]:
        return dict(nnx.merge(graph, params, stats).stages(normalise(batch, config.dataset)))

    made = stages(params, stats, image[np.newaxis])
    order = [stage.name for stage in nnx.merge(*described).plan]
    return [(name, np.asarray(made[name][0], np.float32)) for name in order]


def draw_maps(image: np.ndarray, made: list[tuple[str, np.ndarray]], new: NewFigure) -> bytes:
    """Return a PNG file with a row for each stage.

    Of maps, the strongest on this image in their order, each with its own scale; of dense stages all units as a strip.
    """
    shown = [(PIXELS, np.asarray(image, np.float32)), *made]
    figure = new(10.5, 0.88 * len(shown) + 0.2)
    grid = figure.add_gridspec(len(shown), _MAPS, wspace=0.05)
    for row, (name, activation) in enumerate(shown):
        label = figure.add_subplot(grid[row, 0])
        label.set_axis_off()
        size = "x".join(map(str, activation.shape))
        label.text(0, 0.5, f"{name}\n{size}", va="center", ha="left", fontsize=8, transform=label.transAxes)
        if activation.ndim < 3:
            axis = figure.add_subplot(grid[row, 1:])
            strip = activation[np.newaxis] if activation.ndim == 1 else activation.T
            axis.imshow(strip, cmap="magma", aspect="auto", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            continue
        if name == PIXELS:
            axis = figure.add_subplot(grid[row, 1])
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            continue
        strength = np.abs(activation).mean((0, 1))
        strongest = np.sort(np.argsort(-strength, kind="stable")[: _MAPS - 1])
        for column, channel in enumerate(strongest, start=1):
            axis = figure.add_subplot(grid[row, column])
            axis.imshow(activation[..., channel], cmap="magma", interpolation="nearest")
            axis.set_axis_off()
            axis.set_title(f"{channel}", fontsize=6, pad=1.5)
    return drawing.png(figure)
