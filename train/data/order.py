"""Which images make batch i: a pure function of (seed, i), so that a run resumes from its step alone."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `count` images in an epoch, int32 `[count]`."""
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)


def batch_indices(count: int, batch_size: int, seed: int, step: int, views: int = 1) -> np.ndarray:
    """Return which of `count` images make the batch of a step, int32 `[batch_size]`.

    Of images with several views, epoch e takes view e modulo `views`: view v of image i has the index `v * count + i`.

    The epochs' orders follow one another without a gap, so a batch may hold the end of one epoch and the beginning of
    the next: each image is drawn once an epoch, and none is dropped.
    """
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = position // count
    return np.concatenate(
        [
            permutation(count, seed, int(epoch))[position[epochs == epoch] % count] + int(epoch) % views * count
            for epoch in np.unique(epochs)
        ]
    )
