"""Prepared data sets of TensorFlow Datasets, read without TensorFlow."""

import functools
import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from train.cores import cores
from train.data.photos import Photos
from train.data.source import Source
from train.errors import UserError, nearest

_SPLITS = {"train": "train", "validation": "validation", "test": "test"}
# Images of one declared size are held in memory up to this many bytes of pixels, a gigabyte, unless the config says.
_RESIDENT_BYTES = 2**30


def default_data_dir() -> Path:
    """Return the folder of prepared sets that TFDS itself looks into."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def builder(name: str, data_dir: Path) -> Any:
    """Return the tfds builder of NAME[/CONFIG][:VERSION].

    Raises:
      UserError: there is no such set, configuration or version.
    """
    # absl's logging, which tfds uses, would tell of each attempt to read from files.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds  # 0.4 s to import, not wanted by every source

    try:
        found = tfds.builder(name, data_dir=data_dir)
        # From its files alone: where its code is known too, tfds forgets formats that were added later.
        return tfds.builder_from_directory(found.data_path) if found.is_prepared() else found
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        bare = name.partition("/")[0].partition(":")[0]
        raise UserError(
            f"tfds:{name}: TensorFlow Datasets has no set of that name{nearest(bare, known)} "
            "(https://www.tensorflow.org/datasets/catalog lists them)"
        ) from error
    except (AssertionError, ValueError) as error:
        raise UserError(f"tfds:{name}: {' '.join(str(error).split())[:300]}") from error


class _Records:
    """Records of a split. The image's bytes are handed on as they are; labels are read when first asked for."""

    def __init__(self, prepared: Any, split: str, image: str, label: str) -> None:
        import tensorflow_datasets as tfds

        self._keys = image, label
        self._source = prepared.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
        info = prepared.info
        self._name, self._split = f"tfds:{info.full_name}: {split}", split
        # A version of a set does not change: it is not read whole for a fingerprint.
        about = info.splits[split]
        described = [info.full_name, split, about.num_examples, about.num_bytes, about.shard_lengths]
        self.fingerprint = hashlib.sha256(json.dumps(described).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._source)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        parts = np.array_split(np.arange(len(self)), -(-len(self) // 1_000))
        with ThreadPoolExecutor(cores()) as threads:
            labels = threads.map(lambda part: [label for _, label in self.read(part.tolist())], parts)
            return np.concatenate([np.asarray(part, np.int32) for part in labels])

    def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        image, label = self._keys
        return [(record[image], int(record[label])) for record in self._source.__getitems__(list(indices))]

    def name(self, index: int) -> str:
        return f"{self._name} record {index}"

    def id(self, index: int) -> str:
        return f"{self._split}/{index}"

    def digest(self, index: int) -> str:
        return ""


def read(
    name: str, *, data_dir: str | None, stream: bool | None, image_size: int = 0, channels: int | None = None
) -> Source:
    """Read NAME[/CONFIG][:VERSION] from array_record files.

    Images of one declared size are decoded into memory, unless `stream` is True or they would fill more than a
    gigabyte there, as they are or at the size that the network sees. All others stay encoded.

    Args:
      name: of the set.
      data_dir: folder of prepared sets; None is `default_data_dir()`.
      stream: leave images encoded; None leaves that to their size.
      image_size: side of the images that the network sees, in pixels.
      channels: what images are decoded to, 1 (gray) or 3 (RGB); None is what they have.

    Raises:
      UserError: there is no such set, it is not prepared there, or it does not hold labelled images.
    """
    folder = Path(data_dir).expanduser() if data_dir else default_data_dir()
    prepared = builder(name, folder)
    if not prepared.is_prepared():
        raise UserError(
            f"tfds:{name}: is not prepared in {folder}; prepare it with: "
            f"python -m scripts.prepare --source=tfds:{name} --data_dir={folder}"
        )
    require_array_record(name, prepared, folder)
    image, label = _keys(name, prepared.info)
    features = prepared.info.features
    names = tuple(features[label].names)
    shape = features[image].shape
    channels = channels or shape[-1] or 3
    records = {
        split: _Records(prepared, theirs, image, label)
        for split, theirs in _SPLITS.items()
        if theirs in prepared.info.splits
    }
    if "train" not in records:
        raise UserError(f"tfds:{name}: has no split `train`, but {', '.join(prepared.info.splits)}; choose another set")
    # A test whose answers are kept secret has the label -1 throughout.
    records = {split: found for split, found in records.items() if found.read([0])[0][1] >= 0}
    if stream is None:
        images = sum(map(len, records.values()))
        pixels = 0 if None in shape else max(math.prod(shape[:2]), image_size**2) * channels
        stream = images * pixels > _RESIDENT_BYTES
    photos = {split: Photos.all_of(found, channels) for split, found in records.items()}
    if stream or None in shape:
        return Source(dict(photos), names, labels_fit=True)
    return Source({split: part.whole() for split, part in photos.items()}, names)


def formats(prepared: Any) -> set[str]:
    """Return the formats of files that a prepared set is there in."""
    return {str(kind.value) for kind in prepared.info.available_file_formats()}


def require_array_record(name: str, prepared: Any, data_dir: Path) -> None:
    """Raise UserError where a prepared set is in formats that take TensorFlow to read."""
    if "array_record" not in (found := formats(prepared)):
        convertible = found == {"tfrecord"}
        raise UserError(
            f"tfds:{name}: is prepared in {prepared.data_path} as {', '.join(sorted(found))}, which takes TensorFlow "
            f"to read; {'add array_record files' if convertible else 'prepare it again into another folder'} with: "
            f"python -m scripts.prepare --source=tfds:{name} --data_dir={data_dir if convertible else 'FOLDER'}"
        )


def _keys(name: str, info: Any) -> tuple[str, str]:
    """Return which features are image and label."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    if keys is None or len(keys) != 2:
        raise UserError(
            f"tfds:{name}: does not say which of its features are image and label (supervised_keys); choose another set"
        )
    image, label = (info.features[key] if isinstance(key, str) else None for key in keys)
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(f"tfds:{name}: is no set of images with one label each; choose another set")
    if image.np_dtype != np.uint8 or image.shape[-1] not in (None, 1, 3):
        raise UserError(
            f"tfds:{name}: images must be bytes with 1 or 3 channels, are {image.np_dtype} {image.shape}; choose "
            "another set"
        )
    return keys
