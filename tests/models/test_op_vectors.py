"""Layers against the test vectors of ONNX and Caffe, in float32 to 1e-5.

Every vector is either compared or has a reason in `NOT_COVERED` or `_reason`.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Network
from models.arithmetic import Window
from models.geometry import Windows
from models.layers import ACTIVATIONS, BatchNorm, Convolution, Dense, Dropout, LocalResponseNorm
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool

NOT_COVERED = {
    "Resize": "images are resized by Pillow, before any layer",
    "CenterCropPad": "images are cropped by Pillow, before any layer",
    "Pad": "padding belongs to a window here",
    "Adam": "optimizers are optax's",
    "Momentum": "optimizers are optax's",
    "NegativeLogLikelihoodLoss": "the loss begins at logits, not at logarithms of probabilities",
    "GlobalMaxPool": "no network takes the largest value of a whole map",
    "ConvTranspose": "no network has a transposed convolution",
    "PRelu": "no network has this activation",
    "LeakyRelu": "no network has this activation",
    "Sigmoid": "no network has this activation",
    "Softplus": "no network has this activation",
    "Add": "no layer but arithmetic",
    "Transpose": "no layer but arithmetic",
    "Constant": "no layer but arithmetic",
}


# ONNX gives these outputs to four decimals.
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-4}


class Vector(NamedTuple):
    name: str
    op: str
    attributes: dict[str, Any]
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def _reason(vector: Vector) -> str | None:
    """Say why a vector of an operation that is covered is not."""
    attributes = vector.attributes
    match vector.op:
        case "SoftmaxCrossEntropyLoss":
            if len(vector.inputs) > 2 or "ignore_index" in attributes:
                return "the loss weighs classes alike and leaves no label out"
        case "Dropout" if "training" in vector.name or "ratio" in attributes:
            return "another generator of random numbers"
        case "Gemm" if vector.name != "test_Linear":
            return "a dense layer has no alpha, no beta and no transposed input"
        case "Flatten" if attributes.get("axis", 1) != 1:
            return "a dense layer flattens all but the batch"
    return NOT_COVERED.get(vector.op)


@pytest.fixture(scope="module")
def vectors(real_data: Path) -> dict[str, Vector]:
    folder = real_data / "op_vectors"
    found = {}
    with np.load(folder / "onnx_op_vectors.npz") as arrays:
        for path, case in json.loads((folder / "onnx_op_vectors.json").read_text()).items():
            # What torch exported has its weights as "init", behind the input.
            places = [f"{path}/{{}}_{place}" for place in range(len(case["inputs"]))]
            inputs = [
                arrays[key] for place in places for kind in ("input", "init") if (key := place.format(kind)) in arrays
            ]
            outputs = [arrays[f"{path}/output_{place}"] for place in range(len(case["outputs"]))]
            first, name = case["nodes"][0], path.rpartition("/")[2]
            found[path] = Vector(name, first["op"], first["attr"], inputs, outputs)
    return found


def last(x: np.ndarray) -> jax.Array:
    """Channels come second in ONNX and last here."""
    return jnp.moveaxis(jnp.asarray(x, jnp.float32), 1, -1)


def windows(attributes: dict[str, Any], shape: tuple[int, ...]) -> Windows:
    sizes = attributes["kernel_shape"]
    count = len(sizes)
    strides, dilations = (attributes.get(key, [1] * count) for key in ("strides", "dilations"))
    pads, auto = attributes.get("pads", [0] * 2 * count), attributes.get("auto_pad", "NOTSET")
    ceil = bool(attributes.get("ceil_mode", 0))
    explicit = (
        Window(size, stride, (before, after), dilation, ceil)
        for size, stride, before, after, dilation in zip(
            sizes, strides, pads[:count], pads[count:], dilations, strict=True
        )
    )
    if auto == "NOTSET":
        return tuple(explicit)
    return tuple(
        Window.same(length, size, stride, dilation, lower=auto == "SAME_LOWER")
        for length, size, stride, dilation in zip(shape[2:], sizes, strides, dilations, strict=True)
    )


def compute(vector: Vector) -> list[np.ndarray]:
    """Return what our layers make of a vector's inputs, with channels where ONNX has them."""
    attributes, (x, *rest) = vector.attributes, vector.inputs
    first: Any = None
    match vector.op:
        case "Conv":
            kernel, *bias = rest
            layer = Convolution(
                x.shape[1],
                len(kernel),
                windows(attributes, x.shape),
                groups=attributes.get("group", 1),
                use_bias=bool(bias),
                rngs=nnx.Rngs(0),
            )
            layer.kernel[...] = jnp.moveaxis(jnp.asarray(kernel), (0, 1), (-1, -2))
            if bias:
                layer.bias[...] = jnp.asarray(bias[0])
            first = layer
        case "MaxPool":
            first = MaxPool(windows(attributes, x.shape))
        case "AveragePool":
            counted = bool(attributes.get("count_include_pad", 0))
            first = AveragePool(windows(attributes, x.shape), count_padding=counted)
        case "GlobalAveragePool":
            first = AdaptiveAveragePool(1)
        case "LRN":
            size = attributes["size"]  # ONNX's defaults, and its alpha is divided by the size
            first = LocalResponseNorm(
                size, attributes.get("alpha", 1e-4) / size, attributes.get("beta", 0.75), attributes.get("bias", 1.0)
            )
        case "BatchNormalization":
            return batch_norm(vector)
        case "Relu" | "Tanh":
            return [np.asarray(ACTIVATIONS[vector.op.lower()](x))]
        case "Dropout":
            return [np.asarray(Dropout(0.5)(x))]
        case "Flatten":
            identity = Dense(math.prod(x.shape[1:]), math.prod(x.shape[1:]), rngs=nnx.Rngs(0))
            identity.kernel[...] = jnp.eye(math.prod(x.shape[1:]))
            return [np.asarray(identity(x))]
        case "Gemm":
            dense = Dense(x.shape[1], rest[0].shape[0], rngs=nnx.Rngs(0))
            dense.kernel[...], dense.bias[...] = jnp.asarray(rest[0]).T, jnp.asarray(rest[1])
            return [np.asarray(dense(x))]
        case "Softmax" | "LogSoftmax":
            axis = attributes.get("axis", -1)
            found = jnp.moveaxis(Network((1,)).log_probabilities(jnp.moveaxis(x, axis, -1)), -1, axis)
            return [np.asarray(jnp.exp(found) if vector.op == "Softmax" else found)]
        case "SoftmaxCrossEntropyLoss":
            targets = jax.nn.one_hot(rest[0], x.shape[1])
            network, logits = Network((1,)), last(x)
            reduce = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda losses: losses}[attributes["reduction"]]
            losses = reduce(network.cross_entropy(logits, targets))
            return [np.asarray(losses), np.moveaxis(np.asarray(network.log_probabilities(logits)), -1, 1)]
    made = first(last(x))
    assert made.shape[1:] == first.output(last(x).shape[1:])
    return [np.moveaxis(np.asarray(made), -1, 1)]


