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
                _check_config_path(argv)
                config_flags.DEFINE_config_file(
                    "config", str(CONFIGS / config), "The experiment: FILE or FILE:ARGUMENT."
                )
            rest = flags.FLAGS(argv)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, UserError) as error:
            _fail(_explain(error, argv), debug="--debug" in argv)
        if len(rest) > 1:
            _fail(f"{rest[1]}: flags start with two hyphens (--name=value)", debug=False)
        return rest

    def run(_: list[str]) -> None:
        # Orbax tells of every checkpoint in twenty lines, and warns of those that no evaluation goes with.
        logging.set_verbosity(logging.DEBUG if flags.FLAGS.debug else logging.ERROR)
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


def _check_config_path(argv: list[str]) -> None:
    """config_flags says that a file is missing only when the config is first used, and in many lines."""
    for argument in argv:
        if match := re.fullmatch(r"--?config=([^:]*)(:.*)?", argument):
            path = Path(match[1])
            if not path.is_file():
                have = sorted(file.name for file in CONFIGS.glob("*.py") if file.name not in ("base.py", "__init__.py"))
                close = difflib.get_close_matches(path.with_suffix(".py").name, have, n=1)
                hint = f"nearest: {CONFIGS.name}/{close[0]}" if close else f"{CONFIGS.name}/ has {', '.join(have)}"
                raise UserError(f"--config={match[1]}: no such file; {hint}")


def _explain(error: Exception, argv: list[str]) -> str:
    """Say in one line what config_flags and absl say in many."""
    text = str(error)
    # Errors in a config file arrive as exceptions with a traceback, or with that traceback as their text.
    trail = "".join(traceback.format_exception(error)) + text
    places = re.findall(r'File "([^"]+)", line (\d+), in get_config', trail)
    place = f"{places[-1][0]}:{places[-1][1]}: " if places else ""
    key = re.search(r'Key "(\w+)" does not exist|instead of "(\w+)"|^["\'\\]*(\w+)["\'\\]*$', text)
    if isinstance(error, AttributeError | KeyError) and key:
        name = next(group for group in key.groups() if group)
        return place + _unknown_key(name, argv if not place else [])
    last = next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    return place + re.sub(r"^flag --", "--", re.sub(r"^\w+Error: ", "", last))


def _unknown_key(name: str, argv: list[str]) -> str:
    known = dict(leaves(base.get_config()))
    by_leaf = {key.rpartition(".")[2]: key for key in known}
    written = next(
        (match[1] for item in argv if (match := re.match(rf"--config\.([\w.]*\b{name}\b[\w.]*)", item))), name
    )
    likely = nearest(written, known) or nearest(name, by_leaf)
    leaf = likely.rpartition(" ")[2]
    return f"config.{written}: no such key" + (f"; nearest: config.{by_leaf.get(leaf, leaf)}" if leaf else "")
