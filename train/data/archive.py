"""NumPy archives (.npz) that anyone may have made: nothing is unpacked before what it claims has been looked at."""

import math
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

# What is unpacked may be so many times as large as its file; of small files it does not matter.
_MOST_TIMES, _SMALL = 100, 2**28


def read(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an archive, or those of the names.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no archive as NumPy writes them, holds what would have to be run, or claims more than it has.
      KeyError: it has no array of a name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(path, archive)
            wanted = entries if names is None else {name: entries[name] for name in names}
            return {name: _array(archive, entry) for name, entry in wanted.items()}
    except (OSError, ValueError, KeyError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes zipfile and NumPy raise
        raise ValueError(str(error) or type(error).__name__) from error


def is_small(unpacked: int, packed: int) -> bool:
    """Whether what has been packed may be unpacked: zeros can be a thousand times as large as their file."""
    return unpacked <= max(_SMALL, _MOST_TIMES * packed)


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or name in entries:
            raise ValueError(f"its entry {entry.filename!r} is no array, or is there twice")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise ValueError(f"its entry {entry.filename!r} is encrypted, or packed as NumPy packs none")
        entries[name] = entry
    unpacked, packed = sum(entry.file_size for entry in entries.values()), path.stat().st_size
    if not is_small(unpacked, packed):
        raise ValueError(f"it has {packed:,} bytes, and claims {unpacked:,} when it is unpacked")
    return entries


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read_header is None:
            raise ValueError(f"{entry.filename!r} is of version {version} of the format")
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename!r} holds objects, which a program would have to make")
        there = entry.file_size - file.tell()
        if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != there:
            raise ValueError(f"{entry.filename!r} claims {dtype} {list(shape)}, and has {there:,} bytes")
    with archive.open(entry) as file:
        array: np.ndarray = npy.read_array(file, allow_pickle=False)
        return array
