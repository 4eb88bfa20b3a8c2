"""The worst mistakes: the images whose wrong answer the network was most sure of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.answers import Answers
from train.data.roles import Read
from train.pages import drawing
from train.pages.thumbnail import picture

# Pictures on the sheet: four rows of six are looked at, and a hundred are not.
SHOWN = 24


@dataclass(frozen=True)
class Mistake:
    """An image and the wrong class it was taken for.

    Attributes:
      place: of the image in its set.
      label: the right class.
      taken_for: the wrong one.
      probability: what the network gave to the wrong one.
      of_label: what it gave to the right one.
    """

    place: int
    label: int
    taken_for: int
    probability: float
    of_label: float


def find(answers: Answers) -> list[Mistake]:
    """Return all mistakes, the surest first."""
    wrong = np.flatnonzero(~answers.right)
    probability = answers.probabilities[wrong, answers.taken_for[wrong]]
    of_label = answers.probabilities[wrong, answers.labels[wrong]]
    order = np.argsort(-probability, kind="stable")
    columns = (wrong, answers.labels[wrong], answers.taken_for[wrong], probability, of_label)
    return [Mistake(*values) for values in zip(*(column[order].tolist() for column in columns), strict=True)]


def as_json(
    mistakes: Sequence[Mistake], answers: Answers, ids: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """Return how many images and mistakes there are, and each mistake; `ids` are those of the images."""
    return {
        "images": len(answers.labels),
        "count": len(mistakes),
        "mistakes": [
            {
                "id": ids[mistake.place],
                "label": class_names[mistake.label],
                "taken_for": class_names[mistake.taken_for],
                "probability": mistake.probability,
                "probability_of_label": mistake.of_label,
            }
            for mistake in mistakes
        ],
    }


def draw(mistakes: Sequence[Mistake], images: Read, ids: Sequence[str], class_names: Sequence[str]) -> bytes:
    """Return a PNG file with the first `SHOWN` of one or more mistakes.

    Raises:
      UserError: a photo cannot be read or decoded any more; names it.
    """
    entries = [
        drawing.Entry(
            [picture(images, mistake.place)],
            [
                (
                    f"is {class_names[mistake.label]}, taken for",
                    f"{class_names[mistake.taken_for]} ({mistake.probability:.0%})",
                    ids[mistake.place],
                )
            ],
        )
        for mistake in mistakes[:SHOWN]
    ]
    count = f"{len(mistakes):,} of {images.total:,} images"
    which = f", the {len(entries)} surest" if len(entries) < len(mistakes) else ""
    return drawing.sheet(entries, 6, f"Mistakes: {count}{which}")
