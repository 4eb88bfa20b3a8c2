"""Mistakes, the surest first."""

import json

import numpy as np
import pytest

from tests.train.pages.test_drawing import image_of
from tests.train.report import photos
from train.answers import Answers
from train.report import mistakes

PROBABILITIES = [[0.9, 0.1, 0], [0.3, 0.7, 0], [0.1, 0.1, 0.8], [0.2, 0.35, 0.45], [0.05, 0.95, 0]]
LABELS = [0, 0, 1, 1, 2]


@pytest.fixture
def answers() -> Answers:
    return Answers(np.array(LABELS, np.int32), np.array(PROBABILITIES, np.float32), {}, (), {})


def test_mistakes_come_by_the_probability_of_the_wrong_answer(answers: Answers) -> None:
    found = mistakes.find(answers)
    assert [(mistake.place, mistake.label, mistake.taken_for) for mistake in found] == [
        (4, 2, 1),
        (2, 1, 2),
        (1, 0, 1),
        (3, 1, 2),
    ]
    assert [mistake.probability for mistake in found] == pytest.approx([0.95, 0.8, 0.7, 0.45])
    assert [mistake.of_label for mistake in found] == pytest.approx([0, 0.1, 0.3, 0.35])
    listed = mistakes.as_json(found, answers, list("vwxyz"), ["ant", "bee", "cat"])
    assert json.loads(json.dumps(listed)) == listed
    assert (listed["images"], listed["count"]) == (5, 4)
    assert listed["mistakes"][1] == {
        "id": "x",
        "label": "bee",
        "taken_for": "cat",
        "probability": pytest.approx(0.8),
        "probability_of_label": pytest.approx(0.1),
    }


def test_without_mistakes_there_are_none(answers: Answers) -> None:
    right = Answers(answers.taken_for, answers.probabilities, {}, (), {})
    assert mistakes.find(right) == []


def test_the_sheet_shows_the_first_of_them(answers: Answers) -> None:
    images = photos.in_memory(range(5))
    images.images[4], images.images[0] = (255, 0, 0), (0, 255, 0)  # a mistake, and none
    sheet = image_of(mistakes.draw(mistakes.find(answers), images, list("vwxyz"), ["$a", "b_", "c\n"]))
    assert (sheet == (255, 0, 0)).all(-1).sum() == pytest.approx(175**2, rel=0.03)
    assert not (sheet == (0, 255, 0)).all(-1).any()


def test_no_more_are_shown_than_are_looked_at() -> None:
    count = mistakes.SHOWN + 6
    images = photos.in_memory(range(count))
    answers = Answers(images.labels, np.eye(2, dtype=np.float32)[1 - images.labels], {}, (), {})
    found = mistakes.find(answers)
    assert len(found) == count
    images.images[mistakes.SHOWN :] = (255, 0, 0)
    assert not (image_of(mistakes.draw(found, images, ["x"] * count, ["a", "b"])) == (255, 0, 0)).all(-1).any()
