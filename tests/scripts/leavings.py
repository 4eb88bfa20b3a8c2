"""What commands leave in a folder, as it can be compared: everything but times, and whether each file is whole."""

import ctypes
import hashlib
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.export
import numpy as np
import onnx
import orbax.checkpoint as ocp
import safetensors.numpy
from jax._src import compilation_cache
from tensorboardX.proto.event_pb2 import Event

from train.run import METRICS, read_metrics

# What may be otherwise in a result that was come to with interruptions: when, how long, how often.
_OF_TIME = {"started", "resumed", "command_line", "seconds", "compile_seconds", "images_per_second", "together"}
_TIMES = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d\+\d{4})?",
    r"\d[\d,.]* (s|min|h|images/s)(?=\s|<|,|;|\.)",
    r"<pre>python -m .*?</pre>",
    r"<tr><th>resumed</th>.*?</tr>",
)


def contents(folder: Path) -> dict[str, Any]:
    """Return what lies in a folder, by path: content that can be compared, of files too large for that a digest.

    Checkpoints are the arrays in them, events of TensorBoard the scalars. Of caches and of what children have printed
    there is the name alone, or nothing: which programs a launch compiles depends on where it begins.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        above = name.split("/")[:-1]
        if "xla" in above or path.name in (".table", "xla"):
            continue
        if "checkpoints" in above or "frozen" in above:
            if (path / "_METADATA").is_file():
                found[name] = _arrays(path)
            elif above[-1] in ("checkpoints", "progress", "metrics") and path.name != "commit_success.txt":
                found[name] = None if path.is_dir() else _of_file(path, folder)
        elif "tensorboard" in above:
            events = "/".join([*above, "events"])
            found[events] = sorted([*found.get(events, ()), *_scalars(path)])
        elif path.name == "frozen":
            found[name] = _arrays(path)
        else:
            found[name] = None if path.is_dir() or "logs" in above else _of_file(path, folder)
    return found


def _of_file(path: Path, folder: Path) -> Any:
    if path.name == METRICS:
        return [_timeless(row) for row in read_metrics(path)]
    if path.suffix == ".json" or path.parent.name in ("progress", "metrics"):
        value = _timeless(json.loads(path.read_text().replace(str(folder), "FOLDER")))
        return {key: value[key] for key in value if key != "crc32"} if isinstance(value, dict) else value
    if path.suffix == ".html":
        text = path.read_text().replace(str(folder), "FOLDER")
        for pattern in _TIMES:
            text = re.sub(pattern, "TIME", text, flags=re.DOTALL)
        return text
    if path.suffix == ".so":
        return "a library"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    """Return a value of JSON without times."""
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _OF_TIME}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _arrays(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return the arrays that Orbax has written."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path).item_metadata.tree
        as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = reader.restore(path, restore_args=as_arrays)
    named = (
        (jax.tree_util.keystr(name), np.asarray(leaf)) for name, leaf in jax.tree_util.tree_leaves_with_path(found)
    )
    return {name: (leaf.dtype.name, leaf.shape, leaf.tobytes()) for name, leaf in named}


def _scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, name and value of each scalar in a file of TensorBoard's records."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        for value in event.summary.value:
            if not value.tag.endswith("images_per_second"):
                yield event.step, value.tag, value.simple_value
        place += 12 + length + 4


def check_whole(folder: Path) -> None:
    """Make sure that every file which stands under its name is whole, whatever happened to who wrote it."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or re.search(
            r"(^|/)\.|orbax-checkpoint-tmp|(^|/)(checkpoints|frozen|tensorboard)/", name
        ):
            continue  # a draft; or what Orbax and TensorBoard's readers are asked about, when all is over
        try:
            _read(path)
        except Exception as error:
            raise AssertionError(f"{name} is not whole: {type(error).__name__}: {error}") from error


def _read(path: Path) -> None:
    if path.name == METRICS:
        read_metrics(path)
    elif path.name.endswith("-cache"):
        compilation_cache.decompress_executable(path.read_bytes())
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".npy":
        np.load(path)
    elif path.suffix in (".npz", ".pth"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".png":
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".md":
        assert path.read_text().endswith("}\n```\n")
    elif path.suffix == ".safetensors":
        safetensors.numpy.load_file(path)
    elif path.suffix == ".onnx":
        onnx.checker.check_model(onnx.load(path))
    elif path.suffix == ".stablehlo":
        jax.export.deserialize(bytearray(path.read_bytes()))
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            file.visititems(lambda _, entry: entry[()] if isinstance(entry, h5py.Dataset) else None)
    elif path.suffix == ".pixels":
        with np.load(path.with_suffix(".npz")) as table:
            assert path.stat().st_size == table["offset"][-1]
    elif path.suffix == ".so":
        ctypes.CDLL(str(path))
    elif path.suffix == ".txt":  # what a run of a sweep has printed
        path.read_text()
    elif path.suffix != ".log":
        raise AssertionError("nobody has said what it should hold")
