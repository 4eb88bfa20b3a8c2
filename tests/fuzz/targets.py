"""What is fuzzed: one small function a reader, which returns where a file is read and raises UserError where it is not.

A target's inputs are the bytes of one file. Of a folder with several files the first byte says which of them the others
stand for; the rest of the folder is as it should be.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs import base
from scripts.command_line import check_key
from tests.conftest import write_idx
from tests.train.data.test_decode import encode, exif, scene, sixteen_bits
from tests.train.data.test_npz import pack
from tests.train.weights import test_opening as weights
from tests.train.weights.test_keras_reader import SEQUENCE, whole
from tests.train.weights.test_torch_reader import every, read_all
from train import settings, side_by_side
from train.data import decode, idx, npz, predecoded
from train.data.activations import Store, read_records
from train.data.boxes import middle_box, random_box
from train.errors import UserError
from train.protocols import real, wordnet
from train.records import METRICS, read_metrics
from train.run import RunFolder, to_json
from train.sweep import ranges
from train.weights import keras_reader


@dataclass(frozen=True)
class Target:
    """A reader, and what it reads.

    Attributes:
      read: takes a file's bytes and an empty folder, which it may leave files in; raises UserError of what it refuses.
      seeds: files that it reads.
      short: of the last seed, bytes that are refused (a file that is cut off, as a rule).
    """

    read: Callable[[bytes, Path], object]
    seeds: Sequence[bytes]
    short: bytes = field(repr=False)


def _image(data: bytes, folder: Path) -> None:
    """What is found whole must be readable in each way that images are read."""
    if wrong := decode.check(data):
        raise UserError(wrong)
    for channels in (1, 3):
        decode.crop(data, middle_box, 8, "bilinear", channels)
    decode.crop(data, partial(random_box, random=np.random.default_rng(0), smallest=0.1), 16, "bicubic", 3)
    decode.scaled(data, 4, "bilinear", 3)


def _images() -> list[bytes]:
    small = scene(24, 16)
    files = [encode(small, kind) for kind in ("PNG", "WEBP", "MPO", "JPEG")]
    files += [encode(small, progressive=True), encode(small, exif=exif(6)), encode(small, icc_profile=bytes(200))]
    files += [encode(small.convert(mode), "PNG") for mode in ("1", "L", "P", "LA", "RGBA")]
    files += [encode(small.convert("CMYK")), encode(small, "WEBP", lossless=True)]
    files += [sixteen_bits(np.arange(64 * count).reshape(8, 8, count)) for count in (1, 3, 4)]
    return [*files, encode(scene(16, 16))]


def _with_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def of_bytes(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return of_bytes


def _made(name: str, make: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        make(path)
        return path.read_bytes()


def _one_file(name: str, read: Callable[[Path], object], *makers: Callable[[Path], object]) -> Target:
    seeds = [_made(name, make) for make in makers]
    return Target(_with_file(name, read), seeds, seeds[-1][: len(seeds[-1]) // 2])


def _idx(name: str) -> Target:
    images = np.arange(75).reshape(3, 5, 5)
    return _one_file(name, partial(idx.read_file, dimensions=3), lambda path: write_idx(path, images))


def _npz() -> Target:
    images = np.arange(200).reshape(2, 10, 10).astype(np.uint8)
    packed = pack([scene(16, 16), scene(16, 16)])

    def read(path: Path) -> None:
        for stream in (False, True):
            for split in npz.read(path, stream=stream).splits.values():
                split.take(np.arange(split.total))

    return _one_file(
        "set.npz",
        read,
        lambda path: np.savez(path, image=images, label=[0, 1], class_names=["cat", "dog"]),
        lambda path: np.savez_compressed(path, image=images, label=[0, 1]),
        lambda path: np.savez(path, **packed),
    )


class _Folder:
    """A folder of which one file at a time is replaced."""

    def __init__(self, files: dict[str, bytes], read: Callable[[Path], object]) -> None:
        self._files, self._read = files, read
        self.names = sorted(files)

    def read(self, data: bytes, folder: Path) -> object:
        if not data:
            raise UserError("is empty")
        changed = self.names[data[0] % len(self.names)]
        for name, content in self._files.items():
            (folder / name).write_bytes(data[1:] if name == changed else content)
        return self._read(folder)

    def target(self, short: str) -> Target:
        seeds = [bytes([place]) + self._files[name] for place, name in enumerate(self.names)]
        cut = self._files[short]
        return Target(self.read, seeds, bytes([self.names.index(short)]) + cut[: len(cut) // 2])


def _array(array: Any) -> bytes:
    return _made("a.npy", lambda path: np.save(path, array))


def store_files() -> dict[str, bytes]:
    """The files of a small store of activations."""
    of: dict[str, Any] = {"network": {}, "weights": {}, "preprocessing": {}, "data": {"fingerprint": ""}}
    of |= {"views": {"count": 2}}
    config = {"dataset": {"class_names": ["cat", "dog"], "classes": 2}}
    manifest: dict[str, Any] = {"version": 1, "of": of, "layers": {"F6": [3]}, "dtype": "float32"}
    manifest |= {"splits": {"train": 3, "test": 2}, "shard_rows": 4, "batch_size": 2, "config": config}
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    return {
        "store.json": json.dumps(manifest).encode(),
        "train-records.json": json.dumps([["a", "", "cat"]] * 3).encode(),
        "test-records.json": json.dumps([["a", "", "cat"]] * 2).encode(),
        "train-label.npy": _array(np.zeros(3, np.int32)),
        "test-label.npy": _array(np.zeros(2, np.int32)),
        "train-F6-00000.npy": _array(rows[:4]),
        "train-F6-00001.npy": _array(rows[4:]),
        "test-F6-00000.npy": _array(rows[:2]),
    }


def _store() -> Target:
    def read(path: Path) -> None:
        store = Store(path)
        assert store.classes >= 0
        assert store.class_names is None or all(isinstance(name, str) for name in store.class_names)
        for split in store.splits:
            read_records(path, split)
            for layer in store.layers:
                store.load(split, layer)

    return _Folder(store_files(), read).target("test-F6-00000.npy")


def _cache() -> Target:
    about: dict[str, Any] = {"format": 1, "source": "folder:x", "image_size": 4, "resize": "bilinear", "channels": 3}
    about |= {"classes": ["cat", "dog"], "skipped": [], "splits": {"train": {"count": 2, "fingerprint": "f"}}}
    table = {"offset": [0, 48, 108], "side": np.array([[4, 4], [4, 5]], np.int32), "label": np.array([0, 1], np.int32)}
    texts = {"id": np.array([b"cat/a", b"dog/b"]), "digest": np.array([b"12", b"34"])}
    files = {
        "cache.json": json.dumps(about).encode(),
        "train.npz": _made("a.npz", lambda path: np.savez(path, **table, **texts)),
        "train.pixels": bytes(range(108)),
    }

    def read(path: Path) -> None:
        for photos in predecoded.read(path, 4).splits.values():
            photos.load(np.arange(photos.total), 4, "bilinear", lambda _: middle_box)
            for index in range(photos.total):
                photos.records.id(index), photos.records.digest(index)

    return _Folder(files, read).target("train.pixels")


def _weights(name: str) -> Target:
    return _one_file(name, read_all, weights.MAKERS[name])


def _keras() -> Target:
    """HDF5's own library is run in a process of its own; fuzzed is what is made of its list."""
    listing = _made("list.json", lambda path: path.write_text(json.dumps(keras_reader._listing(_whole(path)))))

    def read(data: bytes, folder: Path) -> None:
        (folder / "net.h5").write_bytes(bytes(4096))
        before = keras_reader._listing
        keras_reader._listing = lambda path: json.loads(data)
        try:
            for tensor in every(keras_reader.read(folder / "net.h5")).values():
                tensor.read()
        finally:
            keras_reader._listing = before

    return Target(read, [listing], listing[:-10])


