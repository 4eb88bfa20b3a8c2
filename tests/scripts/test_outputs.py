"""--output: what a command says before its work of a place that it cannot write to, and what it leaves alone."""

import os
from pathlib import Path

import pytest

from scripts import outputs
from train.errors import UserError
from train.whole import is_device, write_whole


def test_a_device_stays() -> None:
    for name in ("/dev/null", "/dev/../dev/null"):
        assert is_device(outputs.file(name))  # it is not tried: a fault would take the machine's


def test_what_devs_links_lead_to_is_not_replaced(tmp_path: Path) -> None:
    """As of `command --output=/dev/stdout > file`: the shell has the file open."""
    with (tmp_path / "file").open("w") as file:
        inode, name = os.fstat(file.fileno()).st_ino, f"/dev/fd/{file.fileno()}"
        write_whole(outputs.file(name), "in it")
    assert (tmp_path / "file").stat().st_ino == inode
    assert (tmp_path / "file").read_text() == "in it"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "latest.json").symlink_to("a.json")
    (tmp_path / "next.json").symlink_to("b.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    assert outputs.file(str(tmp_path / "loop.json")).name == "loop.json"
    for name, target in (("latest.json", "a.json"), ("next.json", "b.json")):
        write_whole(outputs.file(str(tmp_path / name)), "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "new"


def test_where_nothing_can_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    (tmp_path / "dangling.json").symlink_to("nowhere/a.json")
    os.mkfifo(tmp_path / "pipe")
    # As the system answers who may not; root, who may run the tests, may.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name not in ("locked", "pipe", "dev"))
    for name, message in (
        (".", "is a folder; name a file"),
        ("file/a.json", "there is no folder .*file that can be written to; name another"),
        ("nowhere/a.json", "there is no folder .*nowhere that can be written to; name another"),
        ("dangling.json", "there is no folder .*/nowhere that can be written to; name another"),
        ("locked/a.json", "there is no folder .*locked that can be written to; name another"),
        ("pipe", "pipe: cannot be written to; name another"),
    ):
        with pytest.raises(UserError, match=f"^--output=.*{message}"):
            outputs.file(str(tmp_path / name))
    for name, message in (("file", "is no folder"), ("locked", "cannot be written to")):
        with pytest.raises(UserError, match=f"{name} {message}; name another"):
            outputs.folder(str(tmp_path / name / "below" / "it"))
    assert outputs.file("/dev/null") == Path("/dev/null")  # nobody but root may write beside it


def test_a_picture_says_what_it_is_also_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "plot.png").symlink_to("latest")
    for name in ("plot.jpg", "plot", "plot.png"):
        with pytest.raises(UserError, match=r"must end in \.png or \.svg"):
            outputs.picture(str(tmp_path / name))
    assert outputs.picture(str(tmp_path / "other.SVG")) == tmp_path / "other.SVG"
