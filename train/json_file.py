"""JSON that anyone may have written: what it holds, or a ValueError; it takes no more than 2 GB, and is finite."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

# A value takes some 100 bytes in memory, though it may be two in the file.
_MOST, _OF_A_VALUE = 2**31, 100


def content(path: Path) -> bytes:
    """Return the bytes of a file that may be parsed.

    Raises:
      OSError: it cannot be read.
      ValueError: what it holds would not fit into 2 GB.
    """
    if (size := path.stat().st_size) <= _MOST // 4:
        data = path.read_bytes()
        if fits(data):
            return data
    raise ValueError(f"it has {size:,} bytes, and takes too much memory")


def fits(data: bytes) -> bool:
    """Whether what is written may be read again: what it holds takes no more than 2 GB."""
    return len(data) <= _MOST // 4 and len(data) + _OF_A_VALUE * sum(map(data.count, (b"[", b"{", b","))) <= _MOST


def read(path: Path) -> Any:
    """Return what a file holds.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON, is too large or nested too deeply, or has a number that is not finite.
    """
    return parsed(content(path))


def parsed(data: bytes | str) -> Any:
    """Return what is written.

    Raises:
      ValueError: as `read`.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has not")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text[:20]}, which is no finite number")
    return value
