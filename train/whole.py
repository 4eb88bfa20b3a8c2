"""Files and folders that appear whole, and folders that one process at a time writes into.

A process may be killed, and a disk full, at any moment. What stands under its name is then what stood there before.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from train.errors import AGAIN, UserError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment the old or the new one stands there, whole."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into, which takes its place when all is written; after an error there is nothing of it.

    A link that stands there is replaced, and what it leads to is left alone: the folder may be somebody else's.

    Raises:
      OSError: it cannot be written; it names the file, and not the draft.
    """
    # A device or a pipe, which no file may take the place of; /dev/stdout is a link to one.
    if path.exists() and not path.is_file() and (not path.is_symlink() or path.parent == Path("/dev")):
        with path.open("wb") as file:
            yield file
        return
    draft = draft_of(path)
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # no link that somebody has laid there
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be written any more
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a full disk, the system names nothing
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which takes its place when all is written; after an error there is none.

    Raises:
      UserError: another process is making it, or it cannot be made.
    """
    path = Path(os.path.realpath(path))
    draft = draft_of(path)
    try:
        with lock(draft):
            try:
                for left in draft.iterdir():  # by one that was killed
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                yield draft
                draft.replace(path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except UserError as error:  # nobody has asked for a draft
        raise UserError(str(error).replace(str(draft), str(path))) from error


def draft_of(path: Path) -> Path:
    """Return where something is written until it is whole."""
    return path.with_name(f".{path.name}.draft")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if it is not there.

    Raises:
      UserError: something else is there, or it cannot be made.
    """
    try:
        if path.is_symlink() and not path.exists():  # perhaps to a disk that is not mounted
            raise UserError(
                f"{path}: is a link to {path.readlink()}, which is not there; make that folder, and {AGAIN}"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is no folder; choose another")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_made(path, error) from error


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other launches out of it; a killed one leaves no lock behind.

    If anything fails in the meantime, a folder that was made here and is still empty goes again.

    Raises:
      UserError: another process has it, or it cannot be made; or links in it stand for folders.
    """
    existed = path.is_dir()
    make_folder(path)
    with contextlib.ExitStack() as held:
        try:
            hold_no_links(path)
            taken = f"{path}: another process writes there; wait, and {AGAIN}, or choose another folder"
            held.enter_context(locked(path, taken))
        except OSError as error:
            raise cannot_be_made(path, error) from error
        try:
            yield
        finally:
            if not existed:
                with contextlib.suppress(OSError):
                    path.rmdir()


def hold_no_links(path: Path) -> None:
    """Refuse to write into a folder in which links stand for folders: what they lead to is somebody else's.

    Raises:
      UserError: names the link.
    """
    for entry in path.iterdir():
        if entry.is_symlink() and entry.is_dir():
            raise UserError(
                f"{entry}: is a link to a folder, and what it leads to would be written into; move that here"
            )


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


def cannot_be_made(path: Path, error: OSError) -> UserError:
    """Return what is said of a folder that cannot be written."""
    return UserError(
        f"{path}: cannot be written ({error.strerror}); choose another folder, or make room or mend it, and {AGAIN}"
    )
