"""How good answers are: top-1 and top-5, each class by itself, and how far chance may have moved them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train import intervals


def figures(answers: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return loss, accuracy, top5_accuracy (shares of 1), their intervals, and count.

    With fewer than five classes, top-5 looks at all of them. Intervals are of 95 %.

    Args:
      answers: to N images, logarithms of probabilities, float32 `[N, classes]`.
      labels: int32 `[N]`.
    """
    ranks = rank(answers, labels)
    first, five = int((ranks < 1).sum()), int((ranks < 5).sum())
    return {
        "loss": float(-answers[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        "accuracy": first / len(labels),
        "top5_accuracy": five / len(labels),
        "count": len(labels),
        "interval": intervals.of_share(first, len(labels)),
        "top5_interval": intervals.of_share(five, len(labels)),
    }


def rank(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes are taken for more probable than the label, int64 `[N]`; of equals, those before it."""
    of_labels = answers[np.arange(len(labels)), labels][:, np.newaxis]
    before = np.arange(answers.shape[1]) < labels[:, np.newaxis]
    return ((answers > of_labels) | ((answers == of_labels) & before)).sum(-1)


def by_class(answers: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return class, count, accuracy and top5_accuracy of each class that has images, the worst first."""
    ranks = rank(answers, labels)
    rows = []
    for label in np.unique(labels).tolist():
        of_class = ranks[labels == label]
        shares = {"accuracy": float((of_class < 1).mean()), "top5_accuracy": float((of_class < 5).mean())}
        rows.append({"class": class_names[label], "count": len(of_class), **shares})
    return sorted(rows, key=lambda row: (row["accuracy"], row["top5_accuracy"]))
