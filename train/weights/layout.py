"""How one array lies in our tree and in another format's: order of axes, and order of what is flattened.

Ours: kernels `[*window, in, out]` and `[in, out]`, maps flattened H, W, C, which is Keras's way too. PyTorch, ONNX and
Caffe have the channels first: `[out, in, *window]`, `[out, in]` and C, H, W.
"""

import math
from typing import NamedTuple

import numpy as np

from models.geometry import Shape
from models.layers import BatchNorm, Convolution, Dense
from models.network import Network
from train.errors import UserError

# Of our batch normalisation, and torch's. Another is made up for in the variance, which may then be so far below 0.
EPSILON = 1e-5


class Slot(NamedTuple):
    """A place for an array in a network.

    Attributes:
      layer: the name of the layer in our tree.
      leaf: which of its arrays: kernel, bias, scale, mean or var.
      kind: convolution, dense or norm.
      shape: of the array.
      maps: `(*spatial, C)` of the maps that a dense kernel sees flattened; None where there are none.
    """

    layer: str
    leaf: str
    kind: str
    shape: Shape
    maps: Shape | None = None

    @property
    def name(self) -> str:
        """Return layer/leaf."""
        return f"{self.layer}/{self.leaf}"


def slots(network: Network) -> list[Slot]:
    """Return the places of a network's arrays, layer by layer; it may be one of shapes alone (nnx.eval_shape).

    Raises:
      UserError: it has layers that no other format knows.
    """
    found, shape = [], network.input_shape
    for stage in network.plan:
        for entry, layer in zip(stage.layers, network.layers_of(stage), strict=True):
            if isinstance(entry, str):
                kind = next((k for k, t in _KINDS.items() if isinstance(layer, t)), None)
                if kind is None:
                    raise UserError(
                        f"stage {stage.name}: no other format has a layer like it ({type(layer).__name__}); "
                        "scripts.export --format=stablehlo takes every network"
                    )
                maps = shape if kind == "dense" and len(shape) > 1 else None
                for leaf in _LEAVES[kind]:
                    found.append(
                        Slot(entry, leaf, kind, getattr(layer, leaf).shape, maps if leaf == "kernel" else None)
                    )
            shape = layer.output(shape)
    return found


_KINDS = {"convolution": Convolution, "dense": Dense, "norm": BatchNorm}
_LEAVES = {
    "convolution": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "norm": ("scale", "bias", "mean", "var"),
}


def theirs(slot: Slot, channels_first: bool) -> Shape:
    """Return the shape that the array has in the other format."""
    if not channels_first or slot.leaf != "kernel":
        return slot.shape
    *window, inputs, outputs = slot.shape
    return (outputs, inputs, *window)


def fits(slot: Slot, shape: Shape, channels_first: bool) -> bool:
    """Whether an array of that shape can be brought to the slot.

    A dense kernel may be written as a convolution over all of the map (timm's pre_logits).
    """
    return shape == theirs(slot, channels_first) or (channels_first and shape in _as_convolutions(slot))


def _as_convolutions(slot: Slot) -> list[Shape]:
    if slot.kind != "dense" or slot.leaf != "kernel":
        return []
    inputs, outputs = slot.shape
    *spatial, channels = slot.maps or (1, 1, inputs)
    return [(outputs, channels, *spatial)]


def action(slot: Slot, channels_first: bool) -> str:
    """Say what is done to an array on its way to the slot."""
    if not channels_first or slot.leaf != "kernel":
        return "as it is"
    if slot.kind == "convolution":
        window = "HW" if len(slot.shape) == 4 else "L"
        return f"OI{window} to {window}IO"
    return "transpose, flattened CHW to HWC" if _reorders(slot) else "transpose"


def _reorders(slot: Slot) -> bool:
    return slot.maps is not None and slot.maps[-1] > 1 and math.prod(slot.maps[:-1]) > 1


def to_ours(array: np.ndarray, slot: Slot, channels_first: bool) -> np.ndarray:
    """Return a copy of an array of the other format as the slot has it, in float32."""
    if channels_first and slot.leaf == "kernel":
        if slot.kind == "dense":
            *spatial, channels = slot.maps or (slot.shape[0],)
            array = array.reshape(slot.shape[-1], channels, *spatial)
        array = np.moveaxis(array, (0, 1), (-1, -2))
    copy = _aligned(array.shape)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes Inf, which is refused by name
        copy[...] = array
    return copy.reshape(slot.shape)


def flaw(array: np.ndarray, slot: Slot) -> str:
    """Say what makes one of our arrays useless, or nothing."""
    if array.size and not np.isfinite([array.min(), array.max()]).all():
        return "holds NaN or Inf"
    if slot.leaf == "var" and array.size and array.min() <= -EPSILON:
        return "holds a variance below 0, of which there is no root"
    return ""


def _aligned(shape: Shape) -> np.ndarray:
    """Return an array that begins at a multiple of 64 bytes: jax then takes it as it is, without another copy."""
    size = math.prod(shape) * 4
    data = np.empty(size + 64, np.uint8)
    first = -data.ctypes.data % 64
    return data[first : first + size].view(np.float32).reshape(shape)


def to_theirs(array: np.ndarray, slot: Slot, channels_first: bool) -> np.ndarray:
    """Return one of our arrays as the other format has it, a copy in one piece."""
    if channels_first and slot.leaf == "kernel":
        if slot.kind == "dense":
            *spatial, channels = slot.maps or (slot.shape[0],)
            array = array.reshape(*spatial, channels, slot.shape[-1])
        array = np.moveaxis(array, (-1, -2), (0, 1))
    return np.ascontiguousarray(array, np.float32).reshape(theirs(slot, channels_first))
