"""Confusions against scikit-learn's."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from train.answers import Answers
from train.pages import drawing
from train.report import confusion


def drawn(counts: np.ndarray, names: tuple[str, ...]) -> bytes:
    with drawing.plain() as new:
        return confusion.draw(confusion.Confusion(counts, names), new)


def answers(classes: int, count: int, seed: int = 0) -> Answers:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), count).astype(np.float32)
    return Answers(random.integers(0, classes, count, dtype=np.int32), probabilities, {}, (), {})


@pytest.mark.parametrize(("classes", "count"), [(2, 50), (5, 400), (40, 3000)])
def test_figures_are_scikit_learns(classes: int, count: int) -> None:
    given = answers(classes, count)
    labels, taken_for = given.labels, given.probabilities.argmax(1)
    found = confusion.measure(given, [str(i) for i in range(classes)])
    np.testing.assert_array_equal(found.counts, confusion_matrix(labels, taken_for, labels=range(classes)))
    np.testing.assert_allclose(found.recall, recall_score(labels, taken_for, average=None))
    np.testing.assert_allclose(found.precision, precision_score(labels, taken_for, average=None))
    listed = confusion.as_json(found)
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed
    assert [entry["recall"] for entry in listed["classes"]] == pytest.approx(found.recall.tolist())


def test_a_class_without_images_has_no_recall() -> None:
    given = Answers(np.array([0, 0, 2], np.int32), np.eye(3, dtype=np.float32)[[0, 2, 2]], {}, (), {})
    listed = confusion.as_json(confusion.measure(given, ["a", "b", "c"]))
    assert listed["classes"] == [
        {"name": "a", "images": 2, "recall": 0.5, "precision": 1.0},
        {"name": "b", "images": 0, "recall": None, "precision": None},
        {"name": "c", "images": 1, "recall": 1.0, "precision": 0.5},
    ]
    assert listed["most_confused"] == [{"label": "a", "taken_for": "c", "count": 1}]


def test_pairs_come_by_frequency() -> None:
    counts = np.array([[9, 2, 0], [5, 0, 1], [0, 3, 7]])
    assert confusion.Confusion(counts, ("a", "b", "c")).pairs() == [(1, 0, 5), (2, 1, 3), (0, 1, 2), (1, 2, 1)]
    assert confusion.Confusion(np.diag([3, 4]), ("a", "b")).pairs() == []


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("classes", [2, 12, 31, 100])
def test_the_picture_shows_the_matrix(classes: int) -> None:
    """The cells that hold all of a row are dark, and lie where they are in the matrix."""
    names = tuple(map(str, range(classes)))
    for counts, falls in ((np.eye(classes, dtype=int), 1), (np.eye(classes, dtype=int)[::-1], -1)):
        image = pixels(drawn(counts, names))
        assert max(image.shape) < 1700
        dark, light = ((image == color).all(-1) for color in ((8, 48, 107), (247, 251, 255)))
        assert dark.sum() / (dark.sum() + light.sum()) == pytest.approx(1 / classes, rel=0.1)
        # Evenly on a diagonal of n cells: 1 - 1 / n**2, as each cell is a square without a slope.
        assert np.corrcoef(np.nonzero(dark))[0, 1] == pytest.approx(falls * (1 - 1 / classes**2), abs=0.03)


NAMES = ["cost $5 to $6", "$\\frac$", "<b>&amp;", "a_b^c", "two\nlines", "蚂蚁", "a" * 300, "", "\udcff\x00"]


def test_names_of_any_kind_are_drawn() -> None:
    counts = np.arange(81).reshape(9, 9)
    png = drawn(counts, tuple(NAMES))
    assert pixels(png).shape[1] < 1200
    json.dumps(confusion.as_json(confusion.Confusion(counts, tuple(NAMES))))
