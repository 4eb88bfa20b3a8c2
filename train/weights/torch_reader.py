"""Files that torch.save has written: the zip archives of PyTorch since 1.6, and the format before."""

import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import UserError
from train.weights import pickles
from train.weights.file import Tensor, WeightsFile, checked, in_layers, reading
from train.weights.metadata import RECORD, config_states

# The first pickle of the format before 1.6: torch.serialization.MAGIC_NUMBER, and the protocol that follows it.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Where training scripts keep the table of tensors in a checkpoint, and what wrappers put before each name.
_TABLES = ("state_dict", "model_state_dict", "model", "net")
_WRAPPERS = re.compile(r"(module\.|_orig_mod\.)+")  # DataParallel, torch.compile
_LOCAL_HEADER = 30  # bytes before an entry's name
_SAVE_AGAIN = "save model.state_dict() from PyTorch"

Entries = Mapping[str, zipfile.ZipInfo]
ReadStorage = Callable[[pickles.Storage], np.ndarray]


def read_zip(path: Path) -> WeightsFile:
    """Read the names and shapes of a zip archive's tensors.

    Raises:
      UserError: it is damaged, holds code, or is no table of tensors.
    """
    with reading(path, "PyTorch"), zipfile.ZipFile(path) as archive:
        folder = _folder(path, archive.namelist())
        entries = _entries(path, archive)
        if (size := entries[f"{folder}data.pkl"].file_size) > pickles.LARGEST:
            more = f"{size / 2**20:,.0f} MiB besides its tensors"
            raise UserError(f"{path}: has {more}; save model.state_dict() alone from PyTorch")
        if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
            raise UserError(f"{path}: its numbers are big-endian; save it again on another machine")
        table, _ = pickles.load(archive.read(f"{folder}data.pkl"), str(path))
        record = f"{folder}{RECORD}"
        states = config_states(archive.read(record).decode(), path) if record in entries else {}
        views = _state_dict(path, table)
        for storage in dict.fromkeys(view.storage for view in views.values()):
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size < storage.numbers * storage.dtype.itemsize:
                have = f"{entry.file_size:,} bytes for" if entry else "nothing of"
                raise ValueError(f"it has {have} the {storage.numbers:,} numbers of storage {storage.key!r}")

    def read_storage(storage: pickles.Storage) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype, storage.numbers)

    return _file(path, views, read_storage, states)


def _entries(path: Path, archive: zipfile.ZipFile) -> Entries:
    """Return an archive's entries by name, all of which are as PyTorch writes them."""
    entries, behind = archive.infolist(), 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        wrong = None
        if entry.filename.startswith("/") or ".." in entry.filename.split("/") or "\\" in entry.filename:
            wrong = "leads out of it"
        elif entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            wrong = "is compressed"
        elif entry.flag_bits & 1:
            wrong = "is encrypted"
        elif entry.header_offset < behind:
            wrong = "lies on top of another"
        if wrong:
            raise UserError(f"{path}: its entry {entry.filename!r} {wrong}; PyTorch writes none such, {_SAVE_AGAIN}")
        behind = entry.header_offset + _LOCAL_HEADER + entry.file_size
    if behind > path.stat().st_size:
        raise ValueError("its last entry is longer than what is there")
    names = {entry.filename: entry for entry in entries}
    if len(names) < len(entries):
        raise UserError(f"{path}: has two entries of one name; PyTorch writes none such, {_SAVE_AGAIN}")
    return names


