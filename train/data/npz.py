"""NumPy archives: arrays of pixels, or JPEG files packed one behind the other.

Keys are `image` (uint8 `[N, H, W]` or `[N, H, W, C]`), or `jpeg` (uint8) and `offset` (integers `[N + 1]`; image i is
`jpeg[offset[i]:offset[i + 1]]`); `label` (integers `[N]`); and, if wanted, `class_names`.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from train.cores import cores
from train.data import archive, decode
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.source import Source
from train.errors import UserError

_SPLITS = {"train": "_train.npz", "validation": "_val.npz", "test": "_test.npz"}


class _Packed:
    """JPEG files one behind the other as records."""

    def __init__(self, path: Path, jpeg: np.ndarray, offset: np.ndarray, labels: np.ndarray) -> None:
        self._path, self._jpeg, self._offset = path, jpeg, offset
        self.labels = labels
        digest = hashlib.sha256(jpeg.data)
        digest.update(np.ascontiguousarray(offset, "<i8").data)
        digest.update(np.ascontiguousarray(labels, "<i4").data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        return [(self.bytes_of(index), int(self.labels[index])) for index in indices]

    def bytes_of(self, index: int) -> bytes:
        return self._jpeg[self._offset[index] : self._offset[index + 1]].tobytes()

    def name(self, index: int) -> str:
        return f"{self._path}: image {index}"

    def id(self, index: int) -> str:
        return f"{self._path.name}/{index}"

    def digest(self, index: int) -> str:
        return hashlib.sha256(self.bytes_of(index)).hexdigest()


def read(path: Path, *, stream: bool = False, channels: int = 3) -> Source:
    """Read one file (its images are then divided by the config), or the files that share the prefix `path`.

    Args:
      path: of the file, or what the files' names begin with.
      stream: leave packed JPEG files encoded.
      channels: what they are decoded to: 1 (gray) or 3 (RGB).

    Raises:
      UserError: nothing is there, or a file lacks a key or holds something else than labelled images.
    """
    if path.is_file():
        files = {"train": path}
    elif not path.name:
        raise UserError("config.dataset.source=npz: takes a file behind the colon, npz:FILE")
    else:
        candidates = {split: path.with_name(path.name + ending) for split, ending in _SPLITS.items()}
        files = {split: file for split, file in candidates.items() if file.is_file()}
        if "train" not in files:
            raise UserError(f"{path}: no such file, and no {path.name}_train.npz beside it either; name one that is")
    read_files = {split: _read_file(file, stream, channels) for split, file in files.items()}
    names = {split: class_names for split, (_, class_names) in read_files.items() if class_names is not None}
    if len(set(names.values())) > 1:
        raise UserError(f"{path}: class_names differ between {' and '.join(names)}; give all the same")
    return Source({split: images for split, (images, _) in read_files.items()}, next(iter(names.values()), None))


def _read_file(path: Path, stream: bool, channels: int) -> tuple[Examples | Photos, tuple[str, ...] | None]:
    try:
        arrays = archive.read(path)
    except (OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{path}: cannot be read as a NumPy archive, .npz ({error}); write it again with numpy.savez"
        ) from error
    if "label" not in arrays or not ("image" in arrays or {"jpeg", "offset"} <= arrays.keys()):
        raise UserError(
            f"{path}: needs `label` and `image` (or `jpeg` and `offset`); has {', '.join(arrays) or 'none'}"
        )
    labels = arrays["label"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: label must be integers [N], is {labels.dtype} {list(labels.shape)}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**31:
        raise UserError(f"{path}: label must be 0 or more and fit 32 bits, is {labels.min()} to {labels.max()}")
    labels = labels.astype(np.int32)
    names = tuple(map(str, np.atleast_1d(arrays["class_names"]))) if "class_names" in arrays else None
    if "image" in arrays:
        return Examples(_pixels(path, arrays["image"], labels), labels), names
    packed = _packed(path, arrays["jpeg"], arrays["offset"], labels)
    if not stream:
        return Photos.all_of(packed, channels).whole(), names
    with ThreadPoolExecutor(cores()) as threads:  # Pillow decodes outside Python's lock
        reasons = threads.map(lambda index: decode.check(packed.bytes_of(index)), range(len(packed)))
        for index, reason in enumerate(reasons):
            if reason:
                raise UserError(f"{packed.name(index)}: {reason}; write the file again without it")
    return Photos.all_of(packed, channels), names


def _pixels(path: Path, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.size == 0:
        raise UserError(f"{path}: holds no image, and must hold one or more")
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise UserError(f"{path}: image must be uint8 [N, H, W] or [N, H, W, 1 or 3], is {images.dtype} {images.shape}")
    if len(images) != len(labels):
        raise UserError(f"{path}: {len(images)} images but {len(labels)} labels; give a label to each")
    return images


def _packed(path: Path, jpeg: np.ndarray, offset: np.ndarray, labels: np.ndarray) -> _Packed:
    if jpeg.ndim != 1 or jpeg.dtype != np.uint8 or offset.ndim != 1 or not np.issubdtype(offset.dtype, np.integer):
        raise UserError(f"{path}: jpeg must be uint8 [bytes] and offset integers [N + 1]")
    if len(offset) < 2 or offset[0] < 0 or offset[-1] > len(jpeg) or np.any(np.diff(offset) <= 0):
        raise UserError(f"{path}: offset must rise from 0 to the {len(jpeg)} bytes of jpeg")
    if len(offset) != len(labels) + 1:
        raise UserError(f"{path}: {len(offset) - 1} images but {len(labels)} labels; give a label to each")
    return _Packed(path, np.ascontiguousarray(jpeg), offset, labels)
