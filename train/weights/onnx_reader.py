"""ONNX graphs of networks with one path from image to logits: tensors, and what is done with them, step by step."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.arithmetic import Window
from models.geometry import Windows
from models.pooling import AdaptiveAveragePool
from train.errors import UserError
from train.weights.file import Tensor, WeightsFile, checked, reading
from train.weights.layout import EPSILON
from train.weights.metadata import RECORD, config_states
from train.weights.operations import Operation, Operations

# What changes nothing outside of training.
_NOTHING = ("Identity", "Dropout")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
_NARROW = "tanh of two thirds"  # half of what LeNet-5 of 1998 activates with
_LONGEST_SHAPE = 64  # numbers
_ACTIVATIONS = {"Relu": "relu", "Tanh": "tanh"}


def read(path: Path, image_size: int | None) -> WeightsFile:
    """Read a graph.

    Args:
      path: the file.
      image_size: in pixels, of graphs that take images of any.

    Raises:
      UserError: it is damaged, or does what none of our networks does; names the node.
    """
    with reading(path, "ONNX"):
        model = onnx.load(path, format="protobuf", load_external_data=False)
        if not model.graph.node:
            raise UserError(f"{path}: holds no ONNX graph; export it again")
        graph = _Graph(path, model.graph, image_size)
        for node in model.graph.node:
            graph.take(node)
        texts = [entry.value for entry in model.metadata_props if entry.key == RECORD]
        states = config_states(texts[0], path) if texts else {}
    states = {
        "dataset.image_size": graph.steps.input_shape[0],
        "dataset.channels": graph.steps.input_shape[2],
        **states,
    }
    return WeightsFile(path, "onnx", graph.layers, states=states, operations=graph.steps)


class _Graph:
    """Follows the path from the image, and collects layers on its way."""

    def __init__(self, path: Path, graph: Any, image_size: int | None) -> None:
        self._path = path
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._made: dict[str, np.ndarray] = {}  # constants that nodes have made of others
        self._room = 2 * path.stat().st_size + 2**16  # bytes that they may still take
        images = [value for value in graph.input if value.name not in self._constants]
        sides = [side.dim_value for side in images[0].type.tensor_type.shape.dim] if len(images) == 1 else []
        if len(sides) != 4:
            raise UserError(
                f"{path}: takes {len(images)} inputs of {len(sides)} dimensions, not images [B, C, H, W]; export it "
                "with those alone"
            )
        _, channels, height, width = sides
        if image_size is not None and height in (0, image_size):
            height = width = image_size
        if height < 1 or height != width or channels not in (1, 3):
            raise UserError(
                f"{path}: takes images [C, H, W] of {sides[1:]}; they must be square, with one channel or three"
                + ("" if height else ", and --config.dataset.image_size says how large, as the file does not")
            )
        self.steps = Operations((height, width, channels))
        self.layers: dict[str, dict[str, Tensor]] = {}
        self._at = images[0].name
        self._flat = False  # whether maps have been flattened since the last of them
        # What the node before leaves to the next: a layer without a bias, which may follow; or half of something whose
        # other half must, by the kind of its node: rows averaged to so many, what a Tanh sees made smaller.
        self._needs_bias: str | None = None
        self._half: tuple[str, int] | None = None
        self._softmax = False

    def take(self, node: Any) -> None:
        """Go on through a node; one that works on constants alone makes another."""
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.domain not in ("", "ai.onnx"):
            raise self._cannot(node, f"is of {node.domain}, not of ONNX")
        if node.op_type == "Constant":
            self._keep(node, attributes)
            return
        if node.op_type == "Shape" and list(node.input) == [self._at] and not attributes:
            *spatial, channels = self.steps.shape
            self._made[node.output[0]] = np.array([0, channels, *spatial])  # to Reshape, 0 is as many as there are
            return
        if self._at not in node.input:
            if not self._fold(node, attributes):
                raise self._cannot(node, "is not on the path from the image to the logits")
            return
        if self._softmax and node.op_type not in _NOTHING:
            raise self._cannot(node, "stands behind a softmax, not before it")
        if attributes.get("training_mode"):
            raise self._cannot(node, "is as in training; export the model in its evaluation mode")
        needs_bias, self._needs_bias = self._needs_bias, None
        half, self._half = self._half, None
        if half and node.op_type != half[0]:
            raise self._cannot(node, f"must be {half[0]} behind what is before it")
        match node.op_type:
            case "Conv":
                self._convolution(node, attributes)
            case "MatMul" if len(self.steps.shape) == 3 and not self._flat:
                self._adaptive(node, half)
            case "Gemm" | "MatMul":
                self._dense(node, attributes)
            case "Add" if needs_bias:
                other = next(name for name in node.input if name != self._at)
                self._layer(needs_bias)["bias"] = self._bias(node, other, first_axis=attributes.get("axis") == 1)
            case "BatchNormalization":
                self._norm(node, attributes)
            case "MaxPool" | "AveragePool":
                self._pool(node, attributes)
            case "LRN":
                self.steps.each(
                    "local_response_norm",
                    size=attributes["size"],
                    alpha=attributes.get("alpha", 1e-4),
                    beta=attributes.get("beta", 0.75),
                    k=attributes.get("bias", 1.0),
                )
            case "Tanh" if half:
                self.steps.each(_NARROW)
            case "Relu" | "Tanh":
                self.steps.each(_ACTIVATIONS[node.op_type])
            case "Mul":
                self._scale(node)
            case "Flatten" | "Reshape":
                self._flatten(node, attributes)
            case "Softmax" | "LogSoftmax":
                self._softmax = True
            case "Cast" if attributes["to"] in _FLOATS:
                pass
            case kind if kind not in _NOTHING:
                raise self._cannot(node, "is none of what LeNet-5, AlexNet and VGG do")
        self._at = node.output[0]

    def _convolution(self, node: Any, attributes: dict[str, Any]) -> None:
        kernel = self._tensor(node.input[1])
        sides = kernel.shape[2:]
        windows = self._windows(node, attributes, sides)
        self.steps.slide("convolution", windows, kernel.shape[0], groups=attributes.get("group", 1))
        self._add(node, kernel)

    def _dense(self, node: Any, attributes: dict[str, Any]) -> None:
        if node.op_type == "Gemm" and (
            attributes.get("transA") or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1
        ):
            raise self._cannot(node, "transposes or scales")
        if node.input[0] != self._at:
            raise self._cannot(node, "has the image on its right")
        transposed = bool(attributes.get("transB"))
        kernel = self._tensor(node.input[1], (lambda array: array) if transposed else np.transpose)
        if len(kernel.shape) != 2 or kernel.shape[1] != math.prod(self.steps.shape):
            raise self._cannot(node, f"has a kernel {kernel.shape} for {self.steps.shape}")
        self.steps.dense(kernel.shape[0])
        self._add(node, kernel)

    def _add(self, node: Any, kernel: Tensor) -> None:
        """Add a layer with a kernel, and a bias where the node has it."""
        name = node.input[1].removesuffix(".weight")
        layer = self._layer(name)
        layer["kernel"] = kernel
        if len(node.input) > 2:
            layer["bias"] = self._bias(node, node.input[2], first_axis=node.op_type == "Conv")
        else:
            self._needs_bias = name

    def _bias(self, node: Any, name: str, *, first_axis: bool) -> Tensor:
        """Return what is added to a layer's maps or units, one number each; else it is along the last axis of maps."""
        sides = self._tensor(name).shape
        *spatial, width = self.steps.shape
        by_map = (width, *(1 for _ in spatial))
        if sides not in (by_map, (1, *by_map)) and not (first_axis and sides == (width,)):
            raise self._cannot(node, f"adds {sides} to {self.steps.shape}")
        return self._tensor(name, lambda array: array.reshape(-1))

    def _norm(self, node: Any, attributes: dict[str, Any]) -> None:
        scale, bias, mean, var = node.input[1:5]
        more = attributes.get("epsilon", 1e-5) - EPSILON
        exact = abs(more) < 1e-9  # the graph has it in float32
        layer = self._layer(scale.removesuffix(".weight"))
        layer |= {"scale": self._tensor(scale), "bias": self._tensor(bias), "mean": self._tensor(mean)}
        layer["var"] = self._tensor(var, (lambda array: array) if exact else lambda array: array + np.float32(more))
        self.steps.each("batch_norm")

    def _pool(self, node: Any, attributes: dict[str, Any]) -> None:
        windows = self._windows(node, attributes, attributes["kernel_shape"])
        if all(window == Window(1) for window in windows):
            return
        padded = any(sum(window.padding) for window in windows)
        if node.op_type == "AveragePool" and padded:
            raise self._cannot(node, "averages over padding")
        self.steps.slide("max_pool" if node.op_type == "MaxPool" else "average_pool", windows)

    def _windows(self, node: Any, attributes: dict[str, Any], sizes: Any) -> Windows:
        count = len(sizes)
        strides, dilations = attributes.get("strides", [1] * count), attributes.get("dilations", [1] * count)
        pads, automatic = attributes.get("pads", [0] * 2 * count), attributes.get("auto_pad", b"NOTSET")
        if count != len(self.steps.shape) - 1:
            raise self._cannot(node, f"has a window of {count} dimensions on maps of {self.steps.shape}")
        windows = []
        for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
            if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
                lower = automatic == b"SAME_LOWER"
                windows.append(Window.same(self.steps.shape[axis], size, stride, dilation, lower=lower))
            else:
                padding = (pads[axis], pads[axis + count])
                windows.append(Window(size, stride, padding, dilation, ceil=bool(attributes.get("ceil_mode"))))
        return tuple(windows)

    def _flatten(self, node: Any, attributes: dict[str, Any]) -> None:
        *_, channels = self.steps.shape
        every = math.prod(self.steps.shape)
        if node.op_type == "Flatten":
            shape = [0, every] if attributes.get("axis", 1) == 1 else []
        else:
            shape = attributes["shape"] if "shape" in attributes else self._array(node.input[1]).tolist()
        if len(shape) == 2 and shape[1] in (-1, every):
            self._flat = True
        elif len(shape) == 3 and shape[1] == channels and shape[2] in (-1, every // channels):  # a series
            self.steps.append(Operation("series", (every // channels, channels)))
        else:
            raise self._cannot(node, "must flatten all of an image")

    def _adaptive(self, node: Any, half: tuple[str, int] | None) -> None:
        """Take maps `[B, C, H, W]` times matrices from both sides, as our export writes adaptive average pooling."""
        rows = node.input[1] == self._at
        matrix = self._array(node.input[0 if rows else 1])
        height, width, channels = self.steps.shape
        pooled = len(matrix if rows else matrix.T)
        side = height if rows else width
        if matrix.shape != ((pooled, side) if rows else (side, pooled)) or not np.allclose(
            matrix if rows else matrix.T, AdaptiveAveragePool(pooled).shares(side), atol=1e-6
        ):
            raise self._cannot(node, "multiplies maps by what is no average of them")
        if rows:
            self._half = "MatMul", pooled
        elif half == ("MatMul", pooled):
            self.steps.append(Operation("adaptive_average_pool", (pooled, pooled, channels)))
        else:
            raise self._cannot(node, "averages columns, and the node before it not the rows")

    def _scale(self, node: Any) -> None:
        """Take a multiplication, of which the network of 1998 has one before each Tanh and one behind."""
        by = self._array(next(name for name in node.input if name != self._at))
        if by.size == 1 and math.isclose(by.item(), 2 / 3, rel_tol=1e-6):
            self._half = "Tanh", 0
        elif (
            by.size == 1
            and math.isclose(by.item(), 1.7159, rel_tol=1e-6)
            and self.steps
            and self.steps[-1].kind == _NARROW
        ):
            self.steps[-1] = self.steps[-1]._replace(kind="scaled_tanh")
        else:
            raise self._cannot(node, "multiplies by what none of LeNet-5, AlexNet and VGG does")

    def _fold(self, node: Any, attributes: dict[str, Any]) -> bool:
        """Compute what can be known without an image: another shape of a kernel, its transpose, or a shape itself."""
        if not node.input or not all(name in self._constants or name in self._made for name in node.input):
            return False
        arrays = [self._array(name) for name in node.input]
        array, is_shape = arrays[0], sum(each.size for each in arrays) < _LONGEST_SHAPE
        match node.op_type:
            case "Reshape":
                array = array.reshape(attributes["shape"] if "shape" in attributes else arrays[1].tolist())
            case "Transpose":
                array = array.transpose(attributes.get("perm"))
            case "Gather" if is_shape:
                array = np.take(array, arrays[1], attributes.get("axis", 0))
            case "Unsqueeze" if is_shape:
                array = np.expand_dims(array, tuple(attributes["axes"] if "axes" in attributes else arrays[1].tolist()))
            case "Concat" if is_shape:
                array = np.concatenate(arrays, attributes["axis"])
            case "Identity":
                pass
            case _:
                return False
        self._room -= array.nbytes
        if self._room < 0:
            raise ValueError("its nodes make more of its constants than it holds")
        self._made[node.output[0]] = array
        return True

    def _layer(self, name: str) -> dict[str, Tensor]:
        return self.layers.setdefault(name, {})

    def _keep(self, node: Any, attributes: dict[str, Any]) -> None:
        """Keep what a node has as a constant."""
        for name in attributes.keys() & {"value_float", "value_floats", "value_int", "value_ints"}:
            self._made[node.output[0]] = np.array(attributes[name], np.float32 if "float" in name else np.int64)
            return
        if "value" not in attributes:
            raise self._cannot(node, f"has a {', '.join(attributes)}, not an array of numbers")
        self._constants[node.output[0]] = attributes["value"]

    def _tensor(self, name: str, change: Any = lambda array: array) -> Tensor:
        """Return a constant of the graph; a changed shape is that of the change."""
        if name not in self._constants and name not in self._made:
            raise UserError(
                f"{self._path}: {name!r} is no constant; a network's weights must be in the file; export it with them"
            )
        claimed = self._made[name].shape if name in self._made else tuple(self._constant(name).dims)
        # A change is a view of what has no numbers yet, but for the shape.
        shape = change(np.broadcast_to(np.zeros((), np.float32), claimed)).shape
        return checked(self._path, "ONNX", Tensor(name, shape, lambda: change(self._array(name))))

    def _array(self, name: str) -> np.ndarray:
        return self._made[name] if name in self._made else numpy_helper.to_array(self._constant(name))

    def _constant(self, name: str) -> Any:
        """Return a constant that has as many numbers as it claims."""
        constant = self._constants[name]
        if constant.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(f"{self._path}: has {name!r} in another file; save it with its data inside")
        kind = helper.tensor_dtype_to_np_dtype(constant.data_type)
        typed = getattr(constant, helper.tensor_dtype_to_field(constant.data_type))
        claims, has = math.prod(constant.dims), len(constant.raw_data) // kind.itemsize or len(typed)
        if claims != has:
            raise ValueError(f"{name!r} claims {claims:,} numbers, and has {has:,}")
        return constant

    def _cannot(self, node: Any, why: str) -> UserError:
        return UserError(
            f"{self._path}: is no LeNet-5, AlexNet or VGG that can be read: node {node.op_type} "
            f"{node.name or node.output[0]!r} {why}"
        )
