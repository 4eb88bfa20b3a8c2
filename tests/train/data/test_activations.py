"""Stores of activations from strangers: what store.json claims is held against itself and against the files."""

import errno
import json
import os
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
    for name, content in store_files().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


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


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda path: (path / "store.json").write_text("{"),
    "nested": lambda path: (path / "store.json").write_text("[" * 100_000),
    "list": lambda path: (path / "store.json").write_text("[]"),
    "layers": lambda path: says(path, layers=[["F6", [3]]]),
    "no layers": lambda path: says(path, layers={}),
    "elsewhere": lambda path: says(path, layers={"../../F6": [3]}),
    "a split elsewhere": lambda path: says(path, splits={"/etc/train": 3}),
    "giant": lambda path: says(path, layers={"F6": [2**62, 2**62]}),
    "negative": lambda path: says(path, layers={"F6": [-3]}),
    "no rows": lambda path: says(path, shard_rows=0),
    "rows": lambda path: says(path, shard_rows="4"),
    "many": lambda path: says(path, splits={"train": 10**12, "test": 2}),
    "more": lambda path: says(path, splits={"train": 4, "test": 2}),
    "batches": lambda path: says(path, batch_size=0),
    "views": lambda path: of_what(path, views={"count": 10**9}),
    "no views": lambda path: of_what(path, views={}),
    "of nothing": lambda path: says(path, of={}),
    "of more": lambda path: of_what(path, x=1),
    "weights": lambda path: of_what(path, weights=["F6"]),
    "fingerprint": lambda path: of_what(path, data={"fingerprint": None}),
    "dtype": lambda path: says(path, dtype="object"),
    "another dtype": lambda path: says(path, dtype="float16"),
    "config": lambda path: says(path, config=None),
    "classes": lambda path: says(path, config={"dataset": {"class_names": None, "classes": 0}}),
    "names": lambda path: says(path, config={"dataset": {"class_names": ["a", 7], "classes": 2}}),
    "labels": lambda path: np.save(path / "train-label.npy", np.array([0, 1, 2], np.int32)),
    "labels below": lambda path: np.save(path / "train-label.npy", np.array([0, 1, -1], np.int32)),
    "floats": lambda path: np.save(path / "train-label.npy", np.zeros(3)),
    "doubles": lambda path: np.save(path / "test-F6-00000.npy", np.zeros((2, 3))),
    "objects": lambda path: np.save(path / "test-F6-00000.npy", np.array([[None] * 3] * 2), allow_pickle=True),
    "short": lambda path: (path / "test-F6-00000.npy").write_bytes((path / "test-F6-00000.npy").read_bytes()[:-1]),
    "a pickle": lambda path: (path / "test-F6-00000.npy").write_bytes(b"cos\nsystem\n(S'touch x'\ntR."),
    "an archive": lambda path: (np.savez(path / "a.npz"), (path / "a.npz").rename(path / "test-F6-00000.npy")),
    "half a header": lambda path: (path / "test-F6-00000.npy").write_bytes(b"\x93NUMPY\x01\x00\x02\x00{("),
    "a folder": lambda path: ((path / "test-F6-00000.npy").unlink(), (path / "test-F6-00000.npy").mkdir()),
    "records": lambda path: (path / "train-records.json").write_text('[["a", "b", {}]]'),
    "short records": lambda path: (path / "train-records.json").write_text('[["a", "b"]]'),
    "nested records": lambda path: (path / "train-records.json").write_text("[" * 100_000),
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
    DAMAGE[what](store)
    with pytest.raises(UserError) as error:
        read(store)
    assert str(store) in str(error.value)
    assert str(error.value).isprintable()
