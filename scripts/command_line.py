"""What is wrong with a command line or a config file, in one line."""

import difflib
import re
import traceback
from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from train.errors import UserError, nearest
from train.settings import leaves


def config_arguments(argv: list[str]) -> list[str]:
    """Return the part of a command line that makes the config, each flag and its value as one `--name=value`."""
    arguments: list[str] = []
    takes_value = False
    for argument in argv[1:]:
        if match := re.match(r"--?((?:no)?config(?:\.[^=]*)?)(=.*)?$", argument, re.DOTALL):
            arguments.append(f"--{match[1]}{match[2] or ''}")
            takes_value = not match[2]
        else:
            if takes_value and not argument.startswith("-"):
                arguments[-1] += f"={argument}"
            takes_value = False
    return arguments


def check_config(argv: list[str], configs: Path) -> None:
    """Refuse a file that is missing and keys that do not exist, before config_flags does so in many lines.

    Raises:
      UserError: names what is nearest, of the files in `configs` or of the keys of configs/base.py.
    """
    for argument in config_arguments(argv):
        name, _, value = argument.removeprefix("--").partition("=")
        key = name.removeprefix("no").removeprefix("config").removeprefix(".")
        if not key:
            path = Path(value.partition(":")[0])
            if not path.is_file():
                have = sorted(file.name for file in configs.glob("*.py") if file.name not in ("base.py", "__init__.py"))
                hint = f"{nearest(path.name, have)}; {configs.name}/ has {', '.join(have)}"
                raise UserError(f"--config={value}: no such file{hint}")
        else:
            check_key(key)


def check_key(key: str) -> None:
    """Raise a UserError of a dotted key that does not exist (naming the nearest), or is a section (naming its keys)."""
    known = [leaf for leaf, _ in leaves(base.get_config())]
    if inside := [leaf for leaf in known if leaf.startswith(f"{key}.")]:
        raise UserError(f"config.{key} is a section: set one of its keys, config.{', config.'.join(inside)}")
    if key not in known:
        raise UserError(_unknown_key(key))


def check_keys(config: object) -> None:
    """Refuse what a config file has returned if its keys are not those of configs/base.py.

    Raises:
      UserError: names the key that is missing or too many.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config: get_config() has returned {type(config).__name__}; it begins with base.get_config()'s"
        )
    has, known = {key for key, _ in leaves(config)}, {key for key, _ in leaves(base.get_config())}
    for key in sorted(has - known):
        raise UserError(_unknown_key(key))
    for key in sorted(known - has):
        raise UserError(f"config.{key} is missing: a config begins with base.get_config()")


def _unknown_key(key: str) -> str:
    """Name the legal key that is most like it: as a whole, or else by its last part."""
    known = dict(leaves(base.get_config()))
    by_name = {legal.rpartition(".")[2]: legal for legal in known}
    for choices in ({legal: legal for legal in known}, by_name):
        for wrong in (key, key.rpartition(".")[2]):
            if close := difflib.get_close_matches(wrong, choices, n=1):
                return f"config.{key}: no such key; nearest: config.{choices[close[0]]}"
    return f"config.{key}: no such key; configs/base.py has them all"


def explain(error: Exception) -> str:
    """Say in one line what config_flags, absl and Python say in many."""
    text = str(error)
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    if "get_config() takes 0 positional arguments" in text:
        return "--config=FILE:ARGUMENT: this file takes no argument; leave the colon and what follows out"
    # What a config file raises arrives with its traceback, or with the traceback as its text.
    places = re.findall(r'File "([^"]+)", line (\d+), in get_config', "".join(traceback.format_exception(error)) + text)
    place = "{}:{}: ".format(*places[-1]) if places else ""
    if key := re.search(r'Key "(\w+)" does not exist', text):
        return place + _unknown_key(key[1])
    last = next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    return place + re.sub(r"^flag --", "--", re.sub(r"^\w+Error: ", "", last))
