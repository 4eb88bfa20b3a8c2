"""What was seen of photo files, so that what has not changed since is not decoded again at the next start.

It is kept in the user's cache folder, a file for each root, and can be removed at any time.
"""

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from train.cache import user_folder
from train.cores import cores
from train.data import decode
from train.whole import write_whole

# Of fewer files nothing is kept: they are seen in about a second.
_WORTH = 1_000
# Nanoseconds. A file that is written twice within a tick of its file system's clock (2 s on FAT) looks unchanged.
_SETTLED = 3_000_000_000
# Files that a thread is given at a time.
_PART = 64


class Look(NamedTuple):
    """What was seen of a file.

    Attributes:
      digest: SHA-256 of its content, in hexadecimal; empty where it could not be read.
      bad: why it cannot be used, or None.
    """

    digest: str
    bad: str | None


def looked_at(root: Path, names: Sequence[str], look: Callable[[str], Look]) -> list[Look]:
    """Return what is seen of each file, and of a file that is as it was at its last look, what was seen then.

    A file is as it was where its size, inode and the times of its last changes are. Links, and what lies below one,
    are always looked at: they may lead elsewhere now. So is what could not be read: the next time, perhaps it can.

    Args:
      root: the folder, without a link in its path.
      names: of files, from there.
      look: looks at one; in threads.
    """
    began = time.time_ns()
    known = _kept(root) if len(names) >= _WORTH else {}
    linked = {
        folder for folder in {name.rpartition("/")[0] for name in names} if (root / folder).resolve() != root / folder
    }
    marks = [None if name.rpartition("/")[0] in linked else _mark(f"{root}/{name}") for name in names]
    seen: dict[str, Look] = {}
    for name, mark in zip(names, marks, strict=True):
        match known.get(name):
            case [then, str(digest), str() | None as bad] if mark and then == mark:
                seen[name] = Look(digest, bad)
    new = [name for name in names if name not in seen]
    if len(new) >= _WORTH:
        print(f"looking at {len(new):,} photos in {root}, once", file=sys.stderr, flush=True)
    parts = [new[start : start + _PART] for start in range(0, len(new), _PART)]
    try:
        with ThreadPoolExecutor(cores()) as threads:  # decoders work outside of Python's lock
            for part, looks in zip(parts, threads.map(lambda part: [look(name) for name in part], parts), strict=True):
                seen.update(zip(part, looks, strict=True))
    finally:  # also of a look that Ctrl-C has ended
        if new and len(names) >= _WORTH:
            settled = {
                name: [mark, *seen[name]]
                for name, mark in zip(names, marks, strict=True)
                if name in seen and seen[name].digest and mark and max(mark[:2]) < began - _SETTLED
            }
            _keep(root, settled)
    return [seen[name] for name in names]


def _mark(path: str) -> list[int] | None:
    """Return what changes with a file's content; None of a link, or of what cannot be asked."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]


def _place(root: Path) -> Path:
    """Return where looks at the files of a root are kept."""
    return user_folder() / "photos" / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def _by() -> str:
    """Return who looks: other decoders, or other rules of ours, may see other things."""
    rules = hashlib.sha256(Path(decode.__file__).read_bytes()).hexdigest()[:16]
    return f"{decode.DECODERS}, {rules}"


def _kept(root: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # not there, damaged, or a user without a home
        match json.loads(_place(root).read_bytes()):
            case {"by": by, "looks": dict(looks)} if by == _by():
                return looks
    return {}


def _keep(root: Path, looks: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # without it, the next start takes as long as this one
        place = _place(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps({"by": _by(), "looks": looks}))
