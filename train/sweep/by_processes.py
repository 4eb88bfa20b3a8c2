"""A sweep by processes of scripts.train, several at once."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from train.cores import cores
from train.errors import AGAIN, UserError
from train.signals import Signals
from train.sweep.child import Child, stop
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.trials import Trial

# Seconds between two looks at what the processes do.
_PAUSE = 0.05


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
    running: dict[str, tuple[Trial, Child]] = {}
    waiting: list[Trial] = []  # for what another has: a store that one of them computes is there when that one ends
    threads = max(1, cores() // min(jobs, max(1, len(left))))
    count = itertools.count(len(trials) - len(left) + 1)

    def tell(trial: Trial, line: str) -> None:
        say(f"[{next(count)}/{len(trials)}] {trial.name}: {line}")

    with Signals() as signals:
        try:
            while (left or running) and not signals.number:
                while len(running) < jobs and (trial := next(filter(folder.is_free, left), None)):
                    left.remove(trial)
                    if folder.is_open(trial):
                        running[trial.name] = trial, _start(folder, command, trial, threads)
                    else:
                        tell(trial, f"another launch has ended it: {folder.outcome(trial).in_words}")
                for trial, child in list(running.values()):
                    if child.status() is None:
                        continue
                    del running[trial.name]
                    said = _outcome(folder, trial, child)
                    if trial.name in folder.left_open and running:
                        waiting.append(trial)
                        continue
                    tell(trial, said)
                    if trial.name not in folder.left_open:
                        left += waiting
                        for each in waiting:
                            del folder.left_open[each.name]
                        waiting.clear()
                if not running and not left:
                    for trial in waiting:
                        tell(trial, f"unfinished: {folder.left_open[trial.name]}")
                    waiting.clear()
                time.sleep(_PAUSE)
        finally:
            stop(child for _, child in running.values())
    if signals.number:
        ended = sum(not folder.is_open(trial) for trial in trials)
        raise InterruptedSweep(folder.path, ended, len(trials), signals.number)


def _start(folder: SweepFolder, command: Sequence[str], trial: Trial, threads: int) -> Child:
    try:
        return Child(command, trial, folder.run(trial), folder.log(trial), threads, Path.cwd())
    except OSError as error:
        raise UserError(
            f"{folder.log(trial)}: cannot be written ({error.strerror}); make room or mend it, and {AGAIN}"
        ) from error


def _outcome(folder: SweepFolder, trial: Trial, child: Child) -> str:
    """Write down what has failed, and say how a run has ended."""
    reason = child.reason()
    return folder.fail(trial, reason) if reason else folder.outcome(trial).in_words
