"""NumPy archives: arrays of pixels, or JPEG files packed one behind the other.

Keys are `image` (uint8 `[N, H, W]` or `[N, H, W, C]`), or `jpeg` (uint8) and `offset` (integers `[N + 1]`; image i is
`jpeg[offset[i]:offset[i + 1]]`); `label` (integers `[N]`); and, if wanted, `class_names`.
"""

import io
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from train.data.examples import Examples
from train.errors import UserError

_SPLITS = {"train": "_train.npz", "validation": "_val.npz", "test": "_test.npz"}


def read(path: Path) -> tuple[dict[str, Examples], tuple[str, ...] | None]:
    """Read one file (its images are then divided by the config), or the files that share the prefix `path`.

    Returns:
      The examples by split, and the class names where a file has them.

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
            raise UserError(f"{path}: no such file, and no {path.name}_train.npz beside it either")
    read_files = {split: _read_file(file) for split, file in files.items()}
    names = {split: class_names for split, (_, class_names) in read_files.items() if class_names is not None}
    if len(set(names.values())) > 1:
        raise UserError(f"{path}: class_names differ between {' and '.join(names)}")
    return {split: examples for split, (examples, _) in read_files.items()}, next(iter(names.values()), None)


def _read_file(path: Path) -> tuple[Examples, tuple[str, ...] | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (AttributeError, TypeError):  # np.load reads other files too, and returns what has no `files`
        raise UserError(f"{path}: is no NumPy archive (.npz)") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a NumPy archive ({error})") from error
    if "label" not in arrays or not ("image" in arrays or {"jpeg", "offset"} <= arrays.keys()):
        raise UserError(
            f"{path}: needs `label` and `image` (or `jpeg` and `offset`); has {', '.join(arrays) or 'none'}"
        )
    labels = arrays["label"]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{path}: label must be integers [N], is {labels.dtype} {list(labels.shape)}")
    images = arrays["image"] if "image" in arrays else _decode(path, arrays["jpeg"], arrays["offset"])
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.size == 0:
        raise UserError(f"{path}: holds no image")
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise UserError(f"{path}: image must be uint8 [N, H, W] or [N, H, W, 1 or 3], is {images.dtype} {images.shape}")
    if len(images) != len(labels):
        raise UserError(f"{path}: {len(images)} images but {len(labels)} labels")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**31:
        raise UserError(f"{path}: label must be 0 or more and fit 32 bits, is {labels.min()} to {labels.max()}")
    names = tuple(map(str, np.atleast_1d(arrays["class_names"]))) if "class_names" in arrays else None
    return Examples(images, labels.astype(np.int32)), names


def _decode(path: Path, jpeg: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Decode packed JPEG files of one size into `[N, H, W, 3]`; grayscale ones become RGB."""
    if jpeg.ndim != 1 or jpeg.dtype != np.uint8 or offset.ndim != 1 or not np.issubdtype(offset.dtype, np.integer):
        raise UserError(f"{path}: jpeg must be uint8 [bytes] and offset integers [N + 1]")
    if len(offset) < 2 or offset[0] < 0 or offset[-1] > len(jpeg) or np.any(np.diff(offset) <= 0):
        raise UserError(f"{path}: offset must rise from 0 to the {len(jpeg)} bytes of jpeg")

    def decode(index: int) -> np.ndarray:
        data = jpeg[offset[index] : offset[index + 1]].tobytes()
        try:
            return np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",)).convert("RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: image {index} is no JPEG that can be decoded ({error})") from error

    first = decode(0)
    images = np.empty((len(offset) - 1, *first.shape), np.uint8)

    def decode_into(indices: Iterable[int]) -> None:
        for index in indices:
            image = decode(index)
            if image.shape != first.shape:
                raise UserError(f"{path}: image {index} has {image.shape[:2]} pixels, the first {first.shape[:2]}")
            images[index] = image

    with ThreadPoolExecutor() as threads:  # Pillow decodes outside Python's lock
        list(threads.map(decode_into, np.array_split(np.arange(len(images)), 64)))
    return images
