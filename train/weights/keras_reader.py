"""Keras's HDF5 files: weights and whole models of Keras 2 (`.h5`), and weights of Keras 3 (`.weights.h5`)."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.arithmetic import Window
from train.errors import UserError
from train.weights.file import Tensor, WeightsFile, checked, naturally, reading, shown
from train.weights.metadata import RECORD, config_states
from train.weights.operations import Operations

# By how many there are, in Keras's order.
_LEAVES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("scale", "bias", "mean", "var")}
_NOTHING = ("InputLayer", "Dropout", "Flatten", "Softmax")
# Groups of Keras 3 that are no layers: what training and dropout remember.
_NO_LAYERS = ("optimizer", "seed_generator")
_LISTING = Path(__file__).with_name("hdf5_listing.py")

# As `hdf5_listing.listing` returns it.
Listing = Mapping[str, Mapping[str, Any]]


def read(path: Path) -> WeightsFile:
    """Read the names and shapes of a file's tensors; of a whole sequential model also what it does.

    Raises:
      ModuleNotFoundError: h5py is not installed.
      UserError: the file is damaged, or has layers that none of our networks has; names the layer.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")
    with reading(path, "Keras"):
        items = _listing(path)
        ours = f"/{RECORD}" in items
        states = config_states(items[f"/{RECORD}"]["text"], path) if ours else {}
        root = "/model_weights" if "/model_weights" in items else ""
        pairs = _of_keras2(items, root) if "layer_names" in items[root]["attributes"] else _of_keras3(items)
        layers: dict[str, Mapping[str, Tensor]] = {}
        for name, arrays in pairs:
            if name in layers:
                raise ValueError(f"there are two layers {name}")
            if len(arrays) not in _LEAVES:
                raise UserError(
                    f"{path}: layer {name} has {len(arrays)} arrays, as no layer of our networks has; it takes "
                    "LeNet-5, AlexNet or VGG"
                )
            if len(arrays) == 4 and not ours:
                # Keras's default is 1e-3, ours and torch's 1e-5, and the file does not have it.
                raise UserError(
                    f"{path}: layer {name} is a batch normalisation, whose epsilon is not in the file; save it from "
                    "PyTorch"
                )
            tensors = [_tensor(path, place, items[place]) for place in arrays]
            layers[shown(name)] = dict(zip(_LEAVES[len(arrays)], tensors, strict=True))
        if not layers:
            raise UserError(f"{path}: holds no layer of Keras; save the model's weights with save_weights")
        model = json.loads(items[""]["attributes"].get("model_config", "{}"))
        steps = None
        if model.get("class_name") == "Sequential":
            steps = _steps(path, model["config"]["layers"])
            states = {"dataset.image_size": steps.input_shape[0], "dataset.channels": steps.input_shape[2], **states}
    # A model of Keras 3 that is neither sequential nor functional has its layers under the names of attributes.
    ordered = "layer_names" in items[root]["attributes"] or any(place.startswith("/layers/") for place in items)
    return WeightsFile(path, "keras", layers, channels_first=False, states=states, operations=steps, ordered=ordered)


def _listing(path: Path) -> Listing:
    command = [sys.executable, "-P", str(_LISTING), str(path)]
    # As many threads as there are cores would each take of the process's memory.
    lister = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    if lister.returncode < 0:
        raise ValueError("HDF5's library does not come to its end")
    if lister.returncode:
        raise ValueError(lister.stderr.strip().rpartition("\n")[2])
    items: Listing = json.loads(lister.stdout)
    if links := [place for place, item in items.items() if "link" in item]:
        raise ValueError(f"{links[0]} is a link, which Keras writes none of")
    return items


