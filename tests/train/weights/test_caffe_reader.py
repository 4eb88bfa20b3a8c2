"""Caffe's models, byte by byte as protocol buffers write them (caffe.proto of BVLC/caffe)."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import little_memory
from tests.train.weights.test_torch_reader import read_all, refused
from train.weights.opening import open_weights

KERNEL = np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3)
DENSE = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([5, 6], np.float32)


def varint(value: int) -> bytes:
    """Of a number below 0 its two's complement."""
    value %= 2**64
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array: np.ndarray, old: bool = False, shape: tuple[int, ...] | None = None) -> bytes:
    """A BlobProto: `data` (5) behind `shape` (7) or, in 2014, behind num, channels, height, width (1 to 4)."""
    shape = array.shape if shape is None else shape
    if old:
        sides = b"".join(field(place, side) for place, side in enumerate((1,) * (4 - len(shape)) + shape, 1))
    else:
        sides = field(7, field(1, b"".join(map(varint, shape))))
    return sides + field(5, array.astype("<f4").tobytes())


def layer(name: str, *blobs: bytes, old: bool = False) -> bytes:
    """A LayerParameter of NetParameter (100), or one of 2014 (2), whose type is a number (5) and not a text (2)."""
    kind = field(5, 4) if old else field(2, b"Convolution")
    names, values = (4, 6) if old else (1, 7)
    return field(
        2 if old else 100, field(names, name.encode()) + kind + b"".join(field(values, each) for each in blobs)
    )


def network(*layers: bytes) -> bytes:
    return field(1, b"net") + field(3, b"data") + b"".join(layers) + field(8, field(1, 0))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("old", [False, True], ids=["today", "2014"])
def test_layers_have_their_kernels_and_biases(old: bool, tmp_path: Path) -> None:
    layers = [
        layer("data", old=old),
        layer("conv1", blob(KERNEL, old), blob(BIAS, old), old=old),
        layer("relu", old=old),
        layer("fc6", blob(DENSE, old), old=old),
    ]
    file = open_weights(written(tmp_path / "net.caffemodel", network(*layers)))
    assert {name: list(tensors) for name, tensors in file.layers.items()} == {
        "conv1": ["kernel", "bias"],
        "fc6": ["kernel"],
    }
    assert file.channels_first
    np.testing.assert_array_equal(file.layers["conv1"]["kernel"].read(), KERNEL)
    np.testing.assert_array_equal(file.layers["conv1"]["bias"].read(), BIAS)
    np.testing.assert_array_equal(file.layers["fc6"]["kernel"].read(), DENSE)


def test_sides_may_stand_one_by_one(tmp_path: Path) -> None:
    shape = field(7, b"".join(field(1, side) for side in DENSE.shape))
    data = network(layer("fc6", shape + field(5, DENSE.astype("<f4").tobytes())))
    (back,) = read_all(written(tmp_path / "net.caffemodel", data)).values()
    np.testing.assert_array_equal(back, DENSE)


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    strange = varint(900 << 3 | 1) + bytes(8) + varint(901 << 3 | 5) + bytes(4) + field(902, 7) + field(903, b"text")
    inside = layer("fc6", strange + blob(DENSE) + field(6, bytes(48)))  # and `diff`, the gradient
    (back,) = read_all(written(tmp_path / "net.caffemodel", strange + network(inside) + strange)).values()
    np.testing.assert_array_equal(back, DENSE)


@pytest.mark.parametrize(
    ("blobs", "words"),
    [
        ([blob(DENSE, shape=(10**6, 10**6))], "the blob [1000000, 1000000] of layer fc6 has 12 numbers"),
        ([blob(DENSE, True, shape=(10**6, 10**6))], "the blob [1000000, 1000000] of layer fc6 has 12 numbers"),
        ([blob(DENSE, shape=(-3, -4))], "has 12 numbers"),
        ([blob(DENSE, shape=(2**63, 2**63))], "has 12 numbers"),
        ([blob(DENSE, shape=(3, 4) + (1,) * 40)], "a blob has more sides than Caffe can have"),
        ([field(7, field(1, varint(3)))], "the blob [3] of layer fc6 has 0 numbers"),
        ([blob(DENSE), blob(BIAS), blob(BIAS)], "layer fc6 has more than a kernel and a bias"),
        ([field(7, field(1, varint(12))) + varint(5 << 3 | 3)], "a field is of kind 3"),
        ([field(7, 3)], "a number is in the place of a message"),
        ([varint(5 << 3 | 2) + varint(10**12)], "it ends inside a field"),
        ([b"\xff" * 11], "it ends inside a number"),
    ],
)
def test_what_does_not_fit_is_one_line_and_no_memory(blobs: list[bytes], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "net.caffemodel", network(layer("fc6", *blobs)))
    with little_memory(2**20):
        line = refused(path)
    assert line.startswith("cannot be read as a Caffe file (")
    assert words in line


def test_numbers_of_other_kinds_are_said(tmp_path: Path) -> None:
    shape = field(7, field(1, varint(2)))
    doubles = shape + field(8, struct.pack("<2d", 1, 2))
    one_by_one = shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in (1, 2))
    for strange in (doubles, one_by_one):
        line = refused(written(tmp_path / "net.caffemodel", network(layer("fc6", strange))))
        assert line == "layer fc6 has its numbers one by one, or as float64; save it again with Caffe"


def test_what_has_no_layers_with_weights_is_refused(tmp_path: Path) -> None:
    for data in (network(), network(layer("data")), field(1, b"net")):
        line = refused(written(tmp_path / "net.caffemodel", data))
        assert "there is no layer with weights in it" in line
    twice = network(layer("a", blob(DENSE)), layer("a", blob(DENSE)))
    assert "there are two layers a" in refused(written(tmp_path / "net.caffemodel", twice))
    assert "is no name of a layer" in refused(written(tmp_path / "net.caffemodel", network(layer("a\nb", blob(DENSE)))))
