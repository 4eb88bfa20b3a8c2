"""What classes look like on a map: colours that people with any colour vision can tell apart, and shapes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from train.pages import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Petroff 2021 (arXiv 2107.02270): ten colours, told apart by people with and without deficiencies of colour vision.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
# By Matplotlib's letters: circle, triangle, square, diamond. Together they make forty.
SHAPES = ("o", "^", "s", "D")


class Look(NamedTuple):
    """What the points of a class look like."""

    colour: str
    shape: str


def looks(classes: int) -> list[Look]:
    """Return what each class looks like; from the 41st on they repeat."""
    places = range(classes)
    return [Look(COLOURS[i % len(COLOURS)], SHAPES[i // len(COLOURS) % len(SHAPES)]) for i in places]


def scatter(axis: "Axes", points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw points `[N, 2]` of classes `[N]`, as far apart across as down, and name each class for a legend."""
    of_class = looks(len(class_names))
    for label in np.unique(labels):
        colour, shape = of_class[label]
        x, y = points[labels == label].T
        axis.scatter(x, y, s=8, color=colour, marker=shape, linewidths=0, label=drawing.clean(class_names[label]))
    axis.set(xticks=[], yticks=[])
    axis.set_aspect("equal", adjustable="datalim")
