"""A copy of a source's photos, decoded once and scaled: reading one is mapping its pixels into memory.

A folder holds cache.json, which says of what it is, and for each split SPLIT.pixels, the images' bytes one behind the
other, and SPLIT.npz with `offset` `[N + 1]` into these, `side` `[N, 2]` (height and width), `label`, `id` and `digest`.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train import json_file
from train.data import archive
from train.data.photos import Photos
from train.data.source import Source
from train.data.stream import stream
from train.errors import UserError
from train.whole import whole_folder

_ABOUT, _FORMAT = "cache.json", 1
# Images decoded at a time by a thread.
_PART = 64


class _Pixels:
    """Decoded images as records."""

    def __init__(self, folder: Path, split: str, about: dict[str, Any]) -> None:
        self._folder, self._split = folder, split
        self.fingerprint: str = about["splits"][split]["fingerprint"]
        path = folder / f"{split}.pixels"
        try:
            self._offset, self._sides, self.labels = self._table("offset", "side", "label")
            self._pixels = np.memmap(path, np.uint8, "r")
            whole = _fits(self._offset, self._sides, self.labels, len(about["classes"] or ()), about["channels"])
        except (OSError, ValueError, KeyError, MemoryError) as error:
            raise UserError(f"{path.with_suffix('')}: cannot be read ({error}); prepare the cache again") from error
        if not whole or len(self._pixels) != self._offset[-1]:
            raise UserError(f"{path}: does not hold what its table says; prepare the cache again")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int]) -> list[tuple[np.ndarray, int]]:
        return [
            (
                self._pixels[self._offset[index] : self._offset[index + 1]].reshape(*self._sides[index], -1),
                int(self.labels[index]),
            )
            for index in indices
        ]

    def name(self, index: int) -> str:
        return f"{self._folder}: {self.id(index)}"

    def id(self, index: int) -> str:
        return self._texts[0][index].decode(errors="backslashreplace")

    def digest(self, index: int) -> str:
        return self._texts[1][index].decode(errors="backslashreplace")

    @functools.cached_property
    def _texts(self) -> list[np.ndarray]:
        try:
            texts = self._table("id", "digest")
            if any(text.shape != self.labels.shape or text.dtype.kind != "S" for text in texts):
                raise ValueError("id and digest must be texts, one for each image")
        except (OSError, ValueError, KeyError, MemoryError) as error:
            raise UserError(
                f"{self._folder / self._split}.npz: cannot be read ({error}); make the cache again"
            ) from error
        return texts

    def _table(self, *names: str) -> list[np.ndarray]:
        table = archive.read(self._folder / f"{self._split}.npz", names)
        return [table[name] for name in names]

    def __getstate__(self) -> dict[str, Any]:  # a worker maps the file itself, and is not sent its bytes
        return self.__dict__ | {"_pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = np.memmap(self._folder / f"{self._split}.pixels", np.uint8, "r")


def _fits(offset: np.ndarray, sides: np.ndarray, labels: np.ndarray, classes: int, channels: int) -> bool:
    """Whether a table is one: whole numbers, images that follow one another, labels of the classes (0: any)."""
    count = len(labels) if labels.ndim == 1 else 0
    if any(column.dtype.kind != "i" for column in (offset, sides, labels)):
        return False
    if not count or offset.shape != (count + 1,) or sides.shape != (count, 2) or offset[0]:
        return False
    if sides.min() < 1 or sides.max() >= 2**20 or labels.min() < 0 or labels.max() >= (classes or 2**31):
        return False
    return np.array_equal(np.diff(offset), sides.astype(np.int64).prod(-1) * channels)


def read(folder: Path, shorter: int) -> Source:
    """Open a cache.

    Args:
      folder: of the cache.
      shorter: pixels that the shorter side must have at least.

    Raises:
      UserError: it is no cache, is damaged, or its images are smaller.
    """
    about = _about(folder)
    if about["image_size"] < shorter:
        raise UserError(
            f"cache:{folder}: its images have {about['image_size']} pixels along the shorter side, and {shorter} are "
            f"wanted (config.dataset.image_size over config.dataset.crop); prepare one with --image_size={shorter}"
        )
    splits = {split: Photos.all_of(_Pixels(folder, split, about), about["channels"]) for split in about["splits"]}
    names = about["classes"]
    return Source(dict(splits), names and tuple(names), labels_fit=True, skipped=tuple(about["skipped"]))


def write(source: Source, uri: str, folder: Path, shorter: int, method: str) -> str:
    """Make a cache of a source's photos; it appears when it is whole.

    Args:
      source: as it was read.
      uri: what it is called.
      folder: of the cache; must not be there yet.
      shorter: pixels that the shorter side of each image gets.
      method: a key of `resample.METHODS`.

    Returns:
      What to say: where the cache is, and how large.

    Raises:
      UserError: the source holds no photos, one cannot be decoded, or the folder is there or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists():
        raise UserError(f"--cache={folder}: is there already; remove it, or choose another folder")
    channels = set[int]()
    for split, images in source.splits.items():
        if not isinstance(images, Photos):
            raise UserError(f"{uri}: its {split} images are held in memory, decoded; a cache is for photos in files")
        channels.add(images.channels)
    about: dict[str, Any] = {
        "format": _FORMAT,
        "source": uri,
        "image_size": shorter,
        "resize": method,
        "channels": channels.pop(),
        "classes": source.class_names,
        "skipped": source.skipped,
        "splits": {},
    }
    try:
        with whole_folder(folder) as draft:
            for split, images in source.splits.items():
                assert isinstance(images, Photos)
                about["splits"][split] = _write_split(images, draft, split, shorter, method)
            (draft / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--cache={folder}: cannot be written ({error.strerror}); make room, or choose another") from (
            error
        )
    counts = ", ".join(f"{part['count']:,} {split}" for split, part in about["splits"].items())
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{folder}: {counts}, {size / 1e9:,.2f} GB; train with --config.dataset.source=cache:{folder}"


