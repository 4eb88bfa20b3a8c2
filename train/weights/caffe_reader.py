"""Caffe's binary models, read from the wire format of their protocol buffers: layers' names and blobs."""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import UserError
from train.weights.file import Tensor, WeightsFile, checked, reading, shown

# Field numbers of caffe.proto: of NetParameter, the layers of today and those of 2014; of a layer, its name and blobs
# in the same order; of a blob, its data, its data in float64, its shape, and the four sides of 2014.
_LAYERS = {100: (1, 7), 2: (4, 6)}
_DATA, _DOUBLES, _SHAPE, _SIDES = 5, 8, 7, (1, 2, 3, 4)
_MOST_SIDES = 32  # kMaxBlobAxes of Caffe

Span = tuple[int, int]


def read(path: Path) -> WeightsFile:
    """Read the names and shapes of a model's blobs.

    Raises:
      UserError: it is damaged.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    with reading(path, "Caffe"), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for field, layer in _fields(data, (0, len(data))):
            if field in _LAYERS:
                name, blobs = _layer(data, _span(layer), *_LAYERS[field])
                if name in layers and blobs:
                    raise ValueError(f"there are two layers {name}")
                if blobs:
                    tensors = [_tensor(path, data, name, blob) for blob in blobs]
                    layers[name] = dict(zip(("kernel", "bias"), tensors, strict=False))
        if not layers:
            raise ValueError("there is no layer with weights in it")
    return WeightsFile(path, "caffe", layers)


def _layer(data: Any, layer: Span, name_field: int, blobs_field: int) -> tuple[str, list[Span]]:
    """Return a layer's name, and where its blobs lie."""
    name, blobs = "", []
    for field, value in _fields(data, layer):
        if field == name_field:
            name = shown(data[slice(*_span(value))].decode())
        elif field == blobs_field:
            blobs.append(_span(value))
        if len(blobs) > 2:
            raise ValueError(f"layer {name} has more than a kernel and a bias")
    return name, blobs


def _tensor(path: Path, data: Any, name: str, blob: Span) -> Tensor:
    sides: dict[int, Any] = dict.fromkeys(_SIDES, 1)
    shape, numbers = None, None
    for field, value in _fields(data, blob):
        if field in _SIDES:
            sides[field] = value
        elif field == _SHAPE:
            shape = _shape(data, _span(value))
        elif field == _DOUBLES or (field == _DATA and numbers):
            raise UserError(f"{path}: layer {name} has its numbers one by one, or as float64; save it again with Caffe")
        elif field == _DATA:
            numbers = _span(value)
    if shape is None:  # 2014: [out, in, h, w], [1, 1, out, in] or [1, 1, 1, out]
        shape = list(sides.values())
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
    start, end = numbers or (0, 0)
    if end - start != 4 * math.prod(shape):
        raise ValueError(f"the blob {shape} of layer {name} has {(end - start) // 4:,} numbers")

    def read_one() -> np.ndarray:
        return np.fromfile(path, "<f4", (end - start) // 4, offset=start).reshape(shape)

    return checked(path, "Caffe", Tensor(f"{name} {'x'.join(map(str, shape))}", tuple(shape), read_one))


def _shape(data: Any, span: Span) -> list[int]:
    """Return the sides of a blob, which stand one by one or packed."""
    sides: list[int] = []
    for _, value in _fields(data, span):
        if isinstance(value, int):
            sides.append(value)
        else:
            at, end = value
            while at < end and len(sides) <= _MOST_SIDES:
                side, at = _varint(data, at, end)
                sides.append(side)
        if len(sides) > _MOST_SIDES:
            raise ValueError("a blob has more sides than Caffe can have")
    return sides


def _fields(data: Any, span: Span) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of a message's fields; of text, bytes and messages the value is where they lie."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field is of kind {kind}")
        length, at = _varint(data, at, end) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + length > end:
            raise ValueError("it ends inside a field")
        yield number, (at, at + length)
        at += length


def _span(value: Any) -> Span:
    if not isinstance(value, tuple):
        raise ValueError("a number is in the place of a message")
    return value


def _varint(data: Any, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("it ends inside a number")
