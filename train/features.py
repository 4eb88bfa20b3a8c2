"""The activation store: what a network makes of every image is computed once, and written where training can read it.

A store says what its activations are of: the weights by layer, the preparation of images, the data record by record,
the views. Whoever comes back to it with anything else is told what has changed. Files are written in the order of the
rows and appear whole, so an extraction that was killed goes on behind the last one, to the same bytes.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, freshness, network, settings
from train.checkpoints import load_network
from train.data.activations import (
    MANIFEST,
    UNFINISHED,
    VERSION,
    Activations,
    Store,
    as_stored,
    read_manifest,
    shard_name,
)
from train.data.dataset import Dataset, Images, load
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.stream import TrainingBatches, stream
from train.data.transforms import augment, normalise
from train.errors import UserError
from train.feed import AHEAD, batches_in_order
from train.network import Described
from train.run import RunFolder, lock, to_json, write_whole

# Images a file, at most: what a kill can cost, a few seconds of AlexNet on two cores.
_SHARD_IMAGES = 512
# Sections and keys of a run's config that may be other where its network looks at other images.
_MAY_CHANGE = ("dataset.", "augment.", "seed", "precision", "evaluate.batch_size", "transfer.dtype", "transfer.views")


def extract(
    described: Described,
    layers: tuple[str, ...],
    config: ConfigDict,
    data: Dataset,
    path: Path,
    mesh: Mesh,
    say: Callable[[str], None] = lambda line: None,
) -> Store:
    """Make a store, go on with an unfinished one, or open a finished one that is of the same.

    Args:
      described: the network as (graph, parameters, batch statistics), up to the last of the layers or further.
      layers: names of stages.
      config: complete; transfer.dtype and transfer.views say how activations are stored.
      data: of the images.
      path: the folder.
      mesh: of devices.
      say: is told how far it is.

    Raises:
      UserError: the store is of something else (says what has changed), or cannot be written; a stage is unknown.
    """
    part = described
    stages = [stage.name for stage in nnx.merge(*described).plan]
    for layer in layers:
        if layer not in stages:
            raise UserError(f"--layer={layer}: the network has the stages {', '.join(stages)}")
    layers = tuple(sorted(set(layers), key=stages.index))
    if layers[-1] != stages[-1]:
        part = network.split(network.divide(described, layers[-1])[0])
    records = {role: list(zip(data.ids(role), data.digests(role), strict=True)) for role in data.roles()}
    with lock(path):
        manifest = _manifest(part, layers, config, data, mesh)
        for name in (MANIFEST, UNFINISHED):
            if (path / name).is_file():
                there = read_manifest(path / name)
                freshness.check(path, there, manifest, records, finished=name == MANIFEST)
                manifest = there
                break
        if (path / MANIFEST).is_file():
            return Store(path)
        try:
            _write_all(part, layers, config, data, records, manifest, path, mesh, say)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); make room, and run the same command again"
            ) from error
        return Store(path)


def extract_from(
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
      UserError: as `extract`, or the run or the source cannot be read, or a key is not for extraction.
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
    mesh = devices.make_mesh(None)
    described = load_network(folder, mesh)
    return extract(described, layers, config, data, path, mesh, say)


def dataset_of(store: Store, layer: str, skipped: tuple[str, ...] = ()) -> Dataset:
    """Return a store's splits as what a network is trained on."""
    splits = {split: store.activations(split, layer) for split in store.splits}
    of = store.manifest["of"]["data"]
    return Dataset(
        splits["train"], splits.get("validation"), splits["test"], of["test_split"], of["fingerprint"], skipped, {}
    )


