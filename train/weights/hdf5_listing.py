"""What an HDF5 file holds, as JSON: a program of its own, for HDF5's library believes what a damaged file claims.

A wrong byte sends it into a loop without an end, or makes it ask for gigabytes. Here it has little memory and little
time, and whoever reads the list takes the numbers from the file without it.

    python -P hdf5_listing.py FILE
"""

import contextlib
import json
import resource
import sys
from typing import Any

import h5py

MEMORY = 2**30  # bytes; Python and the library take 200 MB
SECONDS = 5  # of computing; a whole model of Keras takes a tenth of one
# The attributes that Keras writes and the reader needs.
ATTRIBUTES = ("layer_names", "weight_names", "model_config", "name")


def listing(path: str) -> dict[str, dict[str, Any]]:
    """Return, by path, what is in a file.

    Returns:
      of a group `attributes`; of data also `shape`, `dtype` and `offset` in bytes, which is None where they do not lie
      in one piece in this file; of a text `text`; of what leads elsewhere `link`.
    """
    found: dict[str, dict[str, Any]] = {}
    with h5py.File(path) as file:
        waiting, seen = [("", file)], {file}
        while waiting:
            place, group = waiting.pop()
            found[place] = _attributes(group)
            for name in group:
                below = f"{place}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    found[below] = {"link": True}
                elif not isinstance(item := group[name], h5py.Group):
                    found[below] = _attributes(item) | (_data(item) if isinstance(item, h5py.Dataset) else {})
                elif item in seen:  # a group may be linked from within itself
                    found[below] = {"link": True}
                else:
                    seen.add(item)
                    waiting.append((below, item))
    return found


def _attributes(item: Any) -> dict[str, Any]:
    return {"attributes": {name: _texts(item.attrs[name]) for name in ATTRIBUTES if name in item.attrs}}


def _data(item: Any) -> dict[str, Any]:
    if h5py.check_string_dtype(item.dtype) and item.shape == ():
        return {"text": _texts(item[()])}
    inside = not item.is_virtual and not item.external
    return {"shape": item.shape, "dtype": item.dtype.str, "offset": item.id.get_offset() if inside else None}


def _texts(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else [_texts(each) for each in value if isinstance(each, str | bytes)]


if __name__ == "__main__":
    for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS)):
        with contextlib.suppress(ValueError, OSError):  # of systems that have no such limit
            resource.setrlimit(limit, (most, most))
    try:
        print(json.dumps(listing(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error.args[0]) if error.args else type(error).__name__)  # a KeyError's text has quotation marks
