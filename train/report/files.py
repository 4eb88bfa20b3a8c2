"""Where a report lies in a run folder, and whether it does; nothing of what it takes to draw one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from train.errors import AGAIN, UserError

PAGE, FIGURES = "report.html", "report"


def remove(folder: Path) -> None:
    """Remove the page: the run is not, or no longer, what it shows."""
    with named(folder / PAGE):
        (folder / PAGE).unlink(missing_ok=True)


def is_written(folder: Path) -> bool:
    """Return whether all of it is there."""
    return (folder / PAGE).is_file()  # the last of its files


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn the system's error into one line that names the file.

    Raises:
      UserError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0)}); make room or mend it, and {AGAIN}"
        ) from error
