"""What is wrong with a command line or a config file, in one line."""

import difflib
import re
import traceback
from pathlib import Path

from configs import base
from train.errors import UserError, nearest
from train.settings import leaves


def check_config(argv: list[str], configs: Path) -> None:
    """Refuse a file that is missing and keys that do not exist, before config_flags does so in many lines.

    Raises:
      UserError: names what is nearest, of the files in `configs` or of the keys of configs/base.py.
    """
    known = dict(leaves(base.get_config()))
    sections = {key.rpartition(".")[0] for key in known}
    for argument in argv:
        if match := re.fullmatch(r"--?config=([^:]*)(:.*)?", argument):
            path = Path(match[1])
            if not path.is_file():
                have = sorted(file.name for file in configs.glob("*.py") if file.name not in ("base.py", "__init__.py"))
                raise UserError(
                    f"{argument}: no such file{nearest(path.name, have)}; {configs.name}/ has {', '.join(have)}"
                )
        elif (match := re.match(r"--?(?:no)?config\.([^=]*)", argument)) and match[1] not in known.keys() | sections:
            raise UserError(_unknown_key(match[1]))


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
    # What a config file raises arrives with its traceback, or with the traceback as its text.
    places = re.findall(r'File "([^"]+)", line (\d+), in get_config', "".join(traceback.format_exception(error)) + text)
    place = "{}:{}: ".format(*places[-1]) if places else ""
    if key := re.search(r'Key "(\w+)" does not exist', text):
        return place + _unknown_key(key[1])
    last = next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    return place + re.sub(r"^flag --", "--", re.sub(r"^\w+Error: ", "", last))
