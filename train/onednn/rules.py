"""Which equations the handlers compute, and how they are asked."""

import math
import os
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from train.onednn import library
from train.onednn.rewriting import Rule, Wanted, shaped

# What few_channels.cc computes: at most so many channels, fewer than oneDNN has lanes; of so many images at least, half
# of those that lie in its own lanes; with so many elements each at most, of which 32 images' then are 1 MiB.
_FEW, _IMAGES, _ELEMENTS = 15, 16, 2**13


def usable(precision: str) -> bool:
    """Whether this process may compute by oneDNN: on a CPU, with the extra, unless OLDMASTERS_ONEDNN is 0."""
    return _wanted() and precision in library.computes()


def version() -> str | None:
    """Return the version of the oneDNN that is at hand; which programs it computes, `devices.jit` decides."""
    return library.version() if _wanted() and library.computes() else None


def _wanted() -> bool:
    return os.environ.get("OLDMASTERS_ONEDNN") != "0" and jax.default_backend() == "cpu"


def _may(operands: Sequence[jax.Array], wanted: Wanted) -> bool:
    """Whether the handlers know these types; they have nothing to say of empty arrays."""
    dtype = operands[0].dtype
    return (
        dtype.name in library.computes()
        and all(operand.dtype == dtype and operand.size for operand in operands)
        and wanted.dtype in (dtype, jnp.float32)
    )


def convolution(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute `conv_general_dilated` of maps `[B, ..., C]`: forward, or where jax's derivatives have made it.

    A gradient of maps is a convolution of gradients with turned kernels. In one of weights the channels stand where the
    batch does, and strides and dilation have changed places.
    """
    parameters, shape = equation.params, shaped(equation.outvars[0]).shape
    if (
        not _may(operands, wanted)
        or not 3 <= len(shape) <= 5  # oneDNN has one to three dimensions of space
        or parameters["feature_group_count"] != 1
        or parameters["batch_group_count"] != 1
        or set(parameters["lhs_dilation"]) != {1}
        or min(low for low, _ in parameters["padding"]) < 0
        or 0 in shape
    ):
        return None
    numbers, last = parameters["dimension_numbers"], len(shape) - 1
    space = tuple(range(1, last))
    result = jax.ShapeDtypeStruct(shape, wanted.dtype)
    low, high = zip(*parameters["padding"], strict=True)
    window, apart = parameters["window_strides"], parameters["rhs_dilation"]
    few = last == 3 and shape[-1] <= _FEW
    if numbers.lhs_spec == numbers.out_spec == (0, last, *space) and min(high) >= 0:
        axes = _numbers(numbers.rhs_spec)
        if few and set(apart) == {1} and _fits(operands[0].shape):
            made = jax.ffi.ffi_call("oldmasters_few_channels", result)
            return made(*operands, axes=axes, strides=_numbers(window), low=_numbers(low))
        forward = jax.ffi.ffi_call("oldmasters_convolution", result)
        return forward(*operands, axes=axes, **_geometry(window, apart, low, high))
    kernel = (last - 1, last, *range(last - 1))
    if numbers.lhs_spec == numbers.rhs_spec == (last, 0, *space) and numbers.out_spec == kernel:
        # Pixels that strides have left over stand there as less than no padding; oneDNN leaves them over by itself.
        high = tuple(max(0, side) for side in high)
        maps, gradients = operands
        for axis in range(last - 1):
            seen = maps.shape[axis + 1] + low[axis] + high[axis] - (shape[axis] - 1) * window[axis] - 1
            if seen // apart[axis] + 1 != gradients.shape[axis + 1]:
                return None  # the gradient of none, or of one with less than no padding
        if few and set(window) == {1} and all(_fits(operand.shape) for operand in operands):
            made = jax.ffi.ffi_call("oldmasters_few_channels_gradient", result)
            return made(maps, gradients, strides=_numbers(apart), low=_numbers(low), high=_numbers(high))
        backward = jax.ffi.ffi_call("oldmasters_weight_gradient", result)
        return backward(maps, gradients, **_geometry(apart, window, low, high))
    return None


def _fits(maps: tuple[int, ...]) -> bool:
    """Whether few_channels.cc is the faster one at maps of this shape."""
    return maps[0] >= _IMAGES and math.prod(maps[1:]) <= _ELEMENTS


def _geometry(
    strides: Sequence[int], dilation: Sequence[int], low: Sequence[int], high: Sequence[int]
) -> dict[str, np.ndarray]:
    """In oneDNN's words dilation is how many pixels are left out."""
    left_out = [step - 1 for step in dilation]
    values = {"strides": strides, "dilation": left_out, "low": low, "high": high}
    return {name: _numbers(value) for name, value in values.items()}


def _numbers(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)


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
    (a, a_axis), (b, b_axis) = reversed(sides) if wanted.transposed else sides
    shape = jax.ShapeDtypeStruct((a.shape[1 - a_axis], b.shape[1 - b_axis]), wanted.dtype)
    call = jax.ffi.ffi_call("oldmasters_product", shape)
    return call(a, b, left=_numbers((1 - a_axis, a_axis)), right=_numbers((b_axis, 1 - b_axis)))


def column_sums(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute `reduce_sum` over all axes but the last.

    A gradient of biases is such a sum. XLA:CPU takes 5 times as long, in bfloat16 10 to 20 times (docs/speed-log.md).
    """
    (array,), axes = operands, equation.params["axes"]
    if not _may(operands, wanted) or array.ndim < 2 or set(axes) != set(range(array.ndim - 1)):
        return None
    # As it is, not as a matrix: whoever else reads the array then reads the same one, and XLA makes it once.
    return jax.ffi.ffi_call("oldmasters_column_sums", jax.ShapeDtypeStruct(array.shape[-1:], wanted.dtype))(array)


def shared_out(equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
    """Compute models.pooling.shared_out of images: the gradient of max pooling whose windows touch."""
    shape = shaped(equation.outvars[0])
    if not _may(operands, wanted) or len(shape.shape) != 4 or wanted != Wanted(shape.dtype, False):
        return None
    return jax.ffi.ffi_call("oldmasters_shared_out", jax.ShapeDtypeStruct(shape.shape, shape.dtype))(*operands)


RULES: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "dot_general": product,
    "reduce_sum": column_sums,
    "shared_out": shared_out,
}
