"""Figures of answers, against a table counted by hand."""

import numpy as np
import pytest

from train.protocols.figures import by_class, figures, rank

# Six images of three classes: the label, and the probabilities of the classes.
LABELS = np.array([0, 0, 1, 1, 2, 2], np.int32)
ANSWERS = np.log(
    np.array(
        [
            [0.7, 0.2, 0.1],  # right
            [0.3, 0.6, 0.1],  # taken for 1
            [0.1, 0.8, 0.1],  # right
            [0.4, 0.2, 0.4],  # taken for 0, the first of two
            [0.3, 0.3, 0.4],  # right
            [0.4, 0.2, 0.4],  # taken for 0, which is as probable and comes first
        ],
        np.float32,
    )
)


def test_counted_by_hand() -> None:
    assert rank(ANSWERS, LABELS).tolist() == [0, 1, 0, 2, 0, 1]
    found = figures(ANSWERS, LABELS)
    assert found["accuracy"] == 3 / 6
    assert found["top5_accuracy"] == 1
    assert found["count"] == 6
    assert found["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.2, 0.4, 0.4]).mean(), rel=1e-6)
    rows = by_class(ANSWERS, LABELS, ("a", "b", "c"))
    assert [(row["class"], row["count"], row["accuracy"]) for row in rows] == [
        ("a", 2, 0.5),
        ("b", 2, 0.5),
        ("c", 2, 0.5),
    ]


def test_top5_counts_five() -> None:
    answers = np.log(np.arange(10, 0, -1, dtype=np.float32) / 55)[np.newaxis].repeat(
        10, 0
    )  # class 0 before class 1, ...
    found = figures(answers, np.arange(10, dtype=np.int32))
    assert (found["accuracy"], found["top5_accuracy"]) == (0.1, 0.5)


def test_the_worst_class_comes_first() -> None:
    rows = by_class(ANSWERS, np.array([0, 0, 1, 0, 2, 0], np.int32), ("a", "b", "c"))
    assert [row["class"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["accuracy"] == 3 / 4
