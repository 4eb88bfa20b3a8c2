"""Files that commands write: whether they can be written is known before the work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.run import to_json
from train.whole import is_device, write_whole


def file(path: str) -> Path:
    """Return the path of a file that is to be written, having made sure before the work that it can.

    Raises:
      UserError: it cannot.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise UserError(f"--output={path}: is a folder; name a file")
    if not is_device(target):  # such a link of /dev's stays as it is
        target = Path(os.path.realpath(target))  # of a link, the target is replaced
    if is_device(target):
        if not os.access(target, os.W_OK):
            raise UserError(f"--output={path}: cannot be written to; name another")
        return target
    folder = target.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        where = folder if Path(path).is_symlink() else Path(path).parent
        raise UserError(f"--output={path}: there is no folder {where} that can be written to; name another")
    return target


def json_output(path: str | None) -> Callable[[dict[str, Any]], None]:
    """Return a function that writes --output, or nothing, without one.

    Raises:
      UserError: it cannot be written.
    """
    target = file(path) if path else None
    return lambda value: write_whole(target, to_json(value)) if target else None


def picture(path: str) -> Path:
    """Return the path of a picture that is to be drawn.

    Raises:
      UserError: it is neither PNG nor SVG, or cannot be written there.
    """
    target = file(path)
    for each in (Path(path), target):  # where it is a link
        if each.suffix.lower() not in (".png", ".svg"):
            raise UserError(f"{each}: must end in .png or .svg")
    return target


def folder(path: str) -> Path:
    """Return the path of a folder that is to be written into, having made sure before the work that it can.

    It is not made yet, so that a command that fails leaves no empty one.

    Raises:
      UserError: it cannot.
    """
    target = Path(path).expanduser()
    there = next(above for above in (target.absolute(), *target.absolute().parents) if above.exists())
    if not there.is_dir():
        raise UserError(f"--output={path}: {there} is no folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--output={path}: {there} cannot be written to; name another")
    return target
