"""Stores of activations from strangers: what store.json claims is held against itself and against the files."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz.targets import store_files
from train.data.activations import Store, read_records
from train.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    for name, content in store_files().items():
        (tmp_path / "store" / name).write_bytes(content)
    return tmp_path / "store"


def read(path: Path) -> None:
    store = Store(path)
    for split in store.splits:
        read_records(path, split)
        for layer in store.layers:
            store.load(split, layer)


def says(path: Path, **changes: Any) -> None:
    about = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(about | changes))


def of_what(path: Path, **changes: Any) -> None:
    says(path, of=json.loads((path / "store.json").read_text())["of"] | changes)


SHARD, LABELS, RECORDS = "test-F6-00000.npy", "train-label.npy", "train-records.json"
NO_CLASSES, A_NUMBER = {"class_names": None, "classes": 0}, {"class_names": ["a", 7], "classes": 2}
OBJECTS = np.array([[None] * 3] * 2)

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda path: (path / "store.json").write_text("{"), "Expecting property name"),
    "nested": (lambda path: (path / "store.json").write_text("[" * 100_000), "nested too deeply"),
    "list": (lambda path: (path / "store.json").write_text("[]"), "does not say what a store's says"),
    "layers": (lambda path: says(path, layers=[["F6", [3]]]), "does not say what"),
    "no layers": (lambda path: says(path, layers={}), "must be one of Python's"),
    "elsewhere": (lambda path: says(path, layers={"../../F6": [3]}), "must be one of Python's"),
    "a split elsewhere": (lambda path: says(path, splits={f"{path}/train": 3}), "must be one of Python's"),
    "giant": (lambda path: says(path, layers={"F6": [2**62, 2**62]}), "whole numbers above 0"),
    "negative": (lambda path: says(path, layers={"F6": [-3]}), "whole numbers above 0"),
    "no rows": (lambda path: says(path, shard_rows=0), "whole numbers above 0"),
    "rows": (lambda path: says(path, shard_rows="4"), "whole numbers above 0"),
    "many": (lambda path: says(path, splits={"train": 10**12, "test": 2}), "not labels of its images"),
    "more": (lambda path: says(path, splits={"train": 4, "test": 2}), "not labels of its images"),
    "batches": (lambda path: says(path, batch_size=0), "whole numbers above 0"),
    "views": (lambda path: of_what(path, views={"count": 10**9}), "its views must be"),
    "no views": (lambda path: of_what(path, views={}), "does not say what"),
    "of nothing": (lambda path: says(path, of={}), "must say what it is of"),
    "of more": (lambda path: of_what(path, x=1), "must say what it is of"),
    "weights": (lambda path: of_what(path, weights=["F6"]), "must say what it is of"),
    "fingerprint": (lambda path: of_what(path, data={"fingerprint": None}), "the fingerprint of its data"),
    "dtype": (lambda path: says(path, dtype="object"), "must be of float32, float16, bfloat16"),
    "another dtype": (lambda path: says(path, dtype="float16"), "holds float32, not float16"),
    "config": (lambda path: says(path, config=None), "does not say what"),
    "classes": (
        lambda path: says(path, config={"dataset": NO_CLASSES}),
        "whole numbers above 0",
    ),
    "names": (
        lambda path: says(path, config={"dataset": A_NUMBER}),
        "must name each of its 2 classes",
    ),
    "labels": (lambda path: np.save(path / LABELS, np.array([0, 1, 2], np.int32)), "not of 2 classes"),
    "labels below": (
        lambda path: np.save(path / LABELS, np.array([0, 1, -1], np.int32)),
        "not of 2 classes",
    ),
    "floats": (lambda path: np.save(path / LABELS, np.zeros(3)), "holds float64 (3,), not labels"),
    "doubles": (lambda path: np.save(path / SHARD, np.zeros((2, 3))), "holds float64, not float32"),
    "objects": (
        lambda path: np.save(path / SHARD, OBJECTS, allow_pickle=True),
        "Python objects",
    ),
    "short": (
        lambda path: (path / SHARD).write_bytes((path / SHARD).read_bytes()[:-1]),
        "greater than file size",
    ),
    "a pickle": (
        lambda path: (path / SHARD).write_bytes(b"cos\nsystem\n(S'touch x'\ntR."),
        "no array of NumPy's",
    ),
    "an archive": (
        lambda path: (np.savez(path / "a.npz"), (path / "a.npz").rename(path / SHARD)),
        "no array of NumPy's",
    ),
    "half a header": (
        lambda path: (path / SHARD).write_bytes(b"\x93NUMPY\x01\x00\x02\x00{("),
        "test-F6-00000.npy: cannot be read",
    ),
    "a folder": (
        lambda path: ((path / SHARD).unlink(), (path / SHARD).mkdir()),
        "Is a directory",
    ),
    "records": (lambda path: (path / RECORDS).write_text('[["a", "b", {}]]'), "must be texts"),
    "short records": (
        lambda path: (path / RECORDS).write_text('[["a", "b"]]'),
        "must say id",
    ),
    "nested records": (lambda path: (path / RECORDS).write_text("[" * 100_000), "nested too deeply"),
}


def test_a_whole_one_is_read(store: Path) -> None:
    read(store)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_what_the_system_refuses_now_is_no_reason_to_remove_a_store(
    number: int, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "load", refused)
    with pytest.raises(UserError) as error:
        read(store)
    assert f"cannot be read ({os.strerror(number)}); mend that, and" in str(error.value)
    assert "remove" not in str(error.value)


@pytest.mark.parametrize("what", DAMAGE)
def test_what_lies_is_one_line(what: str, store: Path) -> None:
    damage, words = DAMAGE[what]
    damage(store)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        read(store)
    assert str(store) in str(error.value)
    assert str(error.value).isprintable()
