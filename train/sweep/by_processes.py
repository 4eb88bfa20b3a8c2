"""A sweep by processes of scripts.train, several at once."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from train.errors import UserError
from train.signals import Signals
from train.sweep import child
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.trials import Trial

# Seconds between two looks at what the processes do.
_PAUSE = 0.05


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    folder: SweepFolder, command: Sequence[str], trials: Sequence[Trial], jobs: int, say: Callable[[str], None]
) -> None:
    """Train what is left of the trials, so many at once, each with its share of the cores.

    Args:
      folder: of the sweep.
      command: scripts.train with the config that all runs share.
      trials: those with an end are left alone.
      jobs: processes at once.
      say: prints a line.

    Raises:
      UserError: a process cannot be started.
      InterruptedSweep: a signal has come; each process has saved its state and ended.
    """
    assert threading.current_thread() is threading.main_thread(), "children are tied to the thread that starts them"
    left = [trial for trial in trials if folder.is_open(trial)]
    running: dict[str, tuple[Trial, subprocess.Popen[bytes]]] = {}
    threads = max(1, cores() // min(jobs, max(1, len(left))))
    ended = len(trials) - len(left)
    with Signals() as signals:
        try:
            while (left or running) and not signals.number:
                for trial in [trial for trial in left if folder.is_free(trial)][: jobs - len(running)]:
                    left.remove(trial)
                    try:
                        process = child.start(command, trial, folder.run(trial), folder.log(trial), threads)
                    except OSError as error:
                        raise UserError(f"{folder.log(trial)}: cannot be written ({error.strerror})") from error
                    running[trial.name] = trial, process
                for trial, process in list(running.values()):
                    if process.poll() is not None:
                        del running[trial.name]
                        ended += 1
                        say(f"[{ended}/{len(trials)}] {trial.name}: {_outcome(folder, trial, process.returncode)}")
                time.sleep(_PAUSE)
        finally:
            for _, process in running.values():
                if process.poll() is None:
                    process.terminate()
            for _, process in running.values():
                child.stop(process)
    if signals.number:
        ended = sum(not folder.is_open(trial) for trial in trials)
        raise InterruptedSweep(folder.path, ended, len(trials), signals.number)


def _outcome(folder: SweepFolder, trial: Trial, status: int) -> str:
    """Write down what has failed, and say how a run has ended."""
    if status in child.INTERRUPTED:
        return "interrupted by somebody else; the same command goes on with it"
    if status:
        why = child.reason(status, folder.log(trial))
        folder.end(trial, "failed", why)
    return folder.outcome(trial).in_words