def _of_keras2(items: Listing, root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each layer's name, and where its arrays lie."""
    for layer in items[root]["attributes"]["layer_names"]:
        weights = items[f"{root}/{layer}"]["attributes"]["weight_names"]
        if weights:
            yield layer, [f"{root}/{layer}/{weight}" for weight in weights]


def _of_keras3(items: Listing) -> Iterator[tuple[str, list[str]]]:
    """Yield as `_of_keras2`: each group `vars`, in the order of their paths, which count layers of a class."""
    arrays: dict[str, list[str]] = {}
    for place in sorted((place for place, item in items.items() if "shape" in item), key=naturally):
        group = place.rpartition("/")[0]
        if group.endswith("/vars") and not set(_NO_LAYERS) & set(group.split("/")):
            arrays.setdefault(group, []).append(place)
    for group, places in arrays.items():
        yield items[group]["attributes"].get("name", group.split("/")[-2]), places


def _tensor(path: Path, place: str, item: Mapping[str, Any]) -> Tensor:
    if item["offset"] is None:
        raise ValueError(f"{place} does not lie in one piece in this file, as Keras writes it")
    shape, kind, start = tuple(item["shape"]), np.dtype(item["dtype"]), item["offset"]
    count = math.prod(shape)
    if kind.kind != "f":
        raise ValueError(f"{place} holds {kind}, not floating-point numbers")
    if start + count * kind.itemsize > path.stat().st_size:
        raise ValueError(f"{place} claims {count:,} numbers")

    def read() -> np.ndarray:
        return np.fromfile(path, kind, count, offset=start).reshape(shape)

    return checked(path, "Keras", Tensor(place.removeprefix("/"), shape, read))


def _steps(path: Path, layers: list[dict[str, Any]]) -> Operations:
    """Read what a sequential model does."""
    config = layers[0]["config"]
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    known = shape and len(shape) == 4 and all(isinstance(side, int) and side > 0 for side in shape[1:])
    if not known or shape[1] != shape[2]:
        raise UserError(
            f"{path}: takes {shape}, not square images [B, H, W, C] of a size that is known; save the model with an "
            "Input of that shape"
        )
    steps = Operations(tuple(shape[1:]))
    softmax = None
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        if softmax and kind not in _NOTHING:
            raise UserError(
                f"{path}: layer {config['name']} stands behind the softmax of {softmax}, not before it; save the "
                "model without it"
            )
        if config.get("data_format", "channels_last") != "channels_last":
            raise UserError(f"{path}: layer {config['name']} has its channels first; save the model channels last")
        match kind:
            case "Conv2D":
                steps.slide(
                    "convolution", _windows(steps, config), _count(config, "filters"), groups=config.get("groups", 1)
                )
            case "MaxPooling2D" | "AveragePooling2D":
                if kind.startswith("Average") and config["padding"] == "same":
                    raise UserError(
                        f"{path}: layer {config['name']} averages over padding; save the model with padding='valid' "
                        "there"
                    )
                steps.slide("max_pool" if kind.startswith("Max") else "average_pool", _windows(steps, config))
            case "Dense":
                steps.dense(_count(config, "units"))
            case "Rescaling":
                raise UserError(
                    f"{path}: layer {config['name']} prepares images; save the model without it, and give "
                    f"--config.dataset.mean and .std (it multiplies by {config['scale']:g}, adds {config['offset']:g})"
                )
            case "ReLU" if any(config.get(key) for key in ("max_value", "negative_slope", "threshold")):
                raise UserError(
                    f"{path}: layer {config['name']} is a ReLU with bounds, which none of our networks has; it takes "
                    "LeNet-5, AlexNet or VGG"
                )
            case "ReLU" | "Activation":
                pass
            case _ if kind not in _NOTHING:
                raise UserError(
                    f"{path}: layer {config['name']} is a {kind}, which none of our networks has; it takes LeNet-5, "
                    "AlexNet or VGG"
                )
        activation = {"ReLU": "relu", "Softmax": "softmax"}.get(kind, config.get("activation", "linear"))
        if activation in ("relu", "tanh"):
            steps.each(activation)
        elif activation == "softmax":
            softmax = config["name"]
        elif activation != "linear":
            raise UserError(
                f"{path}: layer {config['name']} activates with {activation}, as none of our networks does; it takes "
                "LeNet-5, AlexNet or VGG"
            )
    return steps


def _count(config: dict[str, Any], key: str) -> int:
    if not isinstance(config[key], int) or config[key] < 1:
        raise ValueError(f"layer {config['name']} has {config[key]!r} {key}")
    return config[key]


def _windows(steps: Operations, config: dict[str, Any]) -> tuple[Window, ...]:
    sizes = config.get("kernel_size") or config["pool_size"]
    dilations = config.get("dilation_rate", (1, 1))
    same = {"same": True, "valid": False}[config["padding"]]
    windows = []
    for side, size, stride, dilation in zip(steps.shape, sizes, config["strides"], dilations, strict=False):
        windows.append(Window.same(side, size, stride, dilation) if same else Window(size, stride, dilation=dilation))
    return tuple(windows)
