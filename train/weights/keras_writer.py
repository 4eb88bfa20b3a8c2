"""Weights as Keras 3 saves them (`.weights.h5`), for the sequential model of the same layers, or keras.applications."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from train.weights.metadata import RECORD


def write(path: Path, layers: dict[str, tuple[str, list[np.ndarray]]], record: str) -> None:
    """Write layers' arrays.

    Keras finds a layer by its class and by how many of that class come before it.

    Args:
      path: the file.
      layers: by the layer's name, in the model's order: its class as Keras writes it (conv2d, dense,
        batch_normalization), and its arrays in Keras's order.
      record: what the file says about itself; Keras does not look at it.
    """
    seen: Counter[str] = Counter()
    with h5py.File(path, "w") as file:
        file[RECORD] = record
        for name, (kind, arrays) in layers.items():
            counted = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1
            group = file.create_group(f"layers/{counted}/vars")
            group.attrs["name"] = name
            for place, array in enumerate(arrays):
                group[str(place)] = array
