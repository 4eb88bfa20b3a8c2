"""What our own exports say about themselves: the network, and how images are prepared for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.errors import UserError
from train.settings import leaves

# Under this name the text stands in a file's own metadata, or beside its tensors.
RECORD = "oldmasters.json"
# Of the section `dataset`, what belongs to the weights: how an image is prepared, and what the classes are called.
PREPROCESSING = (
    "image_size",
    "resize",
    "crop",
    "channels",
    "channel_order",
    "mean",
    "std",
    "permutation",
    "classes",
    "class_names",
    "class_ids",
)
# Characters; the names of ImageNet's thousand classes take some 20,000.
_LARGEST = 2**20


def of_run(config: ConfigDict) -> str:
    """Return as JSON the keys of a run's config that belong to its weights."""
    model = {f"model.{name}": value for name, value in leaves(config.model)}
    dataset = {f"dataset.{name}": config.dataset[name] for name in PREPROCESSING}
    return json.dumps(model | dataset)


def config_states(text: str, path: Path) -> Mapping[str, Any]:
    """Return what `of_run` has written, None left out: dotted keys of a config and their values.

    Raises:
      UserError: it is something else.
    """
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"{len(text):,} characters")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()}
        if strange := sorted(key for key, value in values.items() if not _of_weights(key, value)):
            raise ValueError(f"{strange[0]!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: what it says about itself cannot be read ({error}); export it again") from error
    return {key: value for key, value in values.items() if value is not None}


def _of_weights(key: str, value: Any) -> bool:
    """Whether a run's weights have something to say under that key, and the value is of a kind that configs have."""
    section, _, name = key.partition(".")
    return (section == "model" or (section == "dataset" and name in PREPROCESSING)) and (
        all(map(_plain, value)) if isinstance(value, tuple) else _plain(value)
    )


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable()  # a class's name is printed, and must not move the cursor
    return abs(value) < 2**63 if isinstance(value, int) else isinstance(value, float | None)
