"""What a config leaves open is as the weights, or the stored activations, have it."""

from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from models import full_name
from train import network, settings
from train.data.activations import MANIFEST, Store
from train.errors import UserError
from train.features.freshness import FREE
from train.records import CONFIG
from train.run import RunFolder, to_json
from train.transfer.weights import Weights

# What else belongs to weights than the network's own keys: how they are shown an image.
_PREPARATION = ("image_size", "channels", "mean", "std", "permutation")
# What `dataset.source` begins with where it is a store.
STORE = "features:"


def adopt(config: ConfigDict, workdir: Path, given: Collection[str] = ()) -> Weights | None:
    """Take from the weights what the config leaves open: variant and options of the network, preparation of images.

    Args:
      config: not resolved yet; completed in place.
      given: keys, dotted, that somebody has set with their own hands: of a store, they must be as they are there.
      workdir: the run folder. Where a run has begun there, its own config has all that, and the weights may be gone.

    Returns:
      the weights, or None where there are none or the run has begun.

    Raises:
      UserError: the weights cannot be read, or are another network's.
    """
    if config.dataset.source.startswith(STORE):
        _adopt_store(config, given)
    if not config.transfer.weights:
        return None
    begun = (workdir / CONFIG).is_file()
    weights = None if begun else Weights(config)
    theirs = RunFolder(workdir).config if weights is None else weights.config
    if not begun:  # what differs from a run that has begun is named where its folder is opened
        _check_network(config, theirs)
    for key, value in theirs.model.items():
        if config.model[key] is None:
            config.model[key] = value
    if weights is None or weights.states_preparation:
        for key in _PREPARATION:
            if config.dataset[key] is None:
                config.dataset[key] = theirs.dataset[key]
    order = "channel_order"  # what the first kernel is for
    if f"dataset.{order}" in given and config.dataset[order] != theirs.dataset[order]:
        raise UserError(
            f"config.dataset.{order}={config.dataset[order]}: config.transfer.weights={config.transfer.weights} take "
            f"{theirs.dataset[order]}; leave the key out"
        )
    config.dataset[order] = theirs.dataset[order]
    return weights


def _check_network(config: ConfigDict, theirs: ConfigDict) -> None:
    """Refuse a network that the weights, of the config `theirs`, are not for."""
    ours = config.model
    if ours.name != theirs.model.name or ours.variant not in (None, theirs.model.variant):
        there = full_name(theirs.model.name, theirs.model.variant)
        raise UserError(
            f"config.transfer.weights={config.transfer.weights}: is {there}, not {full_name(ours.name, ours.variant)}; "
            f"set --config.model.name={theirs.model.name}"
            + (f" --config.model.variant={theirs.model.variant}" if theirs.model.variant else "")
        )
    wrong = [("model", key) for key in ours if key not in FREE and ours[key] not in (None, theirs.model[key])]
    if config.dataset.channels not in (None, theirs.dataset.channels):
        wrong.append(("dataset", "channels"))
    for section, key in wrong:
        raise UserError(
            f"config.{section}.{key}={config[section][key]}: config.transfer.weights={config.transfer.weights} has "
            f"{theirs[section][key]}; leave the key out"
        )


def _adopt_store(config: ConfigDict, given: Collection[str]) -> None:
    """Turn `features:DIR` into the source that the store was made of, and all else that made it."""
    path = config.dataset.source.removeprefix(STORE)
    if config.transfer.mode not in (None, "stored"):
        raise UserError(
            f"config.transfer.mode={config.transfer.mode}: {config.dataset.source} is of activations; take its photos"
        )
    store = Store(Path(path).expanduser())
    theirs = _config_of(store)
    free = (*settings.NOT_IDENTITY, *(f"model.{key}" for key in FREE))
    adopted = [key for key, _ in settings.leaves(theirs) if key.startswith(("model.", "dataset."))]
    adopted = ["dataset.source", "precision", *(key for key in adopted if not key.startswith(free))]
    adopted += ["transfer.dtype", "transfer.views", *(f"augment.{key}" for key in theirs.augment)]
    if theirs.transfer.views:
        adopted.append("seed")
    here, there = dict(settings.leaves(config)), dict(settings.leaves(theirs))
    for key in adopted:
        if key in given and key != "dataset.source" and here[key] != there[key]:
            raise UserError(
                f"config.{key}={here[key]}: the activations in {path} are of {there[key]}; leave the key out, or "
                "extract again into another folder"
            )
        config.update_from_flattened_dict({key: there[key]})
    config.transfer.update(
        mode="stored",
        store=path,
        frozen_until=store.layer(config.transfer.frozen_until),
        weights=config.transfer.weights or theirs.transfer.weights,
    )


def take_open(config: ConfigDict, store: Store) -> None:
    """Set what is open of the section `dataset` as it was for a store, where its images cannot say it.

    Raises:
      UserError: the store is of another version.
    """
    for key, value in _config_of(store).dataset.items():
        if config.dataset[key] is None:
            config.dataset[key] = value


def _config_of(store: Store) -> ConfigDict:
    try:
        return settings.from_json(to_json(store.manifest["config"]))
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"{store.path}: is of another version of this program ({error}); extract again into another folder"
        ) from error


def complete(config: ConfigDict) -> None:
    """Set `transfer.frozen_until` where it is open: all but the last stage is frozen.

    Args:
      config: resolved, and completed by the data.

    Raises:
      UserError: there is no such stage, or none behind it that could learn, or it is not in the store that is named.
    """
    if config.transfer.mode in ("frozen", "stored"):
        if config.transfer.frozen_until is None:
            config.transfer.frozen_until = list(network.layers_by_stage(config))[-2]
        network.describe_parts(config)
        if config.transfer.store and (Path(config.transfer.store).expanduser() / MANIFEST).is_file():
            Store(Path(config.transfer.store).expanduser()).layer(config.transfer.frozen_until)
