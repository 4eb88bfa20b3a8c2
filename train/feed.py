"""Batches on the devices: drawn from images that lie there, or decoded on the host while the device computes."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from train import devices
from train.data.activations import Activations
from train.data.examples import Examples
from train.data.order import batch_indices
from train.data.photos import Photos
from train.data.roles import Images
from train.data.stream import BatchesInOrder, TrainingBatches, stream

# Batches that the host may be ahead of the device: enough to keep it busy, few enough to find room there.
AHEAD = 8
# Images and stored activations of more bytes than this stay where they are, and batches of them are taken ahead.
_RESIDENT_BYTES = 2**31


@contextlib.contextmanager
def training_batches(
    images: Images, config: ConfigDict, mesh: Mesh, first: int, last: int
) -> Iterator[Iterator[Examples]]:
    """Yield an iterator over the batches of steps `first` to `last - 1`, each shared by the mesh's devices.

    Args:
      images: what is trained on. Examples and stored activations are put on every device once, if they are not too
        many; otherwise, and of photos, only batches are.
      config: the whole config.
      mesh: of devices.
      first: the first step, from 0.
      last: the step after the last.
    """
    places, size = devices.by_batch(mesh), config.train.batch_size
    rows = devices.rows_here(places, size)  # of a batch, each host reads what its devices take
    if isinstance(images, Photos):
        with stream(TrainingBatches(images, config, rows), first, last, config.dataset.workers) as batches:
            yield (devices.put_rows(batch, places, size) for batch in batches)
        return
    if images.nbytes > _RESIDENT_BYTES:
        with stream(partial(_batch, images, config, rows), first, last, 0) as batches:
            yield (devices.put_rows(batch, places, size) for batch in batches)
        return
    views = images.views if isinstance(images, Activations) else 1
    everything = images.all() if isinstance(images, Activations) else images
    resident, draw = devices.put(everything, devices.replicated(mesh)), _draw(places)
    yield (draw(resident, batch_indices(images.total, size, config.seed, step, views)) for step in range(first, last))


@functools.cache  # so that each evaluation finds it compiled
def _draw(places: NamedSharding) -> Callable[[Examples, np.ndarray], Examples]:
    """Return what takes a batch out of examples that lie on the devices."""
    return jax.jit(lambda examples, indices: jax.tree.map(lambda x: x[indices], examples), out_shardings=places)


def _batch(images: Examples | Activations, config: ConfigDict, rows: np.ndarray, step: int) -> Examples:
    """Return those rows of the batch of a step, taken from where the images or activations lie."""
    views = images.views if isinstance(images, Activations) else 1
    return images.take(batch_indices(images.total, config.train.batch_size, config.seed, step, views)[rows])


def batches_in_order(
    images: Images, config: ConfigDict, mesh: Mesh, batch_size: int, first: int = 0
) -> Iterator[tuple[Examples, jax.Array]]:
    """Yield every image once, as (batch, which of its images count `[B]`), each shared by the mesh's devices.

    Args:
      images: what is looked at.
      config: the whole config.
      mesh: of devices.
      batch_size: images a batch; the last is filled up with images that do not count.
      first: the number of the batch that it begins with.
    """
    places = devices.by_batch(mesh)
    rows = devices.rows_here(places, batch_size)
    all_count = devices.put(np.ones(batch_size, bool), places)

    def counted(number: int) -> jax.Array:
        left = images.total - number * batch_size
        return all_count if left >= batch_size else devices.put(np.arange(batch_size) < left, places)

    if isinstance(images, Photos):
        make = BatchesInOrder(images, config.dataset, batch_size, rows)
        # By threads: workers take seconds to start, at each evaluation.
        with stream(make, first, len(make), 0) as batches:
            for number, batch in enumerate(batches, start=first):
                yield devices.put_rows(batch, places, batch_size), counted(number)
        return
    # Images in memory go to the devices at once: putting a small network's batch there costs a part of computing it.
    here = isinstance(images, Examples) and images.nbytes <= _RESIDENT_BYTES
    resident = devices.put(images, devices.replicated(mesh)) if here else None
    for number in range(first, -(-images.total // batch_size)):
        index = np.minimum(np.arange(number * batch_size, (number + 1) * batch_size), images.total - 1)
        if resident is None:
            batch = devices.put_rows(images.take(index[rows]), places, batch_size)
        else:
            batch = _draw(places)(resident, index)
        yield batch, counted(number)