def _whole(path: Path) -> Path:
    return whole(path.with_name("net.h5"), SEQUENCE)


def _run() -> Target:
    config = base.get_config()
    config.model.name = "mlp"
    config.dataset.update(image_size=8, channels=1, classes=2, class_names=("cat", "dog"), mean=(0.5,), std=(0.25,))
    settings.resolve(config)
    line = {"step": 1, "epoch": 0.5, "split": "train", "loss": 1.0, "accuracy": 0.5, "top5_accuracy": 1.0}
    line |= {"images_per_second": 10.0, "learning_rate": 0.1, "seconds": 1.0}
    test = {"loss": 1.0, "accuracy": 0.5, "top5_accuracy": 1.0, "count": 2}
    result = {"step": 1, "best_step": 1, "seconds": 1.0, "parameters": 3, "compile_seconds": 0.1, "test_split": "test"}
    result |= {"train": {"loss": 1.0, "accuracy": 0.5, "images_per_second": 10.0}, "test": test}
    data = {"source": "digits", "fingerprint": "f", "counts": {"train": 2}, "skipped": []}
    files = {
        "config.json": settings.to_json(config).encode(),
        "environment.json": to_json({"data": data, "python": "3.11"}).encode(),
        "metrics.jsonl": (json.dumps(line) + "\n" + json.dumps(line | {"split": "validation"}) + "\n").encode(),
        "result.json": to_json(result).encode(),
    }

    def read(path: Path) -> None:
        folder = RunFolder(path)
        settings.class_names(folder.config.dataset)
        for record in read_metrics(path / METRICS):
            f"{record['step']:,} {record['split']}"
        if folder.result is not None:
            side_by_side.figures(folder)
        folder.environment["data"]["fingerprint"]

    return _Folder(files, read).target("config.json")


