"""What stored activations are of, and whether they still are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import network
from train.data.activations import Store
from train.data.dataset import Dataset
from train.errors import UserError
from train.network import Described

# What the preparation of images consists of, besides the precision that layers compute in.
_PREPARATION = ("image_size", "resize", "crop", "channels", "channel_order", "mean", "std", "permutation")
# Of a network's keys, what makes no difference to the activations of trained weights.
_NOT_IN_ACTIVATIONS = ("dropout", "init")
# What divides the data among its splits.
_DIVISION = ("validation", "test", "split_seed", "only_classes", "per_class")


def identity(part: Described, config: ConfigDict, data: Dataset) -> dict[str, Any]:
    """Return all that would make other activations if it were other: network, weights, preparation, data and views.

    Args:
      part: the network up to the last stage that is stored.
      config: complete.
      data: of the images; each is compared by its own digest, which stands beside its id in the store.
    """
    dataset, transfer = config.dataset, config.transfer
    views: dict[str, Any] = {"count": transfer.views}
    if transfer.views:
        views |= {"seed": config.seed, "augment": config.augment.to_dict(), "covariance": dataset.covariance}
    return {
        "network": {"precision": config.precision}
        | {key: value for key, value in config.model.items() if key not in _NOT_IN_ACTIVATIONS},
        "weights": network.digests(*part[1:]),
        "preprocessing": {key: dataset[key] for key in _PREPARATION},
        "data": {
            "fingerprint": data.fingerprint,
            "test_split": data.test_split,
            **{key: dataset[key] for key in _DIVISION},
        },
        "views": views,
    }


def check(
    path: Path,
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    records: Mapping[str, list[tuple[str, str]]],
    finished: bool,
) -> None:
    """Raise UserError unless a store is of what would be made now; says what has changed."""
    # Images in memory are hashed at the size that the network sees: prepared otherwise, all would seem to have changed.
    as_before = there["of"]["preprocessing"] == here["of"]["preprocessing"]
    changed = _changed_records(path, records) if as_before else []
    hashed = all(digest for split in records.values() for _, digest in split)
    another = there["of"]["data"]["fingerprint"] != here["of"]["data"]["fingerprint"]
    if as_before and not changed and another and not hashed:  # the source vouches for its images as a whole
        changed.append("data: it is another version, or another set")
    for section, old in there["of"].items():
        new = here["of"][section]
        if old == new:
            continue
        if section == "weights":  # of layers behind those that are wanted, there may be more in the store
            if keys := [layer for layer in new if old.get(layer) != new[layer]]:
                changed.append(f"weights: those of {', '.join(keys)} are others")
        else:
            keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            keys = [key for key in keys if key != "fingerprint"]
            changed += [f"{section}: {key} was {old.get(key)}, is {new.get(key)}" for key in keys]
    if changed:
        raise UserError(
            f"{path}: the stored activations are stale: {'; '.join(changed)}. Put these back, remove the folder, or "
            "choose another"
        )
    missing = [layer for layer in here["layers"] if layer not in there["layers"]]
    if missing or (not finished and here["layers"].keys() != there["layers"].keys()):
        raise UserError(
            f"{path}: holds activations of {', '.join(there['layers'])}, not of {', '.join(here['layers'])}; choose "
            "another folder"
        )
    if there["dtype"] != here["dtype"]:
        raise UserError(f"{path}: holds activations as {there['dtype']}, not as {here['dtype']}; choose another folder")


def _changed_records(path: Path, records: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        if (file := path / f"{split}-records.json").is_file():
            old |= dict(json.loads(file.read_text()))
        new |= dict(records.get(split, []))
    found = []
    for what, names in (
        ("has changed", [name for name in old if name in new and old[name] != new[name]]),
        ("is gone", [name for name in old if name not in new]),
        ("is new", [name for name in new if name not in old]),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            found.append(f"data: {names[0]} {what}{more}")
    return found


def check_weights(store: Store, params: Any, stats: Any) -> None:
    """Make sure that a store is of these weights, where its images are out of reach.

    Raises:
      UserError: it is of others; names the layers.
    """
    was, now = store.manifest["of"]["weights"], network.digests(params, stats)
    if changed := [layer for layer in now if now[layer] != was.get(layer)]:
        raise UserError(
            f"{store.path}: the stored activations are stale: weights: those of {', '.join(changed)} are others"
        )
