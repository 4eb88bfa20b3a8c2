"""Files and folders appear whole, whoever else writes them and whatever lies in their way."""

import fcntl
import json
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from train.errors import UserError
from train.whole import Taken, lock, whole_file, whole_folder, write_whole


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a.json", json.dumps([1]))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left.*a\.json"):
        write_whole(tmp_path / "a.json", json.dumps([2]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    write_whole(pipe, "all of it")
    assert reader.communicate(timeout=60)[0] == "all of it"
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_device_that_takes_nothing_is_named() -> None:
    with pytest.raises(OSError, match=r"No space left.*/dev/full"):
        write_whole(Path("/dev/full"), "more than it takes")


@pytest.mark.parametrize(
    "lay",
    [
        lambda draft, theirs: draft.symlink_to(theirs),
        lambda draft, theirs: draft.symlink_to("nowhere"),
        lambda draft, theirs: draft.symlink_to(draft.name),
        lambda draft, theirs: draft.hardlink_to(theirs),
        lambda draft, theirs: os.mkfifo(draft),
        lambda draft, theirs: draft.write_text("of one that was killed, and longer than what comes"),
    ],
)
def test_what_lies_in_the_way_of_a_draft_is_replaced(lay: Callable[[Path, Path], object], tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs", tmp_path / "a.json"
    theirs.write_text("theirs")
    lay(tmp_path / ".a.json.draft", theirs)
    write_whole(path, "ours")
    assert theirs.read_text() == "theirs"
    assert path.read_text() == "ours"
    assert path.is_file()
    assert not path.is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"theirs", "a.json"}


def test_a_link_in_its_place_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a.json").symlink_to("theirs")
    for name in ("loop", "a.json"):
        write_whole(tmp_path / name, "ours")
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_who_writes_the_same_file_waits(tmp_path: Path) -> None:
    path, half = tmp_path / "a.json", threading.Barrier(2)

    def first() -> None:
        with whole_file(path) as file:
            file.write(b"one")
            file.flush()
            half.wait(60)
            threading.Event().wait(0.3)  # long enough for the other to come to grief, were it not to wait
            file.write(b" whole")

    def second() -> None:
        half.wait(60)
        write_whole(path, "other")

    with ThreadPoolExecutor() as threads:
        for work in [threads.submit(first), threads.submit(second)]:
            work.result(60)
    assert path.read_text() == "other"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_an_error_of_another_file_names_that_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), whole_file(tmp_path / "out.json"):
        (tmp_path / "nowhere").read_text()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    killed = tmp_path / ".made.draft"
    (killed / "below").mkdir(parents=True)

    def make(error: OSError | None = None) -> None:
        with whole_folder(tmp_path / "made") as draft:
            assert list(draft.iterdir()) == []
            (draft / "file").write_text("half" if error else "whole")
            if error:
                raise error

    with pytest.raises(OSError, match="No space"):
        make(OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []
    with lock(killed), pytest.raises(UserError, match=f"^{tmp_path}/made: another process writes there"):
        make()
    make()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "file").read_text() == "whole"


@pytest.mark.parametrize("begun", [False, True])
def test_the_draft_of_who_comes_next_is_left_alone(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replaced(draft: Path, path: Path) -> None:
        replace(draft, path)
        draft.mkdir()
        if begun:
            (draft / "file").write_text("theirs")

    monkeypatch.setattr(Path, "replace", replaced)
    with whole_folder(tmp_path / "made") as draft:
        (draft / "file").write_text("ours")
    assert (tmp_path / "made" / "file").read_text() == "ours"
    assert [file.name for file in draft.iterdir()] == ["file"] * begun


def test_a_lock_is_of_the_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, flock = tmp_path / "run", fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        folder.rmdir()  # by who had it
        folder.mkdir()  # by a third
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock(folder), pytest.raises(Taken, match="another process writes there"), lock(folder):
        raise AssertionError
    assert not folder.exists() or not list(folder.iterdir())
