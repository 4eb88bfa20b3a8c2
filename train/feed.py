"""Batches on the devices: drawn from images that lie there, or decoded on the host while the device computes."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices
from train.data.examples import Examples
from train.data.order import batch_indices
from train.data.photos import Photos
from train.data.stream import BatchesInOrder, TrainingBatches, stream

# Batches that the host may be ahead of the device: enough to keep it busy, few enough to find room there.
AHEAD = 8


@contextlib.contextmanager
def training_batches(
    images: Examples | Photos, config: ConfigDict, mesh: Mesh, first: int, last: int
) -> Iterator[Iterator[Examples]]:
    """Yield an iterator over the batches of steps `first` to `last - 1`, each shared by the mesh's devices.

    Args:
      images: what is trained on. Examples are put on every device once; of photos, only batches are.
      config: the whole config.
      mesh: of devices.
      first: the first step, from 0.
      last: the step after the last.
    """
    places = devices.by_batch(mesh)
    if isinstance(images, Photos):
        with stream(TrainingBatches(images, config), first, last, config.dataset.workers) as batches:
            yield (jax.device_put(batch, places) for batch in batches)
        return
    resident = jax.device_put(images, devices.replicated(mesh))
    draw = jax.jit(lambda examples, indices: jax.tree.map(lambda x: x[indices], examples), out_shardings=places)
    yield (
        draw(resident, batch_indices(images.total, config.train.batch_size, config.seed, step))
        for step in range(first, last)
    )


def batches_in_order(
    images: Examples | Photos, config: ConfigDict, mesh: Mesh, batch_size: int
) -> Iterator[tuple[Examples, jax.Array]]:
    """Yield every image once, as (batch, which of its images count `[B]`), each shared by the mesh's devices.

    Args:
      images: what is looked at.
      config: the whole config.
      mesh: of devices.
      batch_size: images a batch; the last is filled up with images that do not count.
    """
    places = devices.by_batch(mesh)

    def counted(number: int) -> np.ndarray:
        return np.arange(number * batch_size, (number + 1) * batch_size) < images.total

    if isinstance(images, Photos):
        make = BatchesInOrder(images, config.dataset, batch_size)
        with stream(make, 0, len(make), 0) as batches:  # by threads: workers take seconds to start, at each evaluation
            for number, batch in enumerate(batches):
                yield jax.device_put((batch, counted(number)), places)
        return
    for number in range(-(-images.total // batch_size)):
        index = np.arange(number * batch_size, (number + 1) * batch_size)
        yield jax.device_put((images.take(np.minimum(index, images.total - 1)), counted(number)), places)
