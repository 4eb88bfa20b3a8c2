"""What is kept of every image of a set to find it again in another: a hash of its content, and a small gray copy."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from train.cores import cores
from train.data import decode
from train.data.photos import Photos
from train.data.roles import Read
from train.errors import AGAIN, UserError
from train.report.likeness import SIDE

# Images read by a thread at a time.
_PART = 64


class Signatures(NamedTuple):
    """Of N images.

    Attributes:
      digests: SHA-256 of each file's bytes, or of the pixels of an image in memory.
      gray: each image whole, whatever its proportions, uint8 `[N, 32, 32]`.
    """

    digests: list[bytes]
    gray: np.ndarray


def sign(images: Read) -> Signatures:
    """Read each image once.

    Raises:
      UserError: a photo cannot be read or decoded; names it.
    """
    digests: list[bytes] = []
    gray = np.empty((images.total, SIDE, SIDE), np.uint8)
    parts = np.array_split(np.arange(images.total), -(-images.total // _PART))
    with ThreadPoolExecutor(cores()) as threads:  # Pillow decodes outside Python's lock
        for part, signed in zip(
            parts, threads.map(lambda part: [_sign(images, int(i)) for i in part], parts), strict=True
        ):
            for place, (digest, small) in zip(part, signed, strict=True):
                digests.append(digest)
                gray[place] = small
    return Signatures(digests, gray)


def _sign(images: Read, place: int) -> tuple[bytes, np.ndarray]:
    if not isinstance(images, Photos):
        image = images.images[place]
        small = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("L")
        return hashlib.sha256(image.tobytes()).digest(), np.asarray(
            small.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        )
    data = file_of(images, place)
    try:
        whole = decode.crop(data, lambda width, height: (0, 0, width, height), SIDE, "bilinear", 1)
    except decode.BadImage as error:
        raise UserError(f"{images.records.name(int(images.index[place]))}: {error}; replace it, and {AGAIN}") from error
    return hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).digest(), whole[..., 0]


def file_of(images: Photos, place: int) -> decode.Encoded:
    """Return the bytes of a photo, or its pixels.

    Raises:
      UserError: it cannot be read; names it.
    """
    return images.records.read([int(images.index[place])])[0][0]
