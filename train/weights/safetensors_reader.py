"""safetensors files, under the names of torchvision, timm or our own export."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from train.weights.file import Tensor, WeightsFile, checked, in_layers, naturally, reading
from train.weights.metadata import RECORD, config_states


def read(path: Path) -> WeightsFile:
    """Read the names and shapes of a file's tensors.

    Raises:
      UserError: it is damaged.
    """

    def tensor(name: str, shape: list[int]) -> Tensor:
        def read_one() -> np.ndarray:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)

        return checked(path, "safetensors", Tensor(name, tuple(shape), read_one))

    with reading(path, "safetensors"), safe_open(path, framework="numpy") as file:
        # Writers sort by size or name; order is the names', as people count.
        names = sorted(file.keys(), key=naturally)
        tensors = {name: tensor(name, file.get_slice(name).get_shape()) for name in names}
        metadata = file.metadata() or {}
        states = config_states(metadata[RECORD], path) if RECORD in metadata else {}
    return WeightsFile(path, "safetensors", **in_layers(tensors), states=states, ordered=False)
