"""What a person sees while a network trains: a bar on a terminal, a line now and then anywhere else."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Seconds between two lines where there is no terminal.
_PAUSE = 10.0


class Display:
    """Shows how far training is.

    Args:
      first: the step it starts from.
      total: the step it ends at.
      epochs: how many epochs the steps are.
    """

    def __init__(self, first: int, total: int, epochs: float) -> None:
        self._total = total
        self._epochs_in_total = epochs
        self._console = Console()
        self._bar = None
        self._shown = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.description}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(self._epochs(first), total=total, completed=first)

    def __enter__(self) -> "Display":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def train(self, record: dict[str, Any]) -> None:
        """Show what was measured on the last training batches."""
        words = f"{self._epochs(record['step'])}  {_words(record)}  {record['images_per_second']:,.0f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, description=words)
        elif time.monotonic() - self._shown >= _PAUSE:
            self._print(f"step {record['step']:,}/{self._total:,}  {words}")

    def validation(self, record: dict[str, Any], what: str = "validation") -> None:
        """Show what was measured on the validation set."""
        self._print(f"step {record['step']:,}/{self._total:,}  {self._epochs(record['step'])}  {what} {_words(record)}")

    def _print(self, line: str) -> None:
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, flush=True)

    def _epochs(self, step: int) -> str:
        return f"epoch {step / self._total * self._epochs_in_total:.1f}/{self._epochs_in_total:g}"


def _words(record: dict[str, Any]) -> str:
    return f"loss {record['loss']:.4f}  accuracy {record['accuracy']:.2%}"
