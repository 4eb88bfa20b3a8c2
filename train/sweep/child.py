"""A training in a process of its own, which ends with the one that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.errors import AGAIN
from train.sweep.trials import Trial

# Exit statuses of scripts.train when a signal has ended it and its state is saved.
_INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
# Linux can send a signal to a process whose parent ends, however it ends: prctl(PR_SET_PDEATHSIG, SIGTERM), which
# outlives exec. Done in Python's shortest form, ahead of the program; a parent that has gone before is looked for.
_TIED = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class Child:
    """The training of a trial, in a process of its own.

    It has a process group of its own, so that Ctrl-C on a terminal reaches the sweep alone, which then tells it.

    Args:
      command: scripts.train with the config that all runs share.
      trial: which run.
      run: its folder.
      log: the file of what it prints, behind what is there.
      threads: how many it computes with.
      cwd: the folder that relative paths of the command begin at.

    Raises:
      OSError: the log cannot be written.
    """

    def __init__(self, command: Sequence[str], trial: Trial, run: Path, log: Path, threads: int, cwd: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        values = (f"--config.{key}={_literal(value)}" for key, value in trial.values.items())
        line = [*command, *values, f"--workdir={run}"]
        if sys.platform == "linux":
            line = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *line]
        if log.is_symlink():
            log.unlink()  # what it leads to is somebody else's
        with log.open("ab") as output:
            self._log, self._began = log, output.tell()
            self.process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=os.environ | _limits(threads) | {"PYTHONPATH": python_path()},
                process_group=0,
            )

    def status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self.process.poll()

    def reason(self) -> str:
        """Say why it has failed, by its exit status and its last words; "" where it has not."""
        status = self.process.returncode
        if not status:
            return ""
        if status in _INTERRUPTED:
            return f"stopped by somebody else; {AGAIN}"
        if status < 0:
            return f"ended by {signal.Signals(-status).name}, its output is in {self._log}; {AGAIN}"
        with self._log.open("rb") as file:
            file.seek(self._began)
            text = file.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        if errors := [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]:
            return errors[-1]
        if not lines:  # a full disk takes the last words, too
            return f"exit status {status}, and it has said nothing; is there room for {self._log}? If so, {AGAIN}"
        return f"exit status {status}: {lines[-1]}; see {self._log}"


def stop(children: Iterable[Child], seconds: float = 30) -> None:
    """Let trainings save their states, and wait until all have; what runs after half a minute is ended.

    All are asked before any is waited for, each once.
    """
    processes = [child.process for child in children]
    for process in processes:
        process.terminate()
    until = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def python_path() -> str:
    """Return PYTHONPATH for processes that shall find what this one has found, from any folder."""
    return os.pathsep.join([str(_CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _limits(threads: int) -> Mapping[str, str]:
    """XLA's pool of threads takes its size from NPROC, OpenMP's from the other."""
    return {"NPROC": str(threads), "OMP_NUM_THREADS": str(threads)}


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
