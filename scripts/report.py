"""Draw the report of a run again: report.html, and its figures in report/.

    python -m scripts.report --run=runs/lenet5_digits

Every run ends with it, unless --config.evaluate.report=False; this makes it for runs that have none, or again with a
newer version. The run's data must be where it was, or where --source says.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.report")

from pathlib import Path

from absl import flags

from scripts import command
from train.errors import UserError
from train.report import again
from train.run import RunFolder

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_SOURCE = flags.DEFINE_string("source", None, "Where the run's data lies now. Default: where it lay.")


def main() -> None:
    """Look at the run, draw, write."""
    if not _RUN.value:
        raise UserError("--run=FOLDER is missing: a run folder that scripts.train has made")
    for line in again.write(RunFolder(Path(_RUN.value).expanduser()), _SOURCE.value):
        print(line)


if __name__ == "__main__":
    command.launch(main)
