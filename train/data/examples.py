"""Labelled images in memory, as sources yield them and as batches go to the devices."""

from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    @property
    def total(self) -> int:
        """How many images."""
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """How many bytes the images are."""
        return self.images.nbytes

    def take(self, index: np.ndarray) -> "Examples":
        """Return the examples at the indices `[M]`."""
        return Examples(self.images[index], self.labels[index])

    def relabelled(self, new_label: np.ndarray) -> "Examples":
        """Return the same images, each with the new label of its old one, int32 `[classes]`."""
        return Examples(self.images, new_label[self.labels])
