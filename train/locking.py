"""Folders that one process at a time writes into; one that is killed keeps nobody out."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from train.errors import UserError


@contextlib.contextmanager
def locked(folder: Path, taken: str) -> Iterator[None]:
    """Keep other processes out of a folder that is there.

    Args:
      folder: which.
      taken: what is said where another process has it.

    Raises:
      UserError: another process has it.
      OSError: it cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(taken) from error
        except OSError:  # a file system without locks: better none than no work
            pass
        yield
    finally:
        os.close(descriptor)
