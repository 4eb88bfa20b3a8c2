"""SIGTERM and Ctrl-C: a run saves its state before it ends, on all hosts after the same step."""

import contextlib
import signal
from pathlib import Path
from types import FrameType, TracebackType

from jax.experimental import multihost_utils

from train import hosts


def signal_name(number: int) -> str:
    """Return what a signal is called, SIGTERM or its like."""
    return signal.Signals(number).name


class InterruptedRun(Exception):
    """A signal ended the run; its state is saved.

    Attributes:
      status: the exit status, 128 + the signal's number as in shells, so that schedulers see an unfinished job.
    """

    def __init__(self, workdir: Path, step: int, total: int, number: int) -> None:
        super().__init__(
            f"{workdir}: stopped by {signal_name(number)} after step {step:,} of {total:,}; all is saved, "
            "and the same command resumes"
        )
        self.status = 128 + number


class Signals:
    """Notes a signal, for the loop to look at between two steps; a second Ctrl-C ends the process at once.

    A second SIGTERM does not: schedulers send it to a process and to the one that passes it on, and Linux several times
    when a parent of many threads is killed (PR_SET_PDEATHSIG).

    Attributes:
      number: the signal's number; 0 if none has come.
    """

    def __init__(self) -> None:
        self.number = 0

    def asked(self, taken: int) -> int:
        """Return the number of the signal that has come, or 0."""
        return self.number

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class SignalToAny:
    """Notes a SIGTERM to any of the processes that share a run; the same step ends it on all of them.

    jax takes the signal from the beginning of its service on, so this replaces no handler. Word goes round in the
    background, and costs a step nothing; the processes then stop after the step behind the last that one has reached.
    """

    def asked(self, taken: int) -> int:
        """Return SIGTERM's number if this is the step, or 0; all processes ask after every step.

        Args:
          taken: steps of this launch so far: jax counts from 1, also where a run resumes.
        """
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(taken) else 0


def listen() -> contextlib.AbstractContextManager[Signals | SignalToAny]:
    """Return what notes signals to a run."""
    return Signals() if hosts.count() == 1 else contextlib.nullcontext(SignalToAny())
