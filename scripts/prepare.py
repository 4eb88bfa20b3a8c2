"""Prepare data once: build a set of TensorFlow Datasets, or decode photos.

    pip install -e ".[prepare]"
    python -m scripts.prepare --source=tfds:mnist --data_dir=data/tfds --manual_dir=FOLDER
    python -m scripts.train --config=configs/lenet5_mnist.py --config.dataset.source=tfds:mnist \
        --config.dataset.data_dir=data/tfds --workdir=runs/mnist
    python -m scripts.prepare --source=folder:PHOTOS --cache=data/photos256 --image_size=256
    python -m scripts.train --config=configs/alexnet_folder.py --config.dataset.source=cache:data/photos256 \
        --workdir=runs/photos

A set of TensorFlow Datasets is built as array_record files, which training reads without TensorFlow. With --manual_dir,
it is made of the files in that folder, under the names their authors gave them, and nothing is downloaded. Without it,
TensorFlow Datasets downloads them. A set that is there as TFRecord files gets array_record files beside them.

With --cache, photos of any source are decoded and scaled, so that their shorter side has --image_size pixels, and kept
in files that training maps into memory: for machines whose processors decode too slowly for their accelerators. A
recipe that scales photos to up to 512 pixels (augment.scale_jitter, evaluate.scales) takes --image_size=512.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.prepare")

from pathlib import Path

from absl import flags

from configs import base
from scripts import command
from train.data import predecoded, resample, sources, tfds_build
from train.data.tfds import default_data_dir
from train.errors import UserError

_SOURCE = flags.DEFINE_string("source", None, "tfds:NAME[/CONFIG][:VERSION], or with --cache any source of photos.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of prepared sets. Default: TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder of the files that the set is made of.")
_CACHE = flags.DEFINE_string("cache", None, "Decode the photos of any --source into this new folder.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 256, "--cache: pixels of the shorter side.", lower_bound=1)
_RESIZE = flags.DEFINE_enum("resize", "bilinear", list(resample.METHODS), "--cache: how photos are scaled.")
_SKIP = flags.DEFINE_boolean("skip_bad_images", False, "--cache: leave out the files of a folder that cannot be used.")


def main() -> None:
    """Build, or decode; print."""
    uri = _SOURCE.value or ""
    if not uri:
        raise UserError(
            "--source=... is missing: tfds:NAME to build, or with --cache=FOLDER folder:PHOTOS and the like"
        )
    for flag in (_MANUAL_DIR,) if _CACHE.value else (_IMAGE_SIZE, _RESIZE, _SKIP):
        if flag.present:
            takers = "sets that are built" if _CACHE.value else "--cache=FOLDER"
            raise UserError(f"--{flag.name}: is for {takers}; leave it out")
    if _CACHE.value:
        config = base.get_config().dataset
        config.source, config.data_dir, config.skip_bad_images = uri, _DATA_DIR.value, _SKIP.value
        config.stream = None if uri.startswith("folder:") else True
        folder = Path(_CACHE.value).expanduser()
        print(predecoded.write(sources.read(uri, config), uri, folder, _IMAGE_SIZE.value, _RESIZE.value))
        return
    kind, _, name = uri.partition(":")
    if kind != "tfds" or not name:
        raise UserError(f"--source={uri}: must name a set to build, tfds:NAME; or add --cache=FOLDER to decode photos")
    data_dir = Path(_DATA_DIR.value).expanduser() if _DATA_DIR.value else default_data_dir()
    manual_dir = Path(_MANUAL_DIR.value).expanduser() if _MANUAL_DIR.value else None
    print(tfds_build.build(name, data_dir, manual_dir))


if __name__ == "__main__":
    command.launch(main)
