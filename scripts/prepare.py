"""Build a data set of TensorFlow Datasets, once; training reads it without TensorFlow.

    pip install -e ".[prepare]"
    python -m scripts.prepare --source=tfds:mnist --data_dir=data/tfds --manual_dir=FOLDER
    python -m scripts.train --config=configs/lenet5_mnist.py --config.dataset.source=tfds:mnist \
        --config.dataset.data_dir=data/tfds --workdir=runs/mnist

With --manual_dir, the set is made of the files in that folder, under the names their authors gave them, and nothing is
downloaded. Without it, TensorFlow Datasets downloads them. A set that is there as TFRecord files, which take
TensorFlow to read, gets array_record files beside them.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.prepare")

from pathlib import Path

from absl import flags

from scripts import command
from train.data import tfds_build
from train.data.tfds import default_data_dir
from train.errors import UserError

_SOURCE = flags.DEFINE_string("source", None, "tfds:NAME[/CONFIG][:VERSION].")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of prepared sets. Default: TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the files that the set is made of.")


def main() -> None:
    """Build, print."""
    kind, _, name = (_SOURCE.value or "").partition(":")
    if kind != "tfds" or not name:
        raise UserError(f"--source={_SOURCE.value or ''}: must name a set to build, tfds:NAME")
    data_dir = Path(_DATA_DIR.value).expanduser() if _DATA_DIR.value else default_data_dir()
    manual_dir = Path(_MANUAL_DIR.value).expanduser() if _MANUAL_DIR.value else None
    print(tfds_build.build(name, data_dir, manual_dir))


if __name__ == "__main__":
    command.launch(main)
