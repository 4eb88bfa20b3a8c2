"""Labelled images, as every source yields them."""

from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: np.ndarray) -> "Examples":
        """Return the examples at the indices `[M]`."""
        return Examples(self.images[index], self.labels[index])
