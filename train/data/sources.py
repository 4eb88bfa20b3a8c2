"""What `dataset.source` can name, and reading it."""

import glob
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from train.data import folder, idx, npz, predecoded, tfds
from train.data.examples import Examples
from train.data.source import Source
from train.errors import UserError, nearest


def _read_digits(path: str, config: ConfigDict) -> Source:
    if path:
        raise UserError(f"config.dataset.source=digits:{path}: digits is embedded and takes nothing after the name")
    from sklearn.datasets import load_digits  # 1 s to import, wanted here alone

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # 17 levels of gray
    return Source({"train": Examples(images, digits.target.astype(np.int32))}, tuple(map(str, digits.target_names)))


def _read_folder(path: str, config: ConfigDict) -> Source:
    return folder.read(Path(path).expanduser(), skip_bad_images=config.skip_bad_images)


SOURCES: Mapping[str, Callable[[str, ConfigDict], Source]] = {
    "digits": _read_digits,
    "idx": lambda path, config: Source(dict(idx.read_folder(Path(path).expanduser()))),
    "npz": lambda path, config: npz.read(
        Path(path).expanduser(), stream=bool(config.stream), channels=config.channels or 3
    ),
    "folder": _read_folder,
    "cache": lambda path, config: predecoded.read(
        Path(path).expanduser(), round(config.image_size / (config.crop or 1))
    ),
    "tfds": lambda path, config: tfds.read(
        path,
        data_dir=config.data_dir,
        stream=config.stream,
        image_size=config.image_size,
        channels=config.channels,
    ),
}


def read(uri: str, config: ConfigDict) -> Source:
    """Read what a `dataset.source` names, with the section `dataset` for the options of sources.

    Raises:
      UserError: the source is unknown or cannot be read.
    """
    kind, _, path = uri.partition(":")
    if kind == "features":
        raise UserError(f"{uri}: is of activations, which scripts.train and scripts.probe take; name the images here")
    if kind not in SOURCES:
        raise UserError(
            f"config.dataset.source={uri}: must start with one of {', '.join((*SOURCES, 'features'))}"
            f"{nearest(kind, SOURCES)}"
        )
    if kind != "digits" and not path:
        raise UserError(f"config.dataset.source={uri}: takes a name behind the colon, for instance {kind}:NAME")
    source = SOURCES[kind](path, config)
    for split, images in source.splits.items():
        if not images.total:
            raise UserError(f"{uri}: its {split} split holds no image; add some")
    return source


def reachable(uri: str) -> bool:
    """Whether there is anything where a source lies in files."""
    kind, _, path = uri.partition(":")
    place = Path(path).expanduser()
    if kind == "npz":
        return place.is_file() or any(place.parent.glob(f"{glob.escape(place.name)}_*.npz"))
    return kind not in ("folder", "idx", "cache") or place.is_dir()
