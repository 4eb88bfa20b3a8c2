"""Calibration against bins by hand, and against networks that are calibrated by construction."""

import json

import numpy as np
import pytest

from train.answers import Answers
from train.pages import drawing
from train.report import calibration


def of(confidence: np.ndarray, right: np.ndarray) -> Answers:
    """Answers of two classes with these confidences of a half or more."""
    probabilities = np.stack([confidence, 1 - confidence], -1)
    return Answers(np.where(right, 0, 1).astype(np.int32), probabilities, {}, (), {})


def test_bins_by_hand() -> None:
    """Of 15 bins, the ninth holds 0.5333 to 0.6, the thirteenth 0.8 to 0.8667, the last 0.9333 to 1."""
    confidence = np.array([0.55, 0.56, 0.85, 0.81, 0.82, 0.83, 1.0, 0.95])
    found = calibration.measure(of(confidence, np.array([1, 0, 1, 1, 0, 1, 1, 1], bool)))
    assert np.flatnonzero(found.counts).tolist() == [8, 12, 14]
    assert found.counts[[8, 12, 14]].tolist() == [2, 4, 2]
    np.testing.assert_allclose(found.accuracy[[8, 12, 14]], [0.5, 0.75, 1])
    np.testing.assert_allclose(found.confidence[[8, 12, 14]], [0.555, 0.8275, 0.975])
    assert found.error == pytest.approx((2 * 0.055 + 4 * 0.0775 + 2 * 0.025) / 8)
    assert found.mean_confidence == pytest.approx(confidence.mean())
    listed = calibration.as_json(found)
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed
    assert [entry["count"] for entry in listed["bins"]] == [2, 4, 2]


def test_who_is_right_as_often_as_sure_has_no_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 200_000)
    right = random.uniform(size=len(confidence)) < confidence
    assert calibration.measure(of(confidence, right)).error < 0.004
    overconfident = calibration.measure(of(np.minimum(1, confidence + 0.1), right))
    assert overconfident.error == pytest.approx(0.09, abs=0.004)  # a tenth, but for those that reach 1


@pytest.mark.parametrize("confidence", [[1.0], [0.5, 1.0], [0.6] * 40])
def test_any_answers_are_drawn(confidence: list[float]) -> None:
    found = calibration.measure(of(np.array(confidence), np.ones(len(confidence), bool)))
    with drawing.plain() as new:
        assert calibration.draw(found, new).startswith(b"\x89PNG")