def _ranges() -> Target:
    text = '[grid]\nseed = [0, 1, 2]\noptimizer.momentum = [0.8, 0.9]\n[random]\nmodel.activation = ["relu", "tanh"]\n'
    text += 'schedule.learning_rate = {low = 0.01, high = 0.3, scale = "log"}\n'
    text += "[draws]\ncount = 16\nseed = 0\n[asha]\ngrace = 1\nreduction = 3\n"
    config = base.get_config()

    def read(path: Path) -> None:
        found = ranges.read(path, config, check_key)
        for _, draw in zip(range(10), found.draws(), strict=False):
            assert draw.keys() == found.random.keys()

    return _one_file("sweep.toml", read, lambda path: path.write_text(text))


def _wordnet() -> Target:
    line = "{0} 03 n 01 {1} 0 00{2} | {1}, as a dictionary says"
    nouns = [("00000001", "thing", None), ("00000002", "cat", "00000001"), ("00000003", "dog", "00000001")]
    lines = [line.format(n, name, f"1 @ {up} n 0000" if up else "0") for n, name, up in nouns]
    text = "  1 This is the licence\n" + "\n".join(lines) + "\n"
    answers, labels = np.eye(2, dtype=np.float32), np.array([1, 0], np.int32)

    def read(path: Path) -> None:
        wordnet.severity(answers, labels, ("n00000002", "n00000003"), path.parent)

    return _one_file("data.noun", read, lambda path: path.write_text(text))


def _real_labels() -> Target:
    ids = [f"n01/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3)]
    read = lambda path: real.accuracy(np.eye(3, dtype=np.float32), ids, path)  # noqa: E731
    return _one_file("real.json", read, lambda path: path.write_text("[[0], [1, 2], []]"))


TARGETS: dict[str, Callable[[], Target]] = {
    "image": lambda: Target(_image, seeds := _images(), seeds[-1][:-60]),
    "idx": lambda: _idx("images-idx3-ubyte"),
    "idx.gz": lambda: _idx("images-idx3-ubyte.gz"),
    "npz": _npz,
    "store": _store,
    "cache": _cache,
    **{name: partial(_weights, name) for name in weights.WITHIN},
    "keras": _keras,
    "run": _run,
    "ranges": _ranges,
    "wordnet": _wordnet,
    "real_labels": _real_labels,
}
