"""What storage does to commands: no room, no permission, another place, another process.

A full disk is a small one of its own (tmpfs) in a mount namespace of its own, which root and, on most systems, anybody
may make (`unshare --user --map-root-user --mount`). Where nobody may, no file may grow beyond a size (RLIMIT_FSIZE).
Commands that lose a permission run without root's capability to pass over modes, so that nobody needs another user.
attacks.py does it, in one process for all commands of a test.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.conftest import CHECKOUT, fresh
from tests.train.test_resume import assert_same_bits
from train import loop
from train.errors import AGAIN, UserError
from train.features import of_run
from train.report import again as report
from train.run import RESULT, RunFolder
from train.weights import exporting
from train.whole import lock


@pytest.fixture(scope="module")
def experiment() -> ConfigDict:
    """The config of attacks.py."""
    from tests.scripts import attacks

    names: dict[str, Any] = {}
    exec(attacks.CONFIG, names)
    return names["get_config"]()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, experiment: ConfigDict) -> Path:
    """A folder with a finished run, and with what else the commands read."""
    folder = tmp_path_factory.mktemp("given")
    loop.train(fresh(experiment), folder / "whole")
    whole = RunFolder(folder / "whole")
    exporting.export(whole, "safetensors", folder / "net.safetensors")
    of_run.extract(whole, None, ("hidden1",), folder / "store", {})
    for name in "ab":
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What begins a command line whose process may mount; nothing, where nobody may."""
    place = tmp_path_factory.mktemp("mount")
    for line in (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"]):
        try:
            tried = subprocess.run([*line, "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
        except OSError:  # there is no such command
            break
        if tried.returncode == 0:
            return line
    return []


Attack = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(params=["a disk", pytest.param("a limit", marks=pytest.mark.slow)])
def attack(request: pytest.FixtureRequest, given: Path, alone: list[str], tmp_path: Path) -> Attack:
    """Runs attacks.py in a copy of what it reads, and returns what has come of each command."""
    if sys.platform != "linux":
        pytest.skip("capabilities and namespaces are Linux's")
    if request.param == "a limit":
        alone = []
    elif not alone:
        pytest.skip("nothing can be mounted here")
    for there in given.iterdir():
        (shutil.copytree if there.is_dir() else shutil.copy)(there, tmp_path / there.name)

    def run(what: str) -> list[dict[str, Any]]:
        line = [
            *alone,
            sys.executable,
            "-m",
            "tests.scripts.attacks",
            what,
            str(tmp_path),
            *(["mount"] if alone else []),
        ]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
        process = subprocess.run(
            line, capture_output=True, text=True, cwd=CHECKOUT, env=os.environ | cache, timeout=3600
        )
        assert process.returncode == 0, process.stderr
        return [json.loads(line) for line in process.stdout.splitlines()]

    return run


def assert_one_line(ended: list[Any]) -> str:
    """Return the line of a user's error."""
    status, output, error = ended
    assert status == 1, (status, output, error)
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    return str(error)


def assert_well(ended: list[Any]) -> None:
    assert ended[0] == 0, ended
    assert ended[2] == "", ended


DRAFTS = ("draft", "tmp", "incomplete")


def check_trainings(came: list[dict[str, Any]], folder: Path, whole: Path) -> None:
    """Each has been refused in a line that says what to do, and has then come to where nothing was in its way."""
    for one in came:
        line = assert_one_line(one["first"])
        assert f"{folder}/disk/run" in line
        assert "cannot be written" in line
        assert AGAIN in line
        assert f"run/{RESULT}" not in one["left"]
        assert not [left for left in one["left"] if "draft" in left]
        assert_well(one["again"])
    runs = sorted(folder.glob("run-*"))
    assert len(runs) == len(came)
    for run_folder in runs:
        assert_same_bits(run_folder, whole)
        assert not [path for path in run_folder.rglob("*") if any(word in path.name for word in DRAFTS)]


def test_a_training_goes_on_when_there_is_room(attack: Attack, given: Path, tmp_path: Path) -> None:
    came = attack("training")
    check_trainings(came, tmp_path, given / "whole")


@pytest.mark.slow
def test_a_training_goes_on_wherever_the_disk_fills(attack: Attack, given: Path, tmp_path: Path) -> None:
    check_trainings(attack("training, many sizes"), tmp_path, given / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["a disk"], indirect=True)
def test_a_report_that_finds_no_room_costs_nothing_else(attack: Attack, given: Path, tmp_path: Path) -> None:
    for one in attack("training with report"):
        assert_one_line(one["first"])
        assert f"run/{RESULT}" in one["left"]
        assert "run/report.html" not in one["left"]
        assert_well(one["again"])
    for run_folder in tmp_path.glob("run-*"):
        assert_same_bits(run_folder, given / "whole")
        assert (run_folder / "report.html").exists()


def check_writers(came: list[dict[str, Any]]) -> None:
    """Each is refused with a line and leaves no file that is not whole, or has had room enough."""
    for one in came:
        if one["first"][0] == 0:
            assert_well(one["first"])
        else:
            line = assert_one_line(one["first"])
            assert "No space left" in line or "File too large" in line or " MB are free" in line, line
            assert "room" in line
        assert not [left for left in one["left"] if any(word in left for word in DRAFTS)], one
        assert one["torn"] == [], one  # what stood under its name was what stands there in the end
        if one["first"][0] == 0 and one["again"][0]:  # what is made once
            assert "is there already" in assert_one_line(one["again"])
        else:
            assert_well(one["again"])


def test_no_command_leaves_half_a_file_on_a_full_disk(attack: Attack) -> None:
    came = attack("writers")
    check_writers(came)
    assert sum(one["first"][0] for one in came) >= 3  # what fits into the limit is written


@pytest.mark.slow
def test_all_commands_on_full_disks(attack: Attack) -> None:
    check_writers(attack("all writers"))


@pytest.mark.slow
def test_all_commands_on_a_read_only_disk(attack: Attack) -> None:
    for one in attack("read-only"):
        if "done" in one:
            assert_well(one["done"])
        else:
            line = assert_one_line(one["refused"])
            assert "/disk" in line, one
            assert any(word in line for word in ("name another", "choose another", "make room")), one


def check_permissions(came: list[dict[str, Any]], folder: Path, whole: Path) -> None:
    for one in came:
        if one["first"][0]:  # what is open already may be written to
            assert str(folder) in assert_one_line(one["first"])
            assert_one_line(one["meanwhile"])
        assert_well(one["again"])
        assert not [left for left in one["left"] if any(word in left for word in DRAFTS)]
    for run_folder in folder.glob("run-*"):
        assert_same_bits(run_folder, whole)


@pytest.mark.parametrize("attack", ["a limit"], indirect=True)  # of files: there is nothing to mount
def test_a_permission_lost_in_the_middle(attack: Attack, experiment: ConfigDict, tmp_path: Path) -> None:
    came = attack("permission")
    line = assert_one_line(came[0]["first"])
    # Why is said by whom it meets first: the system (Permission denied), or Orbax, who then misses a folder.
    assert "checkpoints: a checkpoint cannot be written (" in line
    assert "; make room or mend the folder, and run the same command again" in line
    loop.train(fresh(experiment, epochs=12.0), tmp_path / "whole12")
    check_permissions(came, tmp_path, tmp_path / "whole12")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["a limit"], indirect=True)
def test_permissions_lost_in_the_middle(attack: Attack, experiment: ConfigDict, tmp_path: Path) -> None:
    loop.train(fresh(experiment, epochs=12.0), tmp_path / "whole12")
    check_permissions(attack("permissions"), tmp_path, tmp_path / "whole12")


def back_to_the_first_checkpoint(folder: Path) -> None:
    (folder / RESULT).unlink()
    for checkpoint in sorted((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))[1:]:
        shutil.rmtree(checkpoint)


def test_a_run_that_was_moved_is_the_same_run(given: Path, experiment: ConfigDict, tmp_path: Path) -> None:
    moved = tmp_path / "another place" / "ümläut 猫"
    shutil.copytree(given / "whole", moved)
    back_to_the_first_checkpoint(moved)
    loop.train(fresh(experiment), moved)
    assert_same_bits(moved, given / "whole")
    assert report.write(RunFolder(moved), None)[-1] == f"report: {moved}/report.html"
    exporting.export(RunFolder(moved), "torch", moved / "net.pth")
    store = of_run.extract(RunFolder(moved), None, ("hidden1",), tmp_path / "store", {})
    (tmp_path / "store").rename(tmp_path / "moved")
    again = of_run.extract(RunFolder(moved), None, ("hidden1",), tmp_path / "moved", {})
    assert again.manifest == store.manifest


def test_data_that_were_moved_are_the_same_data(given: Path, experiment: ConfigDict, tmp_path: Path) -> None:
    shutil.copytree(given / "photos", tmp_path / "photos")
    experiment = experiment.copy_and_resolve_references()
    experiment.dataset.source = f"folder:{tmp_path}/photos"
    experiment.train.batch_size = 4
    loop.train(fresh(experiment), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    back_to_the_first_checkpoint(tmp_path / "run")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    experiment.dataset.source = f"folder:{tmp_path}/elsewhere"
    loop.train(fresh(experiment), tmp_path / "run")
    assert_same_bits(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("mode", ["finetune", "frozen", "stored"])
def test_weights_may_be_gone_when_a_run_has_begun(
    mode: str, given: Path, experiment: ConfigDict, tmp_path: Path
) -> None:
    shutil.copytree(given / "whole", tmp_path / "weights")
    experiment = experiment.copy_and_resolve_references()
    experiment.transfer.update(mode=mode, weights=str(tmp_path / "weights"))
    loop.train(fresh(experiment), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    back_to_the_first_checkpoint(tmp_path / "run")
    shutil.rmtree(tmp_path / "weights")
    loop.train(fresh(experiment), tmp_path / "run")
    assert RunFolder(tmp_path / "run").result["test"] == RunFolder(tmp_path / "whole").result["test"]


def test_a_link_to_a_folder_is_that_folder(
    given: Path, experiment: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    loop.train(fresh(experiment), Path("link/relative//"))
    assert_same_bits(tmp_path / "folder" / "relative", given / "whole")


@pytest.mark.parametrize(
    ("workdir", "why"),
    [
        ("file", "is no folder"),
        ("file/run", r"cannot be written \(Not a directory\)"),
        ("fifo", "is no folder"),
        ("dangling", "is a link to nowhere, which is not there; make that folder"),
        ("loop", "is a link to loop"),
        ("x" * 256, "File name too long"),
        ("/".join(["y" * 200] * 30), "File name too long"),
    ],
)
def test_where_no_run_can_be(workdir: str, why: str, experiment: ConfigDict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    for link, target in {"dangling": "nowhere", "loop": "loop"}.items():
        (tmp_path / link).symlink_to(target)
    before = sorted(tmp_path.iterdir())
    with pytest.raises((UserError, OSError), match=why):
        loop.train(fresh(experiment), tmp_path / workdir)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_waits_for_nobody(given: Path, tmp_path: Path) -> None:
    shutil.copytree(given / "whole", tmp_path / "run")
    with lock(tmp_path / "run"), pytest.raises(UserError, match="another process writes there"):
        report.write(RunFolder(tmp_path / "run"), None)
    assert not (tmp_path / "run" / "report.html").exists()
