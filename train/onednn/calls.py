"""Convolutions and matrix products as calls of the oneDNN that jaxlib carries.

XLA:CPU has two targets of custom calls, `__onednn$convolution` and `__onednn$matmul`, that run oneDNN on XLA's own
threads (openxla/xla, xla/service/cpu/onednn_convolution.cc and onednn_matmul.cc); jaxlib's compiler never chooses them,
and they are documented nowhere. What they are told is a message of onednn_config.proto as JSON. A message that they do
not understand ends the process, so they are used with the versions of jaxlib alone with which our tests have run.
"""

import functools
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
from jax.extend.core import JaxprEqn

from train.onednn.rewriting import Rule, Wanted, shaped

VERSIONS = ("0.10.1", "0.10.2")


def usable(precision: str) -> bool:
    """Whether this process may compute by oneDNN: on Linux and x86-64, with instructions for what layers compute in."""
    if (
        os.environ.get("OLDMASTERS_ONEDNN") == "0"
        or jax.default_backend() != "cpu"
        or jaxlib.__version__ not in VERSIONS
    ):
        return False
    needed = {"float32": "avx2", "bfloat16": "avx512_bf16"}
    return precision in needed and needed[precision] in _instructions()


@functools.cache
def _instructions() -> frozenset[str]:
    """Return the sets of instructions that this processor has, in Linux's words; none that we know of elsewhere."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def _may(operands: Sequence[jax.Array], wanted: Wanted) -> bool:
    """Whether oneDNN has kernels for these types; it has nothing to say of empty arrays."""
    dtype = operands[0].dtype
    return (
        dtype in (jnp.float32, jnp.bfloat16)
        and all(operand.dtype == dtype and operand.size for operand in operands)
        and wanted.dtype in (dtype, jnp.float32)
    )


def convolution(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute `conv_general_dilated` of images and kernels, or of gradients and turned kernels.

    A weight gradient is a convolution too, by maps as large as the images: what oneDNN has for small windows is no use.
    """
    parameters, shape = equation.params, shaped(equation.outvars[0]).shape
    numbers = parameters["dimension_numbers"]
    if (
        not _may(operands, wanted)
        or parameters["feature_group_count"] != 1
        or parameters["batch_group_count"] != 1
        or set(parameters["lhs_dilation"]) != {1}
        or min(side for sides in parameters["padding"] for side in sides) < 0
        or 0 in shape
        or numbers.lhs_spec[0] != 0  # a weight gradient: the channels stand where the batch does
    ):
        return None

    def axes(first: str, second: str, order: Sequence[int]) -> dict[str, Any]:
        return {first: order[0], second: order[1], "spatial_dims": order[2:]}

    message = {
        "dims": len(shape),
        "input": {"data": axes("batch_dim", "feature_dim", numbers.lhs_spec)},
        "kernel": {"filter": axes("output_feature_dim", "input_feature_dim", numbers.rhs_spec)},
        "output": {"data": axes("batch_dim", "feature_dim", numbers.out_spec)},
        "window": {
            "pad_left": [low for low, _ in parameters["padding"]],
            "pad_right": [high for _, high in parameters["padding"]],
            "strides": parameters["window_strides"],
            "window_dilations": parameters["rhs_dilation"],
        },
        "feature_groups": 1,
    }
    return _call("convolution", {"onednn_conv_config": message}, operands, shape, wanted.dtype)


def product(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute `dot_general` of two matrices."""
    contracted, batched = equation.params["dimension_numbers"]
    if (
        not _may(operands, wanted)
        or any(batched)
        or any(len(axes) != 1 for axes in contracted)
        or any(operand.ndim != 2 for operand in operands)
    ):
        return None
    sides = [(operand, axis) for operand, (axis,) in zip(operands, contracted, strict=True)]
    left, right = reversed(sides) if wanted.transposed else sides
    return _product(left, right, wanted.dtype)


def column_sums(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute `reduce_sum` over all axes but the last, as a product with ones.

    A gradient of biases is such a sum. XLA:CPU takes 5 times as long, in bfloat16 10 to 20 times (docs/speed-log.md).
    """
    (array,), axes = operands, equation.params["axes"]
    if not _may(operands, wanted) or array.ndim < 2 or set(axes) != set(range(array.ndim - 1)):
        return None
    matrix = array.reshape(-1, array.shape[-1])
    return _product((jnp.ones((1, len(matrix)), array.dtype), 1), (matrix, 0), wanted.dtype)[0]


def _product(left: tuple[jax.Array, int], right: tuple[jax.Array, int], dtype: jnp.dtype) -> jax.Array:
    """Multiply two matrices, each with the axis to contract."""
    (a, a_axis), (b, b_axis) = left, right
    message = {"transpose_a": a_axis == 0, "transpose_b": b_axis == 1}
    shape = (a.shape[1 - a_axis], b.shape[1 - b_axis])
    return _call("matmul", {"onednn_matmul_config": message}, (a, b), shape, dtype)


def _call(
    target: str, message: dict[str, Any], operands: Sequence[jax.Array], shape: tuple[int, ...], dtype: jnp.dtype
) -> jax.Array:
    call = jax.ffi.ffi_call(
        f"__onednn${target}",
        jax.ShapeDtypeStruct(shape, dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps(message),
    )
    return call(*operands)


RULES: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "dot_general": product,
    "reduce_sum": column_sums,
}
