"""All labels that are right for ImageNet's validation images (Beyer et al. 2020, arXiv 2006.07159): real.json."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train import json_file
from train.errors import UserError

_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")


def accuracy(answers: np.ndarray, ids: Sequence[str], path: Path) -> tuple[float, int]:
    """Return the share of images whose most probable class is among their right ones, and of how many that is.

    Images of which none of the classes is right do not count.

    Args:
      answers: to N images, probabilities or their logarithms, `[N, classes]`.
      ids: what images are called; files have the names of ImageNet's.
      path: of a list of 50,000 lists of labels, in the order of the files' names.

    Raises:
      UserError: it is no such file, or an image has another name.
    """
    try:
        right = json_file.read(path.expanduser())
        if not isinstance(right, list) or not all(isinstance(labels, list) for labels in right):
            raise ValueError("it is something else")
    except (OSError, ValueError) as error:
        raise UserError(
            f"--real_labels={path}: cannot be read as a list of lists of labels ({error}); it takes real.json"
        ) from error
    hits = []
    for name, answer in zip(ids, answers.argmax(-1).tolist(), strict=True):
        number = _NUMBER.search(name)
        if number is None or not 1 <= int(number[1]) <= len(right):
            raise UserError(
                f"--real_labels={path}: has labels for ILSVRC2012_val_00000001 and on, none for {name}; "
                "name a --source=folder: with ImageNet's own files"
            )
        if labels := right[int(number[1]) - 1]:
            hits.append(answer in labels)
    if not hits:
        raise UserError(
            f"--real_labels={path}: has no label for any of the {len(ids)} images; it takes real.json as it was "
            "published"
        )
    return sum(hits) / len(hits), len(hits)
