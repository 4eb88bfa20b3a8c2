"""Processes of a sweep: how they are stopped, what they say of their end, and who else may have ended a run.

In the place of scripts.train stand a few lines that do what matters here.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from train.errors import AGAIN, UserError
from train.records import RESULT
from train.sweep import by_processes
from train.sweep.child import Child, stop
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.trials import Trial
from train.whole import lock

TRIALS = [Trial(f"seed={seed}", {"seed": seed}) for seed in range(2)]
# A second signal ends it, while it takes half a second to save.
SAVES = """
import pathlib, signal, sys, time
run, asked = pathlib.Path(sys.argv[-1].partition("=")[2]), []
def note(number, frame):
    asked.append(number)
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGTERM, note)
run.mkdir(parents=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.5)
(run / "saved").touch()
sys.exit(143)
"""


@pytest.fixture
def folder(config: ConfigDict, tmp_path: Path) -> SweepFolder:
    return SweepFolder.create(tmp_path / "w", config)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def swept(folder: SweepFolder, text: str, jobs: int = 2) -> list[str]:
    lines = list[str]()
    by_processes.run(folder, program(text), TRIALS, jobs, lines.append)
    return lines


@contextmanager
def meanwhile(work: threading.Thread) -> Iterator[None]:
    work.start()
    yield
    work.join()


def test_all_save_their_states_when_the_sweep_is_stopped(folder: SweepFolder) -> None:
    def interrupt() -> None:
        while not all(folder.run(trial).exists() for trial in TRIALS):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    with (
        meanwhile(threading.Thread(target=interrupt)),
        pytest.raises(InterruptedSweep, match=r"stopped by SIGTERM; 0 of 2 runs have ended"),
    ):
        swept(folder, SAVES)
    assert all((folder.run(trial) / "saved").exists() for trial in TRIALS)


def test_who_does_not_end_is_ended_after_one_deadline_for_all(folder: SweepFolder, tmp_path: Path) -> None:
    deaf = program(
        "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('deaf'); sys.stdout.flush(); time.sleep(60)"
    )
    logs = [tmp_path / trial.name for trial in TRIALS]
    children = [Child(deaf, trial, tmp_path, log, 1, tmp_path) for trial, log in zip(TRIALS, logs, strict=True)]
    while not all(log.read_text() for log in logs):
        time.sleep(0.01)
    stop(children, seconds=0.2)
    assert [child.status() for child in children] == [-signal.SIGKILL] * 2
    assert children[0].reason() == f"ended by SIGKILL, its output is in {logs[0]}; {AGAIN}"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("sys.exit('error: the loss is nan')", "failed", "the loss is nan"),
        ("print(1); sys.exit(2)", "failed", "exit status 2: 1; see "),
        ("sys.exit(2)", "unfinished", "exit status 2, and it has said nothing; is there room for "),
        (f"sys.exit('error: no room; {AGAIN}')", "unfinished", "no room; "),
        ("os.kill(os.getpid(), 9)", "unfinished", "ended by SIGKILL"),
        ("sys.exit(143)", "unfinished", "stopped by somebody else"),
    ],
)
def test_a_run_fails_for_what_is_its_own(folder: SweepFolder, text: str, status: str, reason: str) -> None:
    for trial in TRIALS:  # what an earlier attempt has said is not the reason
        folder.log(trial).parent.mkdir(exist_ok=True)
        folder.log(trial).write_text("error: of long ago\n")
        folder.run(trial).mkdir(parents=True)
    lines = swept(folder, f"import os, sys; {text}")
    assert len(lines) == 2
    assert all(f": {status}: {reason}" in line for line in lines), lines
    outcomes = [folder.outcome(trial) for trial in TRIALS]
    assert [outcome.status for outcome in outcomes] == [status] * 2
    runs = [{"name": trial.name, "status": status, "reason": reason} for trial in TRIALS]
    what = "2 of 2 runs failed" if status == "failed" else "2 of 2 runs have no end"
    with pytest.raises(UserError, match=rf"{what} \(seed=\d: {reason}"):
        folder.check_ends(TRIALS, runs)
    # The same command goes on with what is open, and with nothing else.
    assert len(swept(folder, f"import os, sys; {text}")) == (0 if status == "failed" else 2)


def test_a_run_that_another_launch_ends_is_not_started_again(folder: SweepFolder) -> None:
    run = folder.run(TRIALS[0])
    run.mkdir(parents=True)

    def end() -> None:
        with lock(run):
            held.set()
            time.sleep(0.3)
            folder.end(TRIALS[0], "failed", "there")

    held = threading.Event()
    with meanwhile(threading.Thread(target=end)):
        held.wait()
        lines = swept(folder, "import sys; sys.exit('error: here')", jobs=1)
    assert sorted(lines) == [
        "[1/2] seed=1: failed: here",
        "[2/2] seed=0: another launch has ended it: failed: there",
    ]
    assert not folder.log(TRIALS[0]).exists()


def test_a_run_without_an_end_is_an_error(folder: SweepFolder) -> None:
    folder.run(TRIALS[0]).mkdir(parents=True)
    (folder.run(TRIALS[0]) / RESULT).write_text("{}")
    folder.check_ends(TRIALS[:1], [])
    with pytest.raises(
        UserError, match=r"1 of 2 runs have no end \(seed=1: it has not run\); the same command goes on"
    ):
        folder.check_ends(TRIALS, [])


# Of the second, another process has what it needs until the first has ended.
WAITS = f"""
import pathlib, sys, time
run = pathlib.Path(sys.argv[-1].partition("=")[2])
store = run.parent.parent / "store"
if run.name == "seed=1" and not store.exists():
    sys.exit("error: another process writes there; wait, and {AGAIN}")
while run.name == "seed=0" and not (run.parent.parent / "logs" / "seed=1.txt").exists():
    time.sleep(0.01)
time.sleep(0.5)
store.touch()
sys.exit("error: done")
"""


def test_a_run_that_waits_for_another_is_taken_up_when_that_ends(folder: SweepFolder) -> None:
    assert swept(folder, WAITS) == ["[1/2] seed=0: failed: done", "[2/2] seed=1: failed: done"]
    assert not folder.left_open
