"""Stored activations of a trained run, on its own images or on others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from train import devices, network, settings
from train.checkpoints import load_network
from train.data.activations import Store
from train.data.dataset import load
from train.data.roles import Dataset
from train.errors import UserError
from train.features import extraction, freshness
from train.run import RunFolder

# Sections and keys of a run's config that may be other where its network looks at other images.
_MAY_CHANGE = ("dataset.", "augment.", "seed", "precision", "evaluate.batch_size", "transfer.dtype", "transfer.views")


def extract(
    folder: RunFolder,
    source: str | None,
    layers: tuple[str, ...],
    path: Path,
    changes: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> Store:
    """Store activations of a trained run.

    Args:
      folder: of the run.
      source: of the images; None: the run's own.
      layers: names of stages.
      path: the folder.
      changes: keys of the run's config, dotted, that are other here: of how images are prepared, divided and augmented.
      say: is told how far it is.

    Raises:
      UserError: as `extraction.extract`, or the run or the source cannot be read, or a key is not for extraction.
    """
    config = folder.config.copy_and_resolve_references()
    dataset = config.dataset
    if source not in (None, dataset.source):
        dataset.update(dict.fromkeys(("only_classes", "per_class", "test", "stream")), source=source, validation=0.1)
    if source not in (None, folder.config.dataset.source) or "dataset.only_classes" in changes:
        dataset.update(dict.fromkeys(("classes", "class_names", "class_ids", "covariance")))
    if not dataset.source:
        raise UserError("--source=URI is missing: imported weights come without images")
    for key, value in changes.items():
        if not key.startswith(_MAY_CHANGE):
            raise UserError(f"config.{key}={value}: the network is the run's; {', '.join(_MAY_CHANGE)} may change here")
        config.update_from_flattened_dict({key: value})
    if not config.transfer.views:
        config.augment.update({key: type(value)() for key, value in config.augment.items()})
    # As a run would have it that begins with this one and trains on the store.
    config.transfer.update(mode="stored", weights=str(folder.path), frozen_until=None, layer_decay=1.0, net_a=None)
    config.train.accumulate = 1
    settings.resolve(config)
    data = load(config.dataset)
    _check_division(folder, config, data)
    mesh = devices.make_mesh(None)
    whole = config.copy_and_resolve_references()
    whole.dataset.classes = folder.config.dataset.classes  # the source's may be others, and more
    trained, (graph, *shapes) = load_network(folder, mesh)[1:], network.describe(whole)
    if jax.tree.map(jnp.shape, trained) != jax.tree.map(jnp.shape, tuple(shapes)):
        theirs = folder.config.dataset
        raise UserError(
            f"config.dataset.image_size={config.dataset.image_size} with {config.dataset.channels} channels: the "
            f"layers of {folder.path} are for {theirs.image_size} pixels and {theirs.channels} channels; "
            "leave both keys out"
        )
    return extraction.extract((graph, *trained), layers, config, data, path, mesh, say)


def _check_division(folder: RunFolder, config: ConfigDict, data: Dataset) -> None:
    """Refuse to call test images what the network has been trained on."""
    theirs = folder.config.dataset.copy_and_resolve_references()
    ours_alone = data.fingerprint != folder.environment["data"]["fingerprint"]
    if ours_alone or all(config.dataset[key] == theirs[key] for key in freshness.DIVISION):
        return
    theirs.update(source=config.dataset.source, data_dir=config.dataset.data_dir)  # the same images, wherever they lie
    learnt = set(load(theirs).ids("train"))
    if seen := sum(name in learnt for name in data.ids("test")):
        was = ", ".join(f"{key}={theirs[key]}" for key in freshness.DIVISION if config.dataset[key] != theirs[key])
        raise UserError(
            f"{config.dataset.source}: {seen:,} of {data.test.total:,} test images are among those that {folder.path} "
            f"was trained on; divide them as there (config.dataset: {was})"
        )
