"""Ray Tune: eight trials, killed in the middle, and gone on with."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Command, command_line
from tests.scripts.test_sweep import SMALL, processes_of, ranges, until


@pytest.mark.peer
def test_a_sweep_with_asha_is_killed_and_goes_on(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    text = '[random]\nschedule.learning_rate = {low = 1e-5, high = 0.1, scale = "log"}\n[draws]\ncount = 8\n'
    folder = tmp_path / "w"
    flags = (
        ranges(tmp_path, text + "[asha]\ngrace = 2\nreduction = 2"),
        f"--workdir={folder}",
        *("--by=ray", "--jobs=2", *SMALL, "--config.train.epochs=12"),
    )
    process = subprocess.Popen(command_line("sweep", *flags), cwd=CHECKOUT)

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
    finished = command("sweep", *flags)
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