def _folder(path: Path, names: Collection[str]) -> str:
    """Return the folder of all that PyTorch has written into an archive, with the slash behind it."""
    tables = [name for name in dict.fromkeys(names) if name.count("/") == 1 and name.endswith("/data.pkl")]
    if "model.weights.h5" in names:
        raise UserError(f"{path}: is a whole model of Keras; save its weights with model.save_weights('F.weights.h5')")
    if len(tables) != 1:
        raise UserError(f"{path}: is a zip archive, but not one of PyTorch (it has no data.pkl); {_SAVE_AGAIN}")
    folder = tables[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise UserError(f"{path}: is a TorchScript program; {_SAVE_AGAIN}")
    return folder


def read_legacy(path: Path) -> WeightsFile:
    """Read the names and shapes of the format before 1.6: pickles, then each storage as a count and its numbers.

    Raises:
      UserError: as `read_zip`.
    """
    with (
        reading(path, "PyTorch"),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):

        def next_pickle() -> Any:
            start = data.tell()
            value, size = pickles.load(data[start : start + pickles.LARGEST], str(path))
            data.seek(start + size)
            return value

        if next_pickle() != MAGIC or next_pickle() != PROTOCOL:
            raise UserError(f"{path}: is a pickle, but not one of PyTorch; {_SAVE_AGAIN}")
        if not next_pickle().get("little_endian", True):
            raise UserError(f"{path}: its numbers are big-endian; save it again on another machine")
        table = next_pickle()
        views = _state_dict(path, table)
        storages = {view.storage.key: view.storage for view in _views(table)}
        places: dict[str, int] = {}
        for key in next_pickle():
            if not isinstance(key, str):  # what is no text may take for ever to compare, or end the process
                raise ValueError(f"a {type(key).__name__} names a storage")
            if key not in storages:
                raise ValueError(f"it has numbers of storage {key!r}, and no tensor is of them")
            storage = storages[key]
            (count,) = struct.unpack("<q", data.read(8))
            places[key] = data.tell()
            end = places[key] + count * storage.dtype.itemsize
            if count != storage.numbers or end > len(data):
                raise ValueError(f"it ends inside storage {key!r}, which has {storage.numbers:,} numbers")
            data.seek(end)
        if missing := {view.storage.key for view in views.values()} - places.keys():
            raise ValueError(f"it has nothing of storage {min(missing)!r}")

    def read_storage(storage: pickles.Storage) -> np.ndarray:
        return np.fromfile(path, storage.dtype, storage.numbers, offset=places[storage.key])

    return _file(path, views, read_storage, {})


def _file(
    path: Path, views: Mapping[str, pickles.View], read_storage: ReadStorage, states: Mapping[str, Any]
) -> WeightsFile:
    def reader(view: pickles.View) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            storage = read_storage(view.storage)
            if len(storage) != view.storage.numbers:  # against which `view` has been held when it was made
                raise ValueError("it has become shorter")
            strides = [stride * storage.itemsize for stride in view.strides]
            return np.lib.stride_tricks.as_strided(storage[view.first :], view.shape, strides, writeable=False)

        return read

    with reading(path, "PyTorch"):
        tensors = {
            name: checked(path, "PyTorch", Tensor(name, view.shape, reader(view))) for name, view in views.items()
        }
        return WeightsFile(path, "torch", **in_layers(tensors), states=states)


def _state_dict(path: Path, table: Any) -> dict[str, pickles.View]:
    """Find the table of tensors: one of the entries of what was saved, or that itself; wrappers' prefixes go."""
    entries = table if isinstance(table, dict) else {}
    # A checkpoint may have tensors beside its table, such as the best accuracy.
    for candidate in (*(entries.get(key) for key in _TABLES), entries):
        if not isinstance(candidate, dict):
            continue
        views = {
            name: view for name, view in candidate.items() if isinstance(name, str) and isinstance(view, pickles.View)
        }
        if views:
            wrappers = _WRAPPERS.match(os.path.commonprefix(list(views)))  # noqa: RUF071  of texts, not of paths
            return {name[wrappers.end() if wrappers else 0 :]: view for name, view in views.items()}
    has = f" (but {', '.join(map(str, entries))})" if entries else ""
    raise UserError(f"{path}: holds no table of tensors{has}; {_SAVE_AGAIN}")


def _views(value: Any) -> Iterable[pickles.View]:
    """Yield every tensor in nested containers."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, pickles.View):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
