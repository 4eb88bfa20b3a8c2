"""How bad mistakes are: how far one must go up in WordNet to find what label and answer have in common."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.errors import UserError

# Where Debian's package wordnet-base has WordNet 3.0, whose numbers ImageNet's classes have; WNSEARCHDIR names another
# folder (wnintro(5WN), "Environment variables").
DEBIAN, VARIABLE = Path("/usr/share/wordnet"), "WNSEARCHDIR"
_FILE = "data.noun"
_CLASS = re.compile(r"n(\d{8})")
# WordNet 3.0 is 20 high; in a damaged one, ways up may be circles.
_HIGHEST = 100
# As many common concepts are listed.
_LISTED = 10


class _Synset(NamedTuple):
    name: str
    hypernyms: tuple[str, ...]


def identifiers(config: ConfigDict) -> tuple[str, ...] | None:
    """Return WordNet's number of each class, or None where the section `dataset` knows none."""
    for names in (config.class_ids, config.class_names):
        if names and all(_CLASS.fullmatch(name) for name in names):
            return tuple(names)
    return None


def folder() -> Path | None:
    """Return where WordNet is, or None."""
    there = Path(os.environ.get(VARIABLE) or DEBIAN)
    return there if (there / _FILE).is_file() else None


def severity(answers: np.ndarray, labels: np.ndarray, classes: Sequence[str], there: Path) -> dict[str, Any]:
    """Return how bad the mistakes are: count, mean height, and the concepts that label and answer share most often.

    The height of a mistake is that of the lowest concept that is above both label and answer: the longest way from it
    down to a class (Bertinetto et al. 2020, "Making Better Mistakes", arXiv 1912.09393). Of several concepts
    as low, that first by its number counts.

    Args:
      answers: to N images, probabilities or their logarithms, `[N, classes]`.
      labels: int32 `[N]`.
      classes: WordNet's number of each class, such as "n02084071".
      there: the folder of WordNet 3.0.

    Raises:
      UserError: the file cannot be read, or does not know a class.
    """
    synsets = _read(there / _FILE)
    for name in classes:
        if name[1:] not in synsets:
            raise UserError(
                f"{there / _FILE}: knows no {name}; ImageNet's classes are those of WordNet 3.0: install that"
            )
    try:
        above = [_all_above(name[1:], synsets) for name in classes]
        heights = _heights([name[1:] for name in classes], synsets)
        if not set.intersection(*above):
            raise ValueError("its classes have nothing in common")
    except (ValueError, KeyError) as error:
        raise UserError(f"{there / _FILE}: cannot be read as WordNet's nouns ({error}); install it again") from error
    pairs = Counter((int(a), int(b)) for a, b in zip(labels, answers.argmax(-1), strict=True) if a != b)
    shared: Counter[str] = Counter()
    total = 0
    for (label, answer), count in pairs.items():
        lowest = min(above[label] & above[answer], key=lambda number: (heights[number], number))
        shared[lowest] += count
        total += heights[lowest] * count
    mistakes = pairs.total()
    return {
        "mistakes": mistakes,
        "mean_height": total / mistakes if mistakes else None,
        "highest": max(heights.values()),
        "common": [
            {"concept": synsets[number].name, "height": heights[number], "mistakes": count}
            for number, count in shared.most_common(_LISTED)
        ],
    }


def _all_above(number: str, synsets: dict[str, _Synset]) -> set[str]:
    """Return a concept and all above it."""
    found, waiting = set[str](), [number]
    while waiting:
        if (current := waiting.pop()) not in found:
            found.add(current)
            waiting += synsets[current].hypernyms
    return found


def _heights(classes: Sequence[str], synsets: dict[str, _Synset]) -> dict[str, int]:
    """Return the longest way down to a class from each concept above one.

    Raises:
      ValueError: hypernyms make a circle.
    """
    heights = dict.fromkeys(classes, 0)
    waiting = list(classes)
    while waiting:
        number = waiting.pop()
        for hypernym in synsets[number].hypernyms:
            if heights.get(hypernym, -1) < heights[number] + 1:
                heights[hypernym] = heights[number] + 1
                waiting.append(hypernym)
                if heights[hypernym] > _HIGHEST:
                    raise ValueError(f"what is above {hypernym} has no end")
    return heights


def _read(path: Path) -> dict[str, _Synset]:
    """Read the nouns, as wndb(5WN) describes the format: their first word, and what they are a kind or instance of."""
    synsets = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            fields = line.partition(" | ")[0].split()
            words = int(fields[3], 16)
            pointers = fields[5 + 2 * words :]
            hypernyms = tuple(
                pointers[place + 1] for place in range(0, len(pointers), 4) if pointers[place] in ("@", "@i")
            )
            synsets[fields[0]] = _Synset(fields[4].replace("_", " "), hypernyms)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: cannot be read as WordNet's nouns ({error}); install WordNet again") from error
    return synsets
