"""What stored activations are of, and whether they still are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import network
from train.data.activations import Record, Store, read_records
from train.data.dataset import Dataset
from train.errors import UserError
from train.network import Described

# What the preparation of images consists of, besides the precision that layers compute in.
_PREPARATION = ("image_size", "resize", "crop", "channels", "channel_order", "mean", "std", "permutation")
# Options of a network that make no difference to what its trained weights mean.
FREE = ("dropout", "init")
# What divides the data among its splits.
DIVISION = ("validation", "test", "split_seed", "only_classes", "per_class")


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
        | {key: value for key, value in config.model.items() if key not in FREE},
        "weights": network.digests(*part[1:]),
        "preprocessing": {key: dataset[key] for key in _PREPARATION},
        "data": {
            "fingerprint": data.fingerprint,
            "test_split": data.test_split,
            **{key: dataset[key] for key in DIVISION},
        },
        "views": views,
    }


def check(
    path: Path,
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    records: Mapping[str, list[Record]],
    finished: bool,
) -> None:
    """Raise UserError unless a store is of what would be made now; says what has changed."""
    missing = [layer for layer in here["layers"] if layer not in there["layers"]]
    if missing or (not finished and here["layers"].keys() != there["layers"].keys()):
        raise UserError(
            f"{path}: holds activations of {', '.join(there['layers'])}, not of {', '.join(here['layers'])}; choose "
            "another folder"
        )
    if there["dtype"] != here["dtype"]:
        raise UserError(f"{path}: holds activations as {there['dtype']}, not as {here['dtype']}; choose another folder")
    changed: list[str] = []
    for section, old in there["of"].items():
        new = here["of"][section]
        if old == new:
            continue
        if section == "weights":
            changed += _changed_weights(old, new)
        else:
            keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            keys = [key for key in keys if key != "fingerprint"]
            changed += [f"{section}: {key} was {old.get(key)}, is {new.get(key)}" for key in keys]
    prepared_alike = there["of"]["preprocessing"] == here["of"]["preprocessing"]
    changed_records = _changed_records(path, there["splits"], records, prepared_alike)
    another = there["of"]["data"]["fingerprint"] != here["of"]["data"]["fingerprint"]
    hashed = all(record.digest for split in records.values() for record in split)
    if another and not hashed and not changed_records:  # the source vouches for its images as a whole
        changed_records.append("data: it is another version, or another set")
    changed += changed_records
    if changed:
        raise UserError(
            f"{path}: the stored activations are stale: {'; '.join(changed)}. Put these back, remove the folder, or "
            "choose another"
        )


def _changed_weights(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Compare layers by their digests; a store has them up to the last stage that it holds, which may be further."""
    layers = [layer for layer in new if old.get(layer) != new[layer]]
    return [f"weights: those of {', '.join(layers)} are others"] if layers else []


def _changed_records(
    path: Path, splits: Iterable[str], records: Mapping[str, list[Record]], prepared_alike: bool
) -> list[str]:
    old = {record.id: (split, record) for split in splits for record in read_records(path, split)}
    new = {record.id: (split, record) for split, found in records.items() for record in found}
    both = [name for name in old if name in new]
    other = [name for name in both if old[name][1].digest != new[name][1].digest]
    if not prepared_alike and other == both:  # images in memory are hashed at the size that the network sees
        other = []
    found = []
    for names, what in (
        (other, "{id} has changed"),
        ([name for name in both if old[name][1].label != new[name][1].label], "the label of {id} was {was}, is {now}"),
        ([name for name in both if old[name][0] != new[name][0]], "{id} was in {there}, is in {here}"),
        ([name for name in old if name not in new], "{id} is gone"),
        ([name for name in new if name not in old], "{id} is new"),
    ):
        if names:
            (there, was), (here, now) = (side.get(names[0], ("", None)) for side in (old, new))
            said = what.format(id=names[0], was=was and was.label, now=now and now.label, there=there, here=here)
            found.append(f"data: {said}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else ""))
    return found


def check_weights(store: Store, params: Any, stats: Any) -> None:
    """Make sure that a store is of these weights, where its images are out of reach.

    Raises:
      UserError: it is of others; names the layers.
    """
    if changed := _changed_weights(store.manifest["of"]["weights"], network.digests(params, stats)):
        raise UserError(
            f"{store.path}: the stored activations are stale: {changed[0]}; extract again into another folder"
        )