def _manifest(
    part: Described, layers: tuple[str, ...], config: ConfigDict, data: Dataset, mesh: Mesh
) -> dict[str, Any]:
    """Return what store.json says; nothing in it depends on when and where it is made."""
    transfer = config.transfer
    shapes = jax.eval_shape(_forward(part, layers, config), *part[1:], _sample(config))
    each = mesh.shape["data"]
    batch = -(-min(config.evaluate.batch_size, _SHARD_IMAGES) // each) * each
    manifest = {
        "version": VERSION,
        "of": freshness.identity(part, config, data),
        "layers": {layer: list(shape.shape[1:]) for layer, shape in zip(layers, shapes, strict=True)},
        "dtype": transfer.dtype,
        "splits": {role: images.total for role, images in data.roles().items()},
        "batch_size": batch,
        "shard_rows": max(1, _SHARD_IMAGES // batch) * batch,
        "config": config.to_dict(),
        "skipped": list(data.skipped),
    }
    return dict(json.loads(json.dumps(manifest)))  # as it will be read: tuples are lists


def _write_all(
    part: Described,
    layers: tuple[str, ...],
    config: ConfigDict,
    data: Dataset,
    records: Mapping[str, list[tuple[str, str]]],
    manifest: dict[str, Any],
    path: Path,
    mesh: Mesh,
    say: Callable[[str], None],
) -> None:
    listed = {f"{role}-records.json" for role in records} | {f"{role}-label.npy" for role in records}
    if not (path / UNFINISHED).exists():
        if {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} - listed:
            raise UserError(f"{path}: holds files that are no store's; choose another folder")
        for role, images in data.roles().items():
            write_whole(path / f"{role}-records.json", json.dumps(records[role], indent=0) + "\n")
            _write_array(path / f"{role}-label.npy", np.asarray(images.labels, np.int32))
        write_whole(path / UNFINISHED, to_json(manifest))  # last: from here on, others are compared with it
    dtype = jnp.dtype(manifest["dtype"])
    everywhere = devices.replicated(mesh)
    params, stats = jax.device_put(part[1:], everywhere)
    options = devices.compiler_options(config.precision)
    for role, images in data.roles().items():
        views = config.transfer.views if role == "train" else 0
        rows, shard_rows, size = images.total * max(1, views), manifest["shard_rows"], manifest["batch_size"]
        names = [[shard_name(role, layer, number) for layer in layers] for number in range(-(-rows // shard_rows))]
        done = next((n for n, files in enumerate(names) if not all((path / f).exists() for f in files)), len(names))
        if done == len(names):
            continue
        forward = jax.jit(_forward(part, layers, config, views=bool(views), dtype=dtype), compiler_options=options)
        first = done * (shard_rows // size)
        batches = (
            _augmented(images, config, mesh, size, rows, first)
            if views
            else _in_order(images, config, mesh, size, first)
        )
        buffer: list[list[np.ndarray]] = [[] for _ in layers]
        filled, number = 0, done
        for batch, activations in _computed(forward, params, stats, batches):
            count = min(size, rows - batch * size)
            for kept, array in zip(buffer, jax.device_get(activations), strict=True):
                kept.append(array[:count])
            filled += count
            if filled == min(shard_rows, rows - number * shard_rows):
                for file, kept in zip(names[number], buffer, strict=True):
                    _write_array(path / file, as_stored(np.concatenate(kept)))
                    kept.clear()
                filled, number = 0, number + 1
                say(f"{role}: activations of {min(number * shard_rows, rows):,} of {rows:,} images")
    for draft in path.glob(".*.draft"):  # of one that was killed
        draft.unlink()
    (path / UNFINISHED).replace(path / MANIFEST)


def _forward(
    part: Described, layers: tuple[str, ...], config: ConfigDict, *, views: bool = False, dtype: Any = None
) -> Callable[..., tuple[jax.Array, ...]]:
    """Return `forward(params, stats, images, number)`: the activations of the layers, the images of views augmented."""

    def forward(params: Any, stats: Any, images: jax.Array, number: Any = 0) -> tuple[jax.Array, ...]:
        if views:
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            images = augment(key, images, config.augment, config.dataset)
        found = dict(nnx.merge(part[0], params, stats).stages(normalise(images, config.dataset)))
        return tuple(found[layer] if dtype is None else found[layer].astype(dtype) for layer in layers)

    return forward


def _sample(config: ConfigDict) -> jax.ShapeDtypeStruct:
    side = config.dataset.image_size
    return jax.ShapeDtypeStruct((1, side, side, config.dataset.channels), jnp.uint8)


def _in_order(images: Images, config: ConfigDict, mesh: Mesh, size: int, first: int) -> Iterator[tuple[int, jax.Array]]:
    for number, (batch, _) in enumerate(batches_in_order(images, config, mesh, size, first), start=first):
        yield number, jnp.asarray(batch.images)


def _augmented(
    images: Images, config: ConfigDict, mesh: Mesh, size: int, rows: int, first: int
) -> Iterator[tuple[int, jax.Array]]:
    """Yield batches of the rows from all views; a batch's crops are those of a training step of the same number."""
    assert not isinstance(images, Activations)
    make = partial(_view_batch, images, config, size, rows)
    with stream(make, first, -(-rows // size), 0) as batches:
        for number, batch in enumerate(batches, start=first):
            yield number, jax.device_put(batch.images, devices.by_batch(mesh))


def _view_batch(images: Examples | Photos, config: ConfigDict, size: int, rows: int, number: int) -> Examples:
    indices = np.minimum(np.arange(number * size, (number + 1) * size), rows - 1) % images.total
    if isinstance(images, Photos):
        return TrainingBatches(images, config).crops(indices, number)
    return images.take(indices)


def _computed(
    forward: Callable[..., Any], params: Any, stats: Any, batches: Iterator[tuple[int, jax.Array]]
) -> Iterator[tuple[int, tuple[jax.Array, ...]]]:
    """Yield each batch's number and activations, while the device computes the next and the host decodes further."""
    waiting: list[tuple[int, tuple[jax.Array, ...]]] = []
    for number, images in batches:
        waiting.append((number, forward(params, stats, images, number)))
        if len(waiting) > min(2, AHEAD):
            yield waiting.pop(0)
    yield from waiting


def _write_array(path: Path, array: np.ndarray) -> None:
    """Write an array so that the file appears whole."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
