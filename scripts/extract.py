"""Store what a trained network makes of every image, for training and probing without computing it again.

    python -m scripts.extract --run=runs/alexnet --source=folder:photos --layer=fc7 --output=features/photos
    python -m scripts.train --config=FILE --config.dataset.source=features:features/photos --workdir=runs/photos
    python -m scripts.probe --features=features/photos --method=linear

Images are prepared as the run's own were; --config.dataset.KEY=VALUE says otherwise, and how the source is divided. The
same command goes on where it was stopped, and on a finished store says what has changed since, if anything has.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.extract")

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from scripts import command
from train.data.activations import STORED_TYPES
from train.errors import UserError
from train.features import of_run
from train.run import RunFolder

_RUN = flags.DEFINE_string("run", None, "The run folder of the network.")
_SOURCE = flags.DEFINE_string("source", None, "Images, as in config.dataset.source. Default: the run's own.")
_LAYER = flags.DEFINE_list("layer", [], "Stages whose activations are stored: one, or several with commas.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder of the store.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", STORED_TYPES, "What they are stored as.")
_VIEWS = flags.DEFINE_integer(
    "views", 0, "Augmented views of each training image, by the run's section `augment`; 0: the middle crop alone.", 0
)


def main() -> None:
    """Compute and store."""
    if not (_RUN.value and _LAYER.value and _OUTPUT.value):
        raise UserError(
            "--run=FOLDER, --layer=STAGE and --output=FOLDER are needed: whose activations, which, and where"
        )
    folder = RunFolder(Path(_RUN.value).expanduser())
    changes = config_flags.get_override_values(flags.FLAGS["config"])
    for flag, key in ((_DTYPE, "transfer.dtype"), (_VIEWS, "transfer.views")):
        if flag.present or key not in changes:
            changes[key] = flag.value
    path = Path(_OUTPUT.value).expanduser()
    store = of_run.extract(
        folder, _SOURCE.value, tuple(_LAYER.value), path, changes, lambda line: print(line, flush=True)
    )
    shapes = ", ".join(f"{layer} {list(shape)}" for layer, shape in store.layers.items())
    counts = ", ".join(f"{count:,} {split}" for split, count in store.manifest["splits"].items())
    print(f"{path}: {shapes} of {counts} images, {store.manifest['dtype']}")


if __name__ == "__main__":
    command.launch(main, config="base.py")