def batch_norm(vector: Vector) -> list[np.ndarray]:
    x, scale, bias, mean, variance = vector.inputs
    epsilon = vector.attributes.get("epsilon", 1e-5)
    layer = BatchNorm(x.shape[1], epsilon=epsilon, momentum=vector.attributes.get("momentum", 0.9), rngs=nnx.Rngs(0))
    for ours, theirs in ((layer.scale, scale), (layer.bias, bias), (layer.mean, mean), (layer.var, variance)):
        ours[...] = jnp.asarray(theirs)
    training = vector.attributes.get("training_mode", 0)
    made = layer(last(x), jax.random.key(0) if training else None)
    statistics = [np.asarray(layer.mean[...]), np.asarray(layer.var[...])] if training else []
    return [np.moveaxis(np.asarray(made), -1, 1), *statistics]


def test_every_vector_that_our_layers_claim(vectors: dict[str, Vector]) -> None:
    compared: Counter[str] = Counter()
    for path, vector in vectors.items():
        if _reason(vector):
            continue
        for ours, theirs in zip(compute(vector), vector.outputs, strict=False):
            assert ours.shape == theirs.shape, path
            tolerance = ROUNDED.get(vector.name, 1e-5)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=tolerance, err_msg=path)
        compared[vector.op] += 1
    assert compared == {
        "Conv": 18,
        "MaxPool": 15,
        "AveragePool": 15,
        "GlobalAveragePool": 2,
        "LRN": 2,
        "BatchNormalization": 6,
        "Softmax": 8,
        "LogSoftmax": 8,
        "SoftmaxCrossEntropyLoss": 7,
        "Relu": 2,
        "Tanh": 3,
        "Dropout": 5,
        "Flatten": 2,
        "Gemm": 1,
    }


def test_every_reason_is_needed(vectors: dict[str, Vector]) -> None:
    assert {vector.op for vector in vectors.values()} >= NOT_COVERED.keys()


def test_caffes_pooling(real_data: Path) -> None:
    cases = json.loads((real_data / "op_vectors" / "caffe_pooling.json").read_text())["cases"]
    for case in cases:
        pad = case["pad"]
        found = tuple(
            Window(size, stride, (pad, pad), ceil=True)
            for size, stride in zip(case["kernel"], case["stride"], strict=True)
        )
        pool = MaxPool(found) if case["op"] == "max" else AveragePool(found, count_padding=True)
        x = jnp.asarray(case["x"], jnp.float32)[None, ..., None]
        np.testing.assert_allclose(pool(x)[0, ..., 0], case["y"], rtol=1e-5, err_msg=case["name"])
    assert len(cases) == 5
