"""A table of tensors as torch.save writes it: a zip archive of a pickle and the numbers, without PyTorch."""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from train.weights.metadata import RECORD

# Numbers begin at multiples of this many bytes, so that PyTorch can map them into memory.
_ALIGNMENT = 64
_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}
# All entries have the first moment that zip archives know, so that equal weights make equal files.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(file: Path | BinaryIO, arrays: dict[str, np.ndarray], record: str) -> None:
    """Write arrays, float32 or int64, under their names, so that torch.load(path, weights_only=True) returns them.

    Args:
      file: where it is, or one that is open.
      arrays: in the order of the table.
      record: what the file says about itself; PyTorch does not look at it.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes | memoryview) -> None:
            entry = zipfile.ZipInfo(f"archive/{name}", _EPOCH)
            start = archive.fp.tell() + 30 + len(entry.filename)  # type: ignore[union-attr]  # of an open archive
            filler = -(start + 4) % _ALIGNMENT
            entry.extra = b"FB" + struct.pack("<H", filler) + bytes(filler)  # the field that PyTorch pads with
            archive.writestr(entry, data)

        add("data.pkl", b"".join(_table(arrays)))
        add("byteorder", b"little")
        add(RECORD, record.encode())
        for place, array in enumerate(arrays.values()):
            add(f"data/{place}", np.ascontiguousarray(array).data.cast("B") if array.ndim else array.tobytes())
        add("version", b"3\n")


def _table(arrays: dict[str, np.ndarray]) -> Iterator[bytes]:
    """Yield the pickle of an OrderedDict of tensors, operation by operation (see Python's pickletools).

    Python's own pickler writes the name of a function only where it can import it.
    """
    yield b"\x80\x02ccollections\nOrderedDict\n)R("
    for place, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides)
        yield _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        storage = f"ctorch\n{_STORAGES[array.dtype]}\n".encode()
        yield b"(" + _text("storage") + storage + _text(str(place)) + _text("cpu") + _number(array.size) + b"tQ"
        yield _number(0) + _numbers(array.shape) + _numbers(strides)
        yield b"\x89ccollections\nOrderedDict\n)RtR"  # takes no gradient, has no hooks
    yield b"u."


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _numbers(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"
