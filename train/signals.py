"""SIGTERM and Ctrl-C: a run saves its state before it ends."""

import signal
from pathlib import Path
from types import FrameType, TracebackType


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
    """Notes a signal, for the loop to look at between two steps; a second one ends the process at once.

    Attributes:
      number: the signal's number; 0 if none has come.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
