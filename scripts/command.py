"""What every command does around its work: parse flags, and turn what a user can mend into one clear line."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from configs import base
from scripts.command_line import check_config, check_keys, explain
from train import cache, hosts
from train.errors import UserError, in_one_line
from train.signals import InterruptedRun
from train.terminal import printable

CONFIGS = Path(base.__file__).resolve().parent
_HELP = ("help", "helpshort", "helpfull", "helpxml", "h", "?")

flags.DEFINE_boolean("debug", False, "Show the traceback of an error that would be one line.")
flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs; empty: none. Default: the user's cache.")


def launch(main: Callable[..., None], *, config: str | None = None, takes: str | None = None) -> NoReturn:
    """Parse the command line, run `main`, and exit: 0, 1 after a user's error, 128 + signal after an interruption.

    Args:
      main: the command.
      config: default of --config, a file name in configs/; without it the command has no such flag.
      takes: the name of an argument that is no flag; `main` gets it, or "". Of "NAME..." it gets any number.
    """
    many = takes is not None and takes.endswith("...")

    def parse(argv: list[str]) -> list[str]:
        # Orbax tells of every checkpoint in twenty lines, and of an error in hundreds; ours is the one that is raised.
        logging.set_verbosity(logging.FATAL)
        try:
            # config_flags wants the file before the keys; people need not know. Nor what is in a --flagfile, a sweep.
            given = flags.FLAGS.read_flags_from_files(argv[1:])
            argv[1:] = sys.argv[1:] = sorted(given, key=lambda flag: not flag.startswith(("--config=", "-config=")))
            if config is not None:
                check_config(argv, CONFIGS)
                config_flags.DEFINE_config_file(
                    "config", str(CONFIGS / config), "The experiment. --config.KEY=VALUE sets a key of configs/base.py."
                )
            for name in {"config", "compilation_cache", "debug"} & set(flags.FLAGS):  # for --help
                flags.FLAGS.register_key_flag_for_module(argv[0], flags.FLAGS[name])
            rest = flags.FLAGS(argv)
        except SystemExit as end:
            if not any(argument.strip("-") in _HELP for argument in argv):
                _fail(f"the config file ends the program ({end}); mend it", debug="--debug" in argv)
            sys.exit(0)  # absl counts --help as a failure
        except Exception as error:  # a config file is a program of the user's: it may raise anything
            _fail(explain(error), debug="--debug" in argv)
        if len(rest) > 1 + bool(takes) and not many:
            _fail(f"{rest[-1]}: flags start with two hyphens (--name=value)", debug=False)
        return rest

    def run(rest: list[str]) -> None:
        if flags.FLAGS.debug:
            logging.set_verbosity(logging.INFO)
        try:
            if config is not None:
                check_keys(flags.FLAGS.config)
            cache.use_compilation_cache(flags.FLAGS.compilation_cache)
            main(*(rest[1:] or ([""] if takes and not many else [])))
        except BrokenPipeError:  # whoever read our output has gone: say no more, not even at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except (UserError, OSError, MemoryError, RuntimeError, ValueError) as error:
            if (line := in_one_line(error)) is None:
                raise
            _fail(line, debug=flags.FLAGS.debug)
        except InterruptedRun as interruption:
            print(printable(str(interruption)))
            sys.exit(interruption.status)
        except KeyboardInterrupt:
            print("interrupted; the same command begins again, or goes on from what has been saved")
            sys.exit(128 + signal.SIGINT)

    # What has been imported is no garbage, and looking through it once more at the end takes a third of a second.
    gc.freeze()
    gc.enable()  # scripts/__init__.py had turned it off
    try:
        app.run(run, flags_parser=parse)
    except BaseException as end:  # absl ends in SystemExit
        hosts.leave(end)
        raise


def _fail(line: str, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(printable(f"error: {line}"), file=sys.stderr)
    sys.exit(1)
