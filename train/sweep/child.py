"""A training in a process of its own, which ends with the one that started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.sweep.trials import Trial

# Exit statuses of scripts.train when a signal has ended it and its state is saved.
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
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


def start(command: Sequence[str], trial: Trial, run: Path, log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Start the training of a trial.

    It has a process group of its own, so that Ctrl-C on a terminal reaches the sweep alone, which then tells it.

    Args:
      command: scripts.train with the config that all runs share.
      trial: which run.
      run: its folder.
      log: the file of what it prints.
      threads: how many it computes with.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    line = [*command, *(f"--config.{key}={_literal(value)}" for key, value in trial.values.items()), f"--workdir={run}"]
    if sys.platform == "linux":
        line = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *line]
    with log.open("ab") as output:
        return subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=_CHECKOUT,
            env=os.environ | _limits(threads),
            process_group=0,
        )


def _limits(threads: int) -> Mapping[str, str]:
    """XLA's pool of threads takes its size from NPROC, OpenMP's from the other."""
    return {"NPROC": str(threads), "OMP_NUM_THREADS": str(threads)}


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Let a training save its state, and wait until it has; after half a minute, end it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reason(status: int, log: Path) -> str:
    """Say why a training has failed, by its exit status and its last words."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if status < 0:
        return f"ended by {signal.Signals(-status).name}; its output is in {log}"
    return errors[-1] if errors else f"exit status {status}: {lines[-1] if lines else 'it has said nothing'}; see {log}"
