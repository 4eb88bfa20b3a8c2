"""The map of the last hidden stage: which test images the network finds alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.embedding import palette, projection, quality
from train.embedding.quality import Quality
from train.pages import drawing
from train.pages.drawing import NewFigure

# Images on the map: of fewer there is nothing to see; t-SNE of so many takes some seconds, and more hide one another.
_FEWEST, _MOST = 12, 2_000
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Neighbourhood:
    """N test images on two maps.

    Attributes:
      index: which of the test images, `[N]`; of many, some.
      labels: of them, int32 `[N]`.
      perplexity: of t-SNE: 30, or with few images the largest that they allow.
      maps: by method, float32 `[N, 2]`.
      quality: of each map.
    """

    index: np.ndarray
    labels: np.ndarray
    perplexity: float
    maps: dict[str, np.ndarray]
    quality: dict[str, Quality]


def find(activations: np.ndarray, labels: np.ndarray, seed: int) -> Neighbourhood | None:
    """Return the maps of activations `[N, units]`, or None where there are too few images or units for one."""
    total, units = activations.shape
    if total < _FEWEST or units < 2:
        return None
    index = np.sort(np.random.default_rng(seed).permutation(total)[:_MOST])
    chosen, of_them = activations[index], labels[index]
    perplexity = projection.checked_perplexity(len(index), _PERPLEXITY, lower=True)
    maps = {"PCA": projection.pca(chosen), "t-SNE": projection.tsne(chosen, perplexity, seed)}
    return Neighbourhood(index, of_them, perplexity, maps, quality.measure(chosen, maps, of_them))


def draw(found: Neighbourhood, class_names: Sequence[str], new: NewFigure) -> bytes:
    """Return a PNG file: the maps side by side, the classes in colours."""
    figure = new(10.5, 5.2)
    for axis, (name, places) in zip(figure.subplots(1, len(found.maps)), found.maps.items(), strict=True):
        palette.scatter(axis, places, found.labels, class_names)
        axis.set_title(name)
    drawing.legend(figure, len(class_names))
    return drawing.png(figure)
