"""What a user can mend."""

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator

from train.terminal import printable


class UserError(Exception):
    """One clear line: what is wrong, where, and how to mend it. Commands print it and exit with status 1."""

    def __str__(self) -> str:
        return printable(" ".join(map(str, self.args)))  # names in it may hold anything


# In a message whose cause is not the run itself (no room, another process, a signal): a sweep leaves such a run open.
AGAIN = "run the same command again"


# No memory, too many open files, no permission, a network file system that has lost its place.
_OF_THE_MOMENT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}


class NotFiniteError(Exception):
    """A number that training depends on has become infinite or NaN; the message names it and the step."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `; nearest: CHOICE` for the choice most like the name, or nothing where none is like it."""
    matches = difflib.get_close_matches(name, list(choices), n=1)
    return f"; nearest: {matches[0]}" if matches else ""


def reason(error: Exception) -> str:
    """Return the system's words for what tensorstore reports in a thousand characters, or else the first line."""
    for link in _links(error):
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        if code := _system_code(link):
            return os.strerror(code)
    return _first_line(error)


def of_this_machine(error: Exception) -> bool:
    """Whether an error in reading is of the machine and the moment, and not of what lies there."""
    return any(_system_code(link) in _OF_THE_MOMENT for link in _links(error))


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it has come from: Orbax says which array it was reading, and has the reason behind."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _system_code(error: BaseException) -> int | None:
    """Return the system's number of an error (errno), its own or the one that tensorstore tells in its text."""
    if isinstance(error, MemoryError) or _is_of_a_devices_memory(error):
        return errno.ENOMEM
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return int(code[1])
    return error.errno if isinstance(error, OSError) else None


def _is_of_a_devices_memory(error: BaseException) -> bool:
    """Whether XLA has asked for more memory than there is; on CPUs it has no code for it, and disks have the same."""
    words = "Out of memory|RESOURCE_EXHAUSTED(?!: No space left)"
    return isinstance(error, RuntimeError | ValueError) and bool(re.search(words, str(error)))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def in_one_line(error: Exception) -> str | None:
    """Return what a command says of an error that a user can mend; None of one that is ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            f"it takes more memory than there is ({str(error) or 'no more is said'}); end other programs, and {AGAIN}"
        )
    if _is_of_a_devices_memory(error):
        return (
            f"it takes more memory than the devices have ({_first_line(error)[:300]}); make batches smaller or the "
            f"network, or end other programs, and {AGAIN}"
        )
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}; make room or mend it, and {AGAIN}"
    # pathlib's, of ~ for somebody without a home
    return f"~: {error}; write the path out" if "home directory" in str(error) else None
