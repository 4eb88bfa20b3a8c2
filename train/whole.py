"""Files and folders that appear whole, and folders that one process at a time writes into.

A process may be killed, and a disk full, at any moment. What stands under its name is then what stood there before.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from train.errors import AGAIN, UserError


class Taken(UserError):
    """Another process has what is wanted."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment the old or the new one stands there, whole."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into, which takes its place when all is written; after an error there is nothing of it.

    Of processes that write it at once, one comes after the other. A link that stands there is replaced, and what it
    leads to is left alone: the folder may be somebody else's. A device is written into.

    Raises:
      OSError: it cannot be written; it names the file, and not the draft.
    """
    draft = draft_of(path)
    try:
        if is_device(path):
            with path.open("wb") as file:
                yield file
            return
        with _empty(draft) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                draft.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):  # where nothing can be written any more
                    draft.unlink()
                raise
    except OSError as error:
        if error.filename in (None, str(draft)):  # of a full disk, the system names nothing
            error.filename, error.filename2 = str(path), None
        raise


def is_device(path: Path) -> bool:
    """Whether this is a device or a pipe, which no file may replace, or a link of /dev's, as /dev/stdout is."""
    if path.is_symlink():
        return path.parent in (Path("/dev"), Path("/dev/fd")) and path.exists()
    return path.exists() and not path.is_file()


@contextlib.contextmanager
def _empty(draft: Path) -> Iterator[BinaryIO]:
    """Yield an empty file that no other process has, where there may be what one that was killed has left."""

    def opened(path: str, flags: int) -> int:
        return os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    while True:
        try:
            file = open(draft, "wb", opener=opened)  # noqa: SIM115  a Path's has no opener
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, or a pipe, that somebody has laid there
                raise
            draft.unlink(missing_ok=True)
            continue
        with file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            if not _leads_to(draft, status):  # another process has put it in its place
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # it is somebody else's too
                draft.unlink()
                continue
            file.truncate()
            yield file
            return


def _leads_to(path: Path, status: os.stat_result) -> bool:
    """Whether a path still leads to what was opened."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=stat.S_ISDIR(status.st_mode)), status)
    except FileNotFoundError:
        return False


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
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
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
      Taken: another process has it.
      UserError: it cannot be made; or links in it stand for folders.
    """
    with contextlib.ExitStack() as held:
        while True:
            existed = path.is_dir()
            make_folder(path)
            try:
                hold_no_links(path)
                status = held.enter_context(
                    locked(path, f"{path}: another process writes there; wait, and {AGAIN}, or choose another folder")
                )
                break
            except FileNotFoundError:  # who had it has removed it, or put it in its place
                continue
            except OSError as error:
                raise cannot_be_made(path, error) from error
        try:
            yield
        finally:
            if not existed and _leads_to(path, status):
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
def locked(folder: Path, taken: str) -> Iterator[os.stat_result]:
    """Keep other processes out of a folder that is there; yields what the system says of it.

    Args:
      folder: which.
      taken: what is said where another process has it.

    Raises:
      Taken: another process has it.
      OSError: it cannot be read, or is not there any more.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(taken) from error
        except OSError:  # a file system without locks: better none than no work
            pass
        status = os.fstat(descriptor)
        if not _leads_to(folder, status):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        yield status
    finally:
        os.close(descriptor)


def cannot_be_made(path: Path, error: OSError) -> UserError:
    """Return what is said of a folder that cannot be written."""
    return UserError(
        f"{path}: cannot be written ({error.strerror}); choose another folder, or make room or mend it, and {AGAIN}"
    )
