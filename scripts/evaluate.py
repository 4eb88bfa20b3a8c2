"""Evaluate a trained network on every image of a test set.

python -m scripts.evaluate --run=runs/lenet5_mnist --source=idx:FOLDER --output=accuracy.json
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.evaluate")

from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.errors import UserError
from train.evaluate import evaluate_run
from train.run import RunFolder

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_SOURCE = flags.DEFINE_string(
    "source", None, "Images, as in config.dataset.source. Default: the run's own test images."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "center", ["center"], "What is looked at. center: each image once, its middle."
)
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")


def main() -> None:
    """Evaluate, print, write."""
    if not _RUN.value:
        raise UserError("--run=FOLDER is missing: a run folder that scripts.train has made")
    folder = RunFolder(Path(_RUN.value).expanduser())
    source = _SOURCE.value or folder.config.dataset.source
    if not source:
        raise UserError("--source=URI is missing: imported weights come without test images")
    write = outputs.json_output(_OUTPUT.value)
    figures = {"source": source, "protocol": _PROTOCOL.value} | evaluate_run(folder, source)
    for name, value in figures.items():
        print(f"{name:14} {f'{value:.6g}' if isinstance(value, float) else value}")
    if figures["split"] == "all":
        print("These are all images of the source: if the network has seen some in training, the figures flatter it.")
    write(figures)


if __name__ == "__main__":
    command.launch(main)
