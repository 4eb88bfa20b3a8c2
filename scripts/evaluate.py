"""Evaluate trained networks on every image of a test set.

    python -m scripts.evaluate --run=runs/lenet5_mnist --source=idx:FOLDER --output=accuracy.json
    python -m scripts.evaluate --run=runs/vgg16 --protocol=multi_crop,multi_scale --compare
    python -m scripts.evaluate --run=runs/alexnet/0,runs/alexnet/1 --protocol=ten_crop --classes=20

Answers of several runs, and by several protocols, are averaged. A protocol looks at each image so: center: as training
prepared it, its middle; ten_crop: the corners and the middle of the square in the middle, and these mirrored;
multi_crop: 5 x 5 crops and these mirrored, at three sizes; dense: all of the image and its mirror image, with an answer
for every place; multi_scale: the same at three sizes.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.evaluate")

from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.errors import UserError
from train.protocols import of_runs, showing
from train.protocols.looks import PROTOCOLS
from train.run import RunFolder

_RUN = flags.DEFINE_list("run", [], "The run folder; or several, with commas between them, that answer together.")
_SOURCE = flags.DEFINE_string(
    "source", None, "Images, as in config.dataset.source. Default: the run's own test images."
)
_PROTOCOL = flags.DEFINE_list("protocol", [], f"Of {', '.join(PROTOCOLS)}. Default: the run's evaluate.protocol.")
_SCALES = flags.DEFINE_list("scales", [], "Shorter sides of the image at which it is looked at, in pixels.")
_REAL_LABELS = flags.DEFINE_string(
    "real_labels", None, "JSON file with all labels that are right for each image, in order (Beyer et al. 2020)."
)
_CLASSES = flags.DEFINE_integer("classes", 0, "Show so many classes, the worst first.", lower_bound=0)
_COMPARE = flags.DEFINE_boolean("compare", False, "Show published figures of the same network on the same data.")
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")


def main() -> None:
    """Evaluate, print, write."""
    if not _RUN.value:
        raise UserError("--run=FOLDER is missing: a run folder that scripts.train has made")
    runs = [RunFolder(Path(run).expanduser()) for run in _RUN.value]
    first = runs[0].config
    source = _SOURCE.value or first.dataset.source
    if not source:
        raise UserError("--source=URI is missing: imported weights come without test images")
    protocols = _PROTOCOL.value or [first.evaluate.protocol]
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise UserError(f"--protocol={','.join(protocols)}: {unknown[0]} must be one of {', '.join(PROTOCOLS)}")
    try:
        scales = tuple(map(int, _SCALES.value))
    except ValueError:
        raise UserError(f"--scales={','.join(_SCALES.value)}: must be whole numbers of pixels") from None
    write = outputs.json_output(_OUTPUT.value)
    answered = of_runs.answer(runs, source, protocols, scales)
    figures = {"source": source, "protocol": ",".join(protocols), "runs": [str(run.path) for run in runs]}
    figures |= of_runs.figures_of(answered, first, _REAL_LABELS.value)
    showing.show(figures, _CLASSES.value)
    if _COMPARE.value:
        showing.compare(figures, runs, protocols)
    write(figures)


if __name__ == "__main__":
    command.launch(main)
