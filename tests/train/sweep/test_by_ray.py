"""Ray Tune: eight trials, killed in the middle, and gone on with."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import command_line
from tests.scripts.test_sweep import FROM_ANYWHERE, SMALL, processes_of, ranges, until


def swept(cwd: Path, flags: Sequence[str]) -> subprocess.CompletedProcess[str]:
    line = command_line("sweep", *flags)
    return subprocess.run(line, cwd=cwd, env=FROM_ANYWHERE, capture_output=True, text=True, timeout=300)


@pytest.mark.peer
def test_a_sweep_with_asha_is_killed_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    text = '[random]\nschedule.learning_rate = {low = 1e-5, high = 0.1, scale = "log"}\n[draws]\ncount = 8\n'
    folder = tmp_path / "w"
    flags = (
        ranges(tmp_path, text + "[asha]\ngrace = 2\nreduction = 2"),
        "--workdir=w",  # in the folder of the sweep; Ray's trials are in others
        *("--by=ray", "--jobs=2", *SMALL, "--config.train.epochs=12"),
    )
    process = subprocess.Popen(command_line("sweep", *flags), cwd=tmp_path, env=FROM_ANYWHERE)

    def ended() -> list[Path]:
        return [*folder.glob("runs/*/result.json"), *folder.glob("ended/*.json")]

    until(lambda: len(ended()) >= 3, seconds=200)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not processes_of(folder))
    there = ended()
    assert len(there) < 8
    names = {file.stem if file.parent.name == "ended" else file.parent.name for file in there}
    kept = {file: file.stat().st_mtime_ns for name in names for file in (folder / "runs" / name).rglob("*")}
    kept |= {file: file.stat().st_mtime_ns for file in there}
    finished = swept(tmp_path, flags)
    assert finished.returncode == 0, finished.stderr
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    found = json.loads((folder / "sweep.json").read_text())
    assert found["counts"]["stopped"] >= 1
    assert found["counts"]["finished"] >= 1
    assert found["counts"]["stopped"] + found["counts"]["finished"] == 8
    for run in found["runs"]:
        if run["status"] == "stopped":
            assert run["reason"].startswith("by ASHA after step ")
    best = max(run["validation"]["accuracy"] for run in found["runs"])
    assert found["groups"][0]["validation"]["mean"] == pytest.approx(best, abs=0.1)
    until(lambda: not processes_of(folder))


@pytest.mark.peer
def test_runs_that_ray_cannot_run_are_no_success(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    seeds = ranges(tmp_path, "[grid]\nseed = [0, 1]")
    flags = (seeds, "--workdir=w", "--by=ray", "--jobs=2", *SMALL, "--config.train.epochs=1")
    folder = tmp_path / "w"
    folder.mkdir()
    dry = swept(tmp_path, [*flags, "--shard=2/3"])  # no trial of its own: it makes the folder
    assert dry.returncode == 0, dry.stderr
    (folder / "logs").write_text("in the way")
    lost = swept(tmp_path, flags)
    assert lost.returncode == 1
    reason = r"^error: 2 of 2 runs have no end \(seed=\d: Ray has lost it \(.*File exists.*the same command goes on"
    assert re.search(reason, lost.stderr), lost.stderr
    assert len(lost.stderr.splitlines()) == 1
    (folder / "logs").unlink()
    finished = swept(tmp_path, flags)
    assert finished.returncode == 0, finished.stderr
