"""Weights as Keras 3 saves them (`.weights.h5`), for the sequential model of the same layers, or keras.applications."""

import io
from collections import Counter
from typing import BinaryIO

import h5py
import numpy as np

from train.weights.metadata import RECORD


def write(output: BinaryIO, layers: dict[str, tuple[str, list[np.ndarray]]], record: str) -> None:
    """Write layers' arrays.

    Keras finds a layer by its class and by how many of that class come before it.

    Args:
      output: the open file.
      layers: by the layer's name, in the model's order: its class as Keras writes it (conv2d, dense,
        batch_normalization), and its arrays in Keras's order.
      record: what the file says about itself; Keras does not look at it.
    """
    seen: Counter[str] = Counter()
    # HDF5 does not survive a full disk: it makes its file in memory.
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file[RECORD] = record
        for name, (kind, arrays) in layers.items():
            counted = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1
            group = file.create_group(f"layers/{counted}/vars")
            group.attrs["name"] = name
            for place, array in enumerate(arrays):
                group[str(place)] = array
    output.write(made.getbuffer())
