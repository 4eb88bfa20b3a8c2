"""The activation store: what a network makes of every image is computed once, and written where training can read it.

A store says what its activations are of: the weights by layer, the preparation of images, the data record by record,
the views. Whoever comes back to it with anything else is told what has changed. Files are written in the order of the
rows and appear whole, so an extraction that was killed goes on behind the last one, to the same bytes.
"""

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, json_file, network
from train.data.activations import (
    MANIFEST,
    UNFINISHED,
    VERSION,
    Activations,
    Record,
    Store,
    as_stored,
    read_manifest,
    records_name,
    shard_name,
)
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.roles import Dataset, Images
from train.data.stream import TrainingBatches, stream
from train.data.transforms import augment, normalise
from train.errors import UserError
from train.features import freshness
from train.feed import batches_in_order
from train.network import Described
from train.run import to_json
from train.whole import lock, whole_file, write_whole

# Rows a file: what a kill can cost, a few seconds of AlexNet on two cores. It is fewer where they would take more
# memory, but never so few that training images made more files than a quarter of what a process may open (1,024).
_SHARD_ROWS, _SHARDS, _SHARD_BYTES = 512, 256, 2**27


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
    manifest, records = _manifest(part, layers, config, data, mesh), _records(config, data)
    if (path / MANIFEST).is_file():
        freshness.check(path, read_manifest(path / MANIFEST), manifest, records, finished=True)
        return Store(path)
    with lock(path):
        if (path / UNFINISHED).is_file():
            there = read_manifest(path / UNFINISHED)
            freshness.check(path, there, manifest, records, finished=False)
            if there["batch_size"] % mesh.size:
                raise UserError(
                    f"{path}: was begun with batches of {there['batch_size']} images, and {mesh.size} devices "
                    "cannot share those equally; go on with as many as before, or remove the folder"
                )
            manifest = there
        try:
            _write_all(part, layers, config, data, records, manifest, path, mesh, say)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); make room, and run the same command again"
            ) from error
        return Store(path)


def _manifest(
    part: Described, layers: tuple[str, ...], config: ConfigDict, data: Dataset, mesh: Mesh
) -> dict[str, Any]:
    """Return what store.json says."""
    transfer, each = config.transfer, mesh.size
    shapes = jax.eval_shape(_forward(part, layers, config), *part[1:], _sample(config))
    row_bytes = sum(math.prod(shape.shape) for shape in shapes) * jnp.dtype(transfer.dtype).itemsize
    fewest = -(-data.train.total * max(1, transfer.views) // _SHARDS)
    shard_rows = max(1, fewest, min(_SHARD_ROWS, _SHARD_BYTES // row_bytes))
    batch = -(-min(config.evaluate.batch_size, shard_rows) // each) * each
    manifest = {
        "version": VERSION,
        "of": freshness.identity(part, config, data),
        "layers": {layer: list(shape.shape[1:]) for layer, shape in zip(layers, shapes, strict=True)},
        "dtype": transfer.dtype,
        "splits": {role: images.total for role, images in data.roles().items()},
        "batch_size": batch,
        "shard_rows": max(1, shard_rows // batch, -(-fewest // batch)) * batch,
        "config": config.to_dict(),
    }
    return dict(json.loads(json.dumps(manifest)))  # as it will be read: tuples are lists


def _records(config: ConfigDict, data: Dataset) -> dict[str, list[Record]]:
    names = config.dataset.class_names or [str(label) for label in range(config.dataset.classes)]
    return {
        role: [
            Record(name, digest, names[label])
            for name, digest, label in zip(data.ids(role), data.digests(role), images.labels.tolist(), strict=True)
        ]
        for role, images in data.roles().items()
    }


def _write_all(
    part: Described,
    layers: tuple[str, ...],
    config: ConfigDict,
    data: Dataset,
    records: Mapping[str, list[Record]],
    manifest: dict[str, Any],
    path: Path,
    mesh: Mesh,
    say: Callable[[str], None],
) -> None:
    listed = {records_name(role) for role in records} | {f"{role}-label.npy" for role in records}
    if not (path / UNFINISHED).exists():
        if {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} - listed:
            raise UserError(f"{path}: holds files that are no store's; choose another folder")
        for role, images in data.roles().items():
            text = json.dumps(records[role], indent=0).encode() + b"\n"
            if not json_file.fits(text):
                raise UserError(
                    f"{path}: {images.total:,} images are more than a store can list; extract the classes in parts "
                    "(config.dataset.only_classes)"
                )
            write_whole(path / records_name(role), text)
            _write_array(path / f"{role}-label.npy", np.asarray(images.labels, np.int32))
        write_whole(path / UNFINISHED, to_json(manifest))  # last: from here on, others are compared with it
    dtype = jnp.dtype(manifest["dtype"])
    everywhere = devices.replicated(mesh)
    params, stats = jax.device_put((network.narrowed(part[1], config.precision), part[2]), everywhere)

    @functools.cache  # one for all splits that are prepared alike
    def program(views: bool) -> Callable[..., Any]:
        forward = _forward(part, layers, config, views=views, dtype=dtype)
        return devices.jit(forward, config.precision, mesh)

    for role, images in data.roles().items():
        views = config.transfer.views if role == "train" else 0
        rows, shard_rows, size = images.total * max(1, views), manifest["shard_rows"], manifest["batch_size"]
        names = [[shard_name(role, layer, number) for layer in layers] for number in range(-(-rows // shard_rows))]
        done = next((n for n, files in enumerate(names) if not all((path / f).exists() for f in files)), len(names))
        if done == len(names):
            continue
        first = done * (shard_rows // size)
        batches = (
            _augmented(images, config, mesh, size, rows, first)
            if views
            else _in_order(images, config, mesh, size, first)
        )
        buffer: list[list[np.ndarray]] = [[] for _ in layers]
        filled, number = 0, done
        for batch, activations in _computed(program(bool(views)), params, stats, batches):
            count = min(size, rows - batch * size)
            for kept, array in zip(buffer, jax.device_get(activations), strict=True):
                kept.append(array[:count])
            filled += count
            if filled == min(shard_rows, rows - number * shard_rows):
                for layer, file, kept in zip(layers, names[number], buffer, strict=True):
                    rows_of_file = np.concatenate(kept)
                    kept.clear()
                    if not np.isfinite(rows_of_file).all():
                        raise UserError(
                            f"{path / file}: an activation of {layer} is not finite as {dtype.name}; "
                            + ("store them as bfloat16" if dtype.name == "float16" else "the network is of no use")
                        )
                    _write_array(path / file, as_stored(rows_of_file))
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
    make = functools.partial(_view_batch, images, config, size, rows)
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
        if len(waiting) > 2:
            yield waiting.pop(0)
    yield from waiting


def _write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as file:
        np.save(file, array, allow_pickle=False)
