"""Whether the probabilities a network gives are the shares in which it is right."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from train.answers import Answers
from train.pages import drawing
from train.pages.drawing import NewFigure

# Guo et al. 2017 (arXiv 1706.04599), section 5.
_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Test images by confidence, which is the probability of the class that each was taken for.

    Attributes:
      edges: of the bins, float64 `[bins + 1]`, from 0 to 1.
      counts: images in each, int64 `[bins]`; an image on an edge is in the lower bin.
      confidence: mean of theirs, float64 `[bins]`; NaN where there is none.
      accuracy: share of them that is right, likewise.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the gap of each bin, weighted with its images (Guo et al., equation 3)."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        """Of all images."""
        return float(np.nansum(self.counts * self.confidence) / self.counts.sum())


def measure(answers: Answers) -> Calibration:
    """Return how the answers to one or more images are calibrated."""
    confidence = answers.probabilities.max(-1).astype(np.float64)
    edges = np.linspace(0, 1, _BINS + 1)
    place = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    empty = np.where(counts, 1.0, np.nan) * np.maximum(counts, 1)
    return Calibration(
        edges,
        counts,
        np.bincount(place, confidence, _BINS) / empty,
        np.bincount(place, answers.right, _BINS) / empty,
    )


def as_json(calibration: Calibration) -> dict[str, Any]:
    """Return the error, the mean confidence, and the bins that hold images."""
    bins = [
        {"from": low, "to": high, "count": count, "confidence": confidence, "accuracy": accuracy}
        for low, high, count, confidence, accuracy in zip(
            calibration.edges[:-1].tolist(),
            calibration.edges[1:].tolist(),
            calibration.counts.tolist(),
            calibration.confidence.tolist(),
            calibration.accuracy.tolist(),
            strict=True,
        )
        if count
    ]
    return {
        "expected_calibration_error": calibration.error,
        "mean_confidence": calibration.mean_confidence,
        "bins": bins,
    }


def draw(calibration: Calibration, new: NewFigure) -> bytes:
    """Return a PNG file: accuracy by confidence beside what it should be, and how many images there are of each."""
    figure = new(5.4, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middles, width = calibration.edges[:-1] + 0.5 / _BINS, 0.92 / _BINS
    upper.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color="gray", label="as it should be")
    upper.bar(middles, np.nan_to_num(calibration.accuracy), width, color="#4c8bd0", label="share that is right")
    full = calibration.counts > 0
    upper.plot(
        calibration.confidence[full], calibration.accuracy[full], "o", markersize=4, color="#d9742b", clip_on=False
    )
    upper.set(ylim=(0, 1), xlim=(0, 1), ylabel="accuracy")
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(middles, calibration.counts, width, color="#9aa5b1")
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.5)  # a single image is seen, too
    lower.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    lower.set(xlabel="confidence: probability of the class it was taken for", ylabel="images")
    return drawing.png(figure)