def _write_split(photos: Photos, folder: Path, split: str, shorter: int, method: str) -> dict[str, Any]:
    parts = np.array_split(np.arange(photos.total), -(-photos.total // _PART))

    def decoded(number: int) -> list[np.ndarray]:
        return photos.scaled(parts[number], shorter, method)

    sides, digests, everything = [], [], hashlib.sha256(photos.labels.tobytes())
    with (folder / f"{split}.pixels").open("wb") as file, stream(decoded, 0, len(parts), 0) as images:
        for part in images:
            for image in part:
                file.write(image.data)
                everything.update(image.data)
                digests.append(hashlib.sha256(image.data).hexdigest().encode())
                sides.append(image.shape[:2])
    records, index = photos.records, photos.index.tolist()
    side = np.array(sides, np.int32)
    size = side.astype(np.int64).prod(-1) * photos.channels
    np.savez(
        folder / f"{split}.npz",
        offset=np.concatenate([[0], np.cumsum(size)]),
        side=side,
        label=photos.labels,
        id=np.array([records.id(place).encode() for place in index]),
        digest=np.array(digests),
    )
    return {"count": photos.total, "fingerprint": everything.hexdigest()}


def _about(folder: Path) -> dict[str, Any]:
    path = folder / _ABOUT
    if not path.is_file():
        raise UserError(
            f"cache:{folder}: is no cache ({_ABOUT} is missing); make one with: "
            f"python -m scripts.prepare --source=URI --cache={folder}"
        )
    try:
        about = json_file.read(path)
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}, {_FORMAT} is known")
        kinds = {"image_size": int, "channels": int, "classes": list | None, "skipped": list, "splits": dict}
        for name, kind in kinds.items():
            if not isinstance(about[name], kind):
                raise ValueError(f"its {name} must be of another kind")
        if about["channels"] not in (1, 3):
            raise ValueError("its channels must be 1 or 3")
        if not {"train"} <= about["splits"].keys() <= {"train", "validation", "test"}:
            raise ValueError("its splits must be train, and perhaps validation and test")
        if not all(isinstance(text, str) for text in (*(about["classes"] or ()), *about["skipped"])):
            raise ValueError("its classes and what was skipped are no texts")
        if not all(isinstance(part["fingerprint"], str) for part in about["splits"].values()):
            raise ValueError("a fingerprint is no text")
        return {name: about[name] for name in kinds}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); prepare the cache again") from error
