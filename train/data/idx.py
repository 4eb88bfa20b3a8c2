"""The IDX format, in which MNIST and Fashion-MNIST are distributed.

Two zero bytes, one byte for the type (8: unsigned byte), one for the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values (http://yann.lecun.com/exdb/mnist, "The IDX file format").
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from train.data.archive import is_small
from train.data.examples import Examples
from train.errors import UserError

_PARTS = {"train": "train", "test": "t10k"}


def read_folder(folder: Path) -> dict[str, Examples]:
    """Read train-* and t10k-* files, `-images-idx3-ubyte` and `-labels-idx1-ubyte`, gzipped (.gz) or not.

    Raises:
      UserError: the folder or a file is missing, or a file is not what its header says.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; idx: takes the folder with MNIST's four files "
            "(train-images-idx3-ubyte.gz and so on), for instance --config.dataset.source=idx:FOLDER"
        )
    splits = {}
    for split, prefix in _PARTS.items():
        images = read_file(_find(folder, f"{prefix}-images-idx3-ubyte"), dimensions=3)
        labels = read_file(_find(folder, f"{prefix}-labels-idx1-ubyte"), dimensions=1)
        if len(images) != len(labels):
            raise UserError(
                f"{folder}: {len(images)} images but {len(labels)} labels in the {prefix}-* files; bring both from "
                "one set"
            )
        splits[split] = Examples(images[..., np.newaxis], labels.astype(np.int32))
    return splits


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(f"{folder}: neither {name}.gz nor {name} is there; put one of them there")


def read_file(path: Path, dimensions: int) -> np.ndarray:
    """Return the array uint8 of that many dimensions.

    Raises:
      UserError: the magic number is another, or the file holds more or fewer values than its header says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    length = 4 + 4 * dimensions
    try:
        with opener(path, "rb") as file:
            header = file.read(length)
            magic = bytes((0, 0, 8, dimensions))
            if header[:4] != magic:
                raise UserError(
                    f"{path}: starts with {header[:4].hex()}, an IDX file of this kind with {magic.hex()}; bring that"
                )
            if len(header) < length:
                raise UserError(f"{path}: ends within its header; bring the whole file")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            count = math.prod(shape)
            packed = path.stat().st_size
            values = bytearray()  # by pieces: a header may promise more than any memory holds
            while len(values) <= count and is_small(len(values), packed) and (piece := file.read(1 << 20)):
                values += piece
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); bring the whole file") from error
    if not is_small(len(values), packed):
        raise UserError(
            f"{path}: has {packed:,} bytes, and more than {len(values):,} when it is unpacked; bring one that is not "
            "made to fill the memory"
        )
    if len(values) != count:
        more = "more" if len(values) > count else str(len(values))
        raise UserError(
            f"{path}: the header promises {count} bytes of {' x '.join(map(str, shape))}, there are {more}; bring "
            "the whole file"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
