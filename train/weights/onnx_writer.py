"""A network as an ONNX graph with a node for each of its steps, as people would draw it.

Tracing what jax computes gives correct graphs, too, but not these: pooling comes out as slices and maxima, and every
convolution between two transpositions (CONTRIBUTING.md has the figures).
"""

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.geometry import Shape, Windows
from models.layers import BatchNorm, Convolution, Dense, LocalResponseNorm, Series
from models.network import Network
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool
from train.weights.metadata import RECORD

# Old enough for the runtimes that are in use, new enough for all that is needed.
_OPSET, _IR = 17, 8


def write(file: BinaryIO, network: Network, arrays: Mapping[str, np.ndarray], record: str) -> None:
    """Write a graph from images `[B, C, H, W]`, prepared as for the network, to logits `[B, classes]`.

    Args:
      file: where it goes, open.
      network: whose steps are written; its layers are known to operations.of_network.
      arrays: by LAYER.weight, .bias, .running_mean and .running_var, channels first.
      record: what the file says about itself.
    """
    graph = _Graph(arrays)
    shape = network.input_shape
    for stage in network.plan:
        for layer, name in zip(network.layers_of(stage), stage.layers, strict=True):
            graph.layer(layer, str(name) if isinstance(name, str) else stage.name, shape)
            shape = layer.output(shape)
        graph.activation(stage.activation, stage.name)
    graph.nodes[-1].output[0] = "logits"
    height, width, channels = network.input_shape
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", channels, height, width])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", *shape])
    weights = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "oldmasters", [image], [logits], weights),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="oldmasters",
    )
    helper.set_model_props(model, {RECORD: record})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


class _Graph:
    """Nodes, one behind the other, and the constants they take."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._at = "images"

    def layer(self, layer: Any, name: str, shape: Shape) -> None:
        """Add the nodes of a layer on maps of that shape; what is for training has none."""
        match layer:
            case Convolution():
                weights = self._weights(name, "weight", "bias")
                self._node("Conv", name, *weights, group=layer.feature_group_count, **_window(layer.windows))
            case Dense():
                if len(shape) > 1:
                    self._node("Flatten", f"{name}_flatten")
                self._node("Gemm", name, *self._weights(name, "weight", "bias"), transB=1)
            case BatchNorm():
                weights = self._weights(name, "weight", "bias", "running_mean", "running_var")
                self._node("BatchNormalization", name, *weights, epsilon=layer.epsilon)
            case LocalResponseNorm():
                alpha = layer.alpha * layer.size  # ONNX divides it
                self._node("LRN", name, size=layer.size, alpha=alpha, beta=layer.beta, bias=layer.k)
            case MaxPool():
                self._node("MaxPool", name, ceil_mode=int(layer.windows[0].ceil), **_window(layer.windows))
            case AveragePool():
                window = _window(layer.windows)
                del window["dilations"]
                self._node("AveragePool", name, **window)
            case AdaptiveAveragePool() if layer.output(shape) != shape:
                rows, columns = (layer.shares(side).astype(np.float32) for side in shape[:-1])
                self._node("MatMul", f"{name}_rows", self._constant(f"{name}.rows", rows), before=True)
                self._node("MatMul", f"{name}_columns", self._constant(f"{name}.columns", columns.T))
            case Series():
                target = np.array([0, shape[-1], -1], np.int64)  # [B, C, H * W]
                self._node("Reshape", f"{name}_series", self._constant(f"{name}.series", target))

    def activation(self, activation: str, name: str) -> None:
        """Add the nodes of what a stage ends with."""
        if activation == "scaled_tanh":
            self._node("Mul", f"{name}_narrow", self._constant(f"{name}.narrow", np.array(2 / 3, np.float32)))
        if activation != "identity":
            self._node("Relu" if activation == "relu" else "Tanh", f"{name}_{activation}")
        if activation == "scaled_tanh":
            self._node("Mul", f"{name}_scale", self._constant(f"{name}.scale", np.array(1.7159, np.float32)))

    def _node(self, kind: str, name: str, *constants: str, before: bool = False, **attributes: Any) -> None:
        inputs = [*constants, self._at] if before else [self._at, *constants]
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self._at = name

    def _weights(self, layer: str, *names: str) -> list[str]:
        return [self._constant(f"{layer}.{name}", self._arrays[f"{layer}.{name}"]) for name in names]

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name


def _window(windows: Windows) -> dict[str, Any]:
    return {
        "kernel_shape": [window.size for window in windows],
        "strides": [window.stride for window in windows],
        "dilations": [window.dilation for window in windows],
        "pads": [window.padding[0] for window in windows] + [window.padding[1] for window in windows],
    }
