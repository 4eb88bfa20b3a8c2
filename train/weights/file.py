"""What a file of weights holds, whatever its format: layers in their order, each with named tensors, not read yet."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.geometry import Shape
from train.errors import UserError
from train.weights.operations import Operations


class Tensor(NamedTuple):
    """An array in a file.

    Attributes:
      name: in the file.
      shape: as the file claims it; nothing has been allocated for it.
      read: reads it, as the file has it.
    """

    name: str
    shape: Shape
    read: Callable[[], np.ndarray]


# What the tensors of a layer are to it: our names.
LEAVES = ("kernel", "bias", "scale", "mean", "var")


@dataclass(frozen=True)
class WeightsFile:
    """A file whose tensors' names, kinds and sizes are known.

    Attributes:
      path: of the file.
      format: torch, safetensors, keras, onnx or caffe.
      layers: by the file's own name of the layer and in the file's order, its tensors by what they are (`LEAVES`).
      others: tensors that belong to no layer.
      channels_first: whether kernels are `[out, in, *window]` and `[out, in]` and maps are flattened C, H, W (all but
        Keras) or `[*window, in, out]` and `[in, out]` and H, W, C.
      states: keys of a config, dotted, that the file itself gives values to.
      operations: what the file's network does, where the file says it (ONNX, whole Keras models).
      ordered: whether the layers stand in the network's order, and not in that of their names.
      ignored: tensors that no network needs, such as counters.
    """

    path: Path
    format: str
    layers: Mapping[str, Mapping[str, Tensor]]
    others: tuple[Tensor, ...] = ()
    channels_first: bool = True
    states: Mapping[str, Any] = field(default_factory=dict)
    operations: Operations | None = None
    ordered: bool = True
    ignored: tuple[Tensor, ...] = ()

    def kernels(self, kind: str) -> dict[str, Shape]:
        """Return the layers that have a kernel, "convolution" or "dense", and its shape, in the file's order."""
        shapes = {name: layer["kernel"].shape for name, layer in self.layers.items() if "kernel" in layer}
        return {name: shape for name, shape in shapes.items() if (len(shape) > 2) == (kind == "convolution")}


def in_layers(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sort tensors under PyTorch's names, LAYER.weight, into `layers`, `others` and `ignored` of a WeightsFile."""
    layers: dict[str, dict[str, Tensor]] = {}
    others, ignored = [], []
    names = {"weight": "kernel", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "num_batches_tracked":
            ignored.append(tensor)
        elif layer and last in names:
            is_norm = last == "weight" and (len(tensor.shape) < 2 or f"{layer}.running_mean" in tensors)
            layers.setdefault(layer, {})["scale" if is_norm else names[last]] = tensor
        else:
            others.append(tensor)
    return {"layers": layers, "others": tuple(others), "ignored": tuple(ignored)}


def naturally(name: str) -> list[tuple[int, str]]:
    """Return what sorts names with numbers as people count: conv2 before conv10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def checked(path: Path, kind: str, tensor: Tensor) -> Tensor:
    """Return a tensor that reads as floating-point numbers of its shape, or as one line of what is wrong.

    Raises:
      ValueError: its name cannot be shown.
    """

    def read() -> np.ndarray:
        with reading(path, kind):
            array = tensor.read()
            if array.shape != tensor.shape:
                raise ValueError(f"{tensor.name} is {array.shape}, not {tensor.shape}")
            if "float" not in array.dtype.name:
                raise UserError(f"{path}: {tensor.name} holds {array.dtype}; save it as floating-point numbers")
            return array

    return Tensor(shown(tensor.name), tensor.shape, read)


def shown(name: str) -> str:
    """Return a name of the file.

    Raises:
      ValueError: it does not fit in a line, or has characters that move the cursor.
    """
    if not name.isprintable() or len(name) > 200:
        raise ValueError(f"{name[:50]!r} is no name of a layer")
    return name


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into one line."""
    try:
        yield
    except UserError as error:
        raise UserError(_line(str(error))) from error
    except MemoryError as error:
        raise UserError(f"{path}: claims more than the memory there is; it is damaged, or no {kind} file") from error
    except Exception as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise UserError(_line(f"{path}: cannot be read as a {kind} file ({reason}); is it whole?")) from error


def _line(text: str) -> str:
    """Return a text as one line that fits a screen: names in a file may hold anything, and as much as they like."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= 1000 else f"{text[:700]} ... {text[-250:]}"
