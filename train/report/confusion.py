"""Which classes a network confuses: counts, recall and precision, as figures and as a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.answers import Answers
from train.pages import drawing
from train.pages.drawing import NewFigure

# Up to so many classes, counts stand in the cells: 30 leave a number of four digits room at 7 points.
_NUMBERED = 30
# The longest side of the matrix in inches, and what one label takes at 6 points.
_LONGEST, _LABEL = 12.0, 0.12


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each.

    Attributes:
      counts: int64 `[classes, classes]`; rows are the labels, columns what the images were taken for.
      class_names: in the order of both.
    """

    counts: np.ndarray
    class_names: tuple[str, ...]

    @property
    def recall(self) -> np.ndarray:
        """The share of each class's images that were recognised, float64 `[classes]`; NaN where there is no image."""
        return _share(self.counts.diagonal(), self.counts.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """The share that is right of what was taken for each class, float64 `[classes]`; NaN where nothing was."""
        return _share(self.counts.diagonal(), self.counts.sum(0))

    def pairs(self) -> list[tuple[int, int, int]]:
        """Return (label, what it was taken for, count) of all mistakes, the most frequent first."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        rows, columns = np.unravel_index(order, wrong.shape)
        return list(zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True))


def measure(answers: Answers, class_names: Sequence[str]) -> Confusion:
    """Return the confusions of C classes."""
    classes = len(class_names)
    cells = answers.labels.astype(np.int64) * classes + answers.taken_for
    return Confusion(np.bincount(cells, minlength=classes**2).reshape(classes, classes), tuple(class_names))


def as_json(confusion: Confusion) -> dict[str, Any]:
    """Return classes with images, recall and precision (None where there is none), the matrix, and the confused pairs.

    Pairs are the most frequent ten.
    """
    names = confusion.class_names
    figures = zip(names, confusion.counts.sum(1).tolist(), confusion.recall, confusion.precision, strict=True)
    return {
        "images": int(confusion.counts.sum()),
        "classes": [
            {"name": name, "images": images, "recall": _or_none(recall), "precision": _or_none(precision)}
            for name, images, recall, precision in figures
        ],
        "rows": "labels",
        "columns": "taken for",
        "counts": confusion.counts.tolist(),
        "most_confused": [
            {"label": names[row], "taken_for": names[column], "count": count}
            for row, column, count in confusion.pairs()[:10]
        ],
    }


def draw(confusion: Confusion, new: NewFigure) -> bytes:
    """Return a PNG file: cells have the colour of their share of the label's images, for few classes also the count."""
    classes = len(confusion.class_names)
    side = min(_LONGEST, max(2.4, 0.42 * classes))
    step = math.ceil(_LABEL * classes / side)  # one in so many classes has a label
    shown = np.arange(0, classes, step)
    numbered = classes <= _NUMBERED
    size = 9 if classes <= 12 else 7 if numbered else 6
    shares = np.nan_to_num(confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1))
    names = [drawing.clean(name) for name in confusion.class_names]
    from matplotlib.colors import PowerNorm  # 0.7 s, wanted here alone

    figure = new(side + 3.4, side + 2.2)
    axis = figure.subplots()
    picture = axis.imshow(
        shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest" if classes < 400 else "auto"
    )
    axis.set_xlabel("taken for, and precision" if numbered else "taken for")
    axis.set_ylabel("label, and recall" if numbered else "label")
    texts = {
        "x": [_labelled(names[i], confusion.precision[i], "\n", numbered) for i in shown],
        "y": [_labelled(names[i], confusion.recall[i], "  ", numbered) for i in shown],
    }
    upright = max(len(line) for text in texts["x"] for line in text.split("\n")) * size / 130 < side / classes
    axis.set_xticks(shown, texts["x"], fontsize=size, rotation=0 if upright else 90)
    axis.set_yticks(shown, texts["y"], fontsize=size)
    if numbered:
        for (row, column), count in np.ndenumerate(confusion.counts):
            if count:
                color = "white" if shares[row, column] > 0.55 else "black"
                axis.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)
    else:
        axis.set_title(f"{classes} classes" + (f", one in {step} named" if step > 1 else ""), fontsize=9)
    bar = figure.colorbar(picture, ax=axis, shrink=min(1.0, 3 / side), format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the label's images", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return drawing.png(figure)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _or_none(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def _labelled(name: str, share: float, between: str, figure: bool) -> str:
    name = drawing.shortened(name, 26)
    return f"{name}{between}{'-' if np.isnan(share) else f'{share:.0%}'}" if figure else name
