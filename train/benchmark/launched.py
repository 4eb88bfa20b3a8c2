"""Commands that are measured from outside."""

import re
import subprocess

from train.errors import UserError


def wait(process: subprocess.Popen[bytes]) -> None:
    """Return when a command has ended well.

    Raises:
      UserError: it has failed.
    """
    if process.wait():
        command = re.search(r"scripts\.\w+", str(process.args))
        name = command[0] if command else "the command"
        raise UserError(f"{name} has failed with status {process.returncode}; its message stands above")
