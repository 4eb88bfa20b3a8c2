"""Photos decoded ahead of the batches that need them, by Grain."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from train.cores import cores
from train.data import boxes
from train.data.examples import Examples
from train.data.order import batch_indices
from train.data.photos import Photos

_Batch = TypeVar("_Batch")

# More threads than this wait for Python's lock; more than this many batches ahead are memory without use.
_MOST_THREADS = 16


@dataclass(frozen=True)
class TrainingBatches:
    """Batch i of training: a pure function of (seed, i), whoever computes it and whenever.

    Attributes:
      photos: what is trained on.
      config: the whole config.
      rows: which places of the batch are made here, where hosts share it; None is all.
    """

    photos: Photos
    config: ConfigDict
    rows: np.ndarray | None = None

    def __call__(self, step: int) -> Examples:
        """Return the batch of a step."""
        count, config = self.photos.total, self.config
        indices = batch_indices(count, config.train.batch_size, config.seed, step)
        places = np.arange(len(indices)) if self.rows is None else self.rows
        return self.crops(indices[places], step, places)

    def crops(self, indices: np.ndarray, step: int, places: np.ndarray | None = None) -> Examples:
        """Return those photos, cut as in a step at those places of its batch, by default the first ones."""
        config = self.config
        smallest, jitter, size = (
            config.augment.random_resized_crop,
            config.augment.scale_jitter,
            config.dataset.image_size,
        )

        def box(place: int) -> boxes.ChooseBox:
            if not smallest and not jitter:
                return partial(boxes.middle_box, share=config.dataset.crop, size=size)
            random = np.random.default_rng((config.seed, step, place if places is None else int(places[place])))
            if jitter:
                return partial(boxes.jittered_box, random=random, scales=jitter, size=size)
            return partial(boxes.random_box, random=random, smallest=smallest)

        return self.photos.load(indices, config.dataset.image_size, config.dataset.resize, box)


@dataclass(frozen=True)
class BatchesInOrder:
    """All photos in order, their middles; the last batch is filled up with the last photo.

    Attributes:
      photos: what is looked at.
      config: the section `dataset`.
      batch_size: images a batch.
      rows: as in `TrainingBatches`.
    """

    photos: Photos
    config: ConfigDict
    batch_size: int
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return -(-self.photos.total // self.batch_size)

    def __call__(self, number: int) -> Examples:
        """Return a batch."""
        index = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        middle = partial(boxes.middle_box, share=self.config.crop, size=self.config.image_size)
        indices = np.minimum(index if self.rows is None else index[self.rows], self.photos.total - 1)
        return self.photos.load(indices, self.config.image_size, self.config.resize, lambda _: middle)


def _end_with_parent(_worker: int, _workers: int) -> None:
    """Let a worker end with its parent, neither before nor after.

    A terminal's Ctrl-C and a scheduler's SIGTERM go to the workers too, while the parent still takes a step and saves;
    and when the parent is killed, a worker would wait for ever, and keep memory and the output's pipe.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def stream(make: Callable[[int], _Batch], first: int, last: int, workers: int) -> Iterator[Iterator[_Batch]]:
    """Yield an iterator over `make(first)` to `make(last - 1)`, in this order, made ahead in the background.

    Args:
      make: a batch, from its number. With workers, it and what it returns must pickle.
      first: the first number.
      last: the number after the last.
      workers: processes, which make `Examples`; 0 are threads of this process, which suffice until Python's lock is
        what limits.
    """
    import grain  # 1 s to import, wanted by streams alone

    numbers = grain.MapDataset.range(first, last).map(make)
    threads = min(cores(), _MOST_THREADS)
    if workers:
        if not flags.FLAGS.is_parsed():  # by whoever is no command; Grain's workers ask for flags
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        workers_of = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        batches = iter(numbers.to_iter_dataset(options).mp_prefetch(workers_of, _end_with_parent))
    else:
        batches = iter(numbers.to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads + 1)))
    # Copies, for batches of workers lie in memory shared with them, which is freed with the original.
    copies = (jax.tree.map(np.array, batch) for batch in batches)
    try:
        yield copies if workers else batches
    finally:
        copies.close()  # whoever is left with it after an error, does not hold the iterator
        batches.close()
        if workers:  # the iterator, a cycle, holds the last batches in that memory
            del batches
            gc.collect()
            # Grain frees it in a thread, one batch behind the other. At the end of the process it would be too late.
            if freeing := grain.multiprocessing.SharedMemoryArray._del_thread_pool:
                freeing.apply(int)
