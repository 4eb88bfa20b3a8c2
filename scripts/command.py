"""What every command does around its work: parse flags, and turn what a user can mend into one clear line."""

import difflib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from configs import base
from train import devices
from train.errors import UserError, nearest
from train.settings import leaves
from train.signals import InterruptedRun

CONFIGS = Path(base.__file__).resolve().parent

flags.DEFINE_boolean("debug", False, "Show the traceback of an error that would be one line.")
flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs; empty: none. Default: the user's cache.")


def launch(main: Callable[[], None], *, config: str | None = None) -> NoReturn:
    """Parse the command line, run `main`, and exit: 0, 1 after a user's error, 128 + signal after an interruption.

    Args:
      main: the command.
      config: default of --config, a file name in configs/; without it the command has no such flag.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            if config is not None:
                _check_config(argv)
                config_flags.DEFINE_config_file(
                    "config", str(CONFIGS / config), "The experiment: FILE or FILE:ARGUMENT."
                )
            rest = flags.FLAGS(argv)
        except Exception as error:  # a config file is a program of the user's: it may raise anything
            _fail(_explain(error), debug="--debug" in argv)
        if len(rest) > 1:
            _fail(f"{rest[1]}: flags start with two hyphens (--name=value)", debug=False)
        return rest

    def run(_: list[str]) -> None:
        # Orbax tells of every checkpoint in twenty lines, and of an error in hundreds; ours is the one that is raised.
        logging.set_verbosity(logging.INFO if flags.FLAGS.debug else logging.FATAL)
        devices.use_compilation_cache(flags.FLAGS.compilation_cache)
        try:
            main()
        except UserError as error:
            _fail(str(error), debug=flags.FLAGS.debug)
        except OSError as error:
            if error.filename is None:
                raise
            _fail(f"{error.filename}: {error.strerror}", debug=flags.FLAGS.debug)
        except InterruptedRun as interruption:
            print(interruption)
            sys.exit(interruption.status)

    app.run(run, flags_parser=parse)


def _fail(line: str, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def _check_config(argv: list[str]) -> None:
    """Refuse a file that is missing and keys that do not exist, before config_flags does so in many lines."""
    known = dict(leaves(base.get_config()))
    sections = {key.rpartition(".")[0] for key in known}
    for argument in argv:
        if match := re.fullmatch(r"--?config=([^:]*)(:.*)?", argument):
            path = Path(match[1])
            if not path.is_file():
                have = sorted(file.name for file in CONFIGS.glob("*.py") if file.name not in ("base.py", "__init__.py"))
                raise UserError(
                    f"{argument}: no such file{nearest(path.name, have)}; {CONFIGS.name}/ has {', '.join(have)}"
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


def _explain(error: Exception) -> str:
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
