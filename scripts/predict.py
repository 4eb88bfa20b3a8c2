"""Say which classes a trained network takes images for.

    python -m scripts.predict --run=runs/ants_and_bees photo.jpg
    python -m scripts.predict --run=runs/ants_and_bees --top=1 --json photos/ > predictions.json
    curl -s https://example.org/ant.jpg | python -m scripts.predict --run=runs/ants_and_bees -

An IMAGE is a JPEG, PNG or WebP file, a folder (all images in it and in folders below), or - for the bytes of one image
from standard input. They are cropped and scaled as the run's own images were. One that cannot be used is named on
standard error; the others are predicted, and the exit status is 1.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.predict")

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from scripts import command
from train.errors import UserError
from train.predict import Prediction, find, predict
from train.run import RunFolder
from train.terminal import printable

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_TOP = flags.DEFINE_integer("top", 5, "The most probable classes that are shown of each image.", lower_bound=1)
_JSON = flags.DEFINE_boolean("json", False, "Print JSON instead of text.")


def main(*names: str) -> None:
    """Find the images, predict, print."""
    if not _RUN.value:
        raise UserError("--run=FOLDER is missing: a run folder that scripts.train has made")
    if not names or "" in names:
        raise UserError(
            "IMAGE is missing: python -m scripts.predict --run=FOLDER IMAGE... takes JPEG, PNG and WebP files, folders "
            "of them, and - for standard input"
        )
    folder, images = RunFolder(Path(_RUN.value).expanduser()), find(names)
    answers, unusable = predict(folder, images, _TOP.value), []

    def usable() -> Iterator[Prediction]:
        for answer in answers:
            if isinstance(answer, Prediction):
                yield answer
                continue
            unusable.append(answer)
            if len(images) > 1:
                print(printable(f"{answer.image}: {answer.why}"), file=sys.stderr)

    (_print_json if _JSON.value else _print_text)(usable())
    if unusable:
        raise UserError(
            f"{len(unusable)} of {len(images)} images cannot be used; they are named above"
            if len(images) > 1
            else f"{unusable[0].image}: {unusable[0].why}"
        )


def _print_json(predictions: Iterator[Prediction]) -> None:
    """Print a list with an image a line, each as soon as it is there."""
    before = "["
    for prediction in predictions:
        guesses = [{"class": it.name, "index": it.index, "probability": it.probability} for it in prediction.guesses]
        print(before, json.dumps({"image": prediction.image, "predictions": guesses}), sep="", end="")
        before = ",\n "
    print("]" if before != "[" else "[]")


def _print_text(predictions: Iterator[Prediction]) -> None:
    """Print for each image its name, and a line for each class."""
    for number, prediction in enumerate(predictions):
        if number:
            print()
        print(printable(prediction.image))
        for guess in prediction.guesses:
            print(f"{guess.probability:9.2%}  {printable(guess.name)}")


if __name__ == "__main__":
    command.launch(main, takes="IMAGE...")
