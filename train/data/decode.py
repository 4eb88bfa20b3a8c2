"""From an encoded image to the pixels of a crop.

JPEG files, which most are, are decoded by simplejpeg where it is installed and knows their colours: by libjpeg-turbo,
as in Pillow, so to the same pixels, but in one call and outside of Python's lock. All others are Pillow's.
"""

import contextlib
import io
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError

from train.data.boxes import ChooseBox, middle_box, scaled_sides
from train.data.resample import resample

try:
    import simplejpeg
except ImportError:  # no wheel for this machine
    simplejpeg = None

FORMATS = ("JPEG", "PNG", "WEBP")
# Whose word it is that a file can be decoded.
DECODERS = f"Pillow {PIL.__version__}, simplejpeg {simplejpeg and simplejpeg.__version__}"

# Exif's orientation (tag 0x0112, values of the TIFF 6.0 specification) as what undoes it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))

# How simplejpeg and Pillow call the same colours. The four inks of CMYK are left to Pillow.
_COLOURS, _MODES = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}, {"RGB": "RGB", "L": "GRAY"}
# Markers of JPEG's segments (ITU-T T.81, table B.1): APP1, where Exif and XMP say how a photo was held; start of scan.
_APP1, _SCAN = 0xE1, 0xDA
# libjpeg's cheap scales. Of sides below the greatest, several scales make the same.
_SCALES = (8, 4, 2, 1)

# What a small file could claim: a bound of pixels, which are some 20 bytes each while PNG and WebP files are decoded,
# and of those that all scans of a JPEG file go through, some 1 ns each. JPEG files have Pillow's own bound of pixels.
_MOST_PIXELS, _MOST_SCANNED = 2**26, 2**30
# Photos that are decoded to more pixels, or have more than _MOST_PIXELS, wait for each other, in whatever threads.
_LARGE, _one_large = 2**24, threading.Lock()
# Bytes of a file: 67 million pixels of three colours, stored as they are, and some room.
_LARGEST_FILE = 2**28
# Of Exif data that are damaged, of large photos: whether a file can be used is said here, and on one line.
warnings.filterwarnings("ignore", module=r"PIL\.")
# What begins a segment of a JPEG file, or ends it: no stuffed byte, nor where a scan may be restarted, nor what stands
# for itself. A camera's file has some tens of segments, one with many scans some hundreds.
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])")
_ENDS, _MOST_SEGMENTS = 0xD9, 2**14


# A JPEG, PNG or WebP file, or its pixels, uint8 `[H, W, 1 or 3]`, where it was decoded before.
Encoded = bytes | np.ndarray


class BadImage(ValueError):
    """The bytes are no image that can be used; the message says why."""


def crop(
    data: Encoded, choose: ChooseBox, size: int, resize: str, channels: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Decode, cut a box out and scale it to uint8 `[size, size, channels]`.

    A photo's Exif orientation is honoured, 16 bits a channel become 8, and transparent pixels show their colour. A JPEG
    file is decoded at a half, a quarter or an eighth of its size where that leaves the box no smaller than the result.

    Args:
      data: a JPEG, PNG or WebP file, or its pixels.
      choose: the box, from the size of the photo as it is looked at.
      size: side of the result in pixels.
      resize: a key of `resample.METHODS`.
      channels: 1 or 3.
      out: where the result is written, if not into a new array; contiguous.

    Raises:
      BadImage: it is no such file, or damaged.
    """
    with _bad_image_if_damaged():
        encoded = _opened(data)
        width, height = encoded.size
        left, top, right, bottom = choose(width, height)
        enough = math.ceil(width * size / (right - left)), math.ceil(height * size / (bottom - top))
        found = encoded.pixels(channels, enough)
        across, down = found.shape[1] / width, found.shape[0] / height
        # Rounding must not carry the box over the edge.
        box = (left * across, top * down, min(right * across, found.shape[1]), min(bottom * down, found.shape[0]))
        return resample(found, (size, size), resize, box, out)


def scaled(data: Encoded, shorter: int, resize: str, channels: int) -> np.ndarray:
    """Decode, and scale so that the shorter side has so many pixels: uint8 `[H, W, channels]`.

    Otherwise as `crop`.

    Raises:
      BadImage: it is no such file, or damaged.
    """
    with _bad_image_if_damaged():
        encoded = _opened(data)
        sides = scaled_sides(*encoded.size, shorter)
        return resample(encoded.pixels(channels, sides), sides, resize)


def pixels(data: Encoded, channels: int) -> np.ndarray:
    """Decode all of an image to uint8 `[H, W, channels]`; orientation, depth and transparency are as in `crop`.

    Raises:
      BadImage: as `crop`.
    """
    with _bad_image_if_damaged():
        encoded = _opened(data)
        return encoded.pixels(channels, encoded.size)


def read(file: BinaryIO) -> bytes:
    """Return what an image file holds, of whatever kind it may be: a film in a folder of photos is not read.

    Raises:
      BadImage: it has more than an image would.
    """
    status = os.fstat(file.fileno())
    most = status.st_size if stat.S_ISREG(status.st_mode) else _LARGEST_FILE
    if most > _LARGEST_FILE or len(data := file.read(most + 1)) > _LARGEST_FILE:
        raise BadImage(f"has more than {_LARGEST_FILE:,} bytes; take it away, or save it smaller")
    return data


def check(data: bytes) -> str | None:
    """Say why the bytes are no image that `crop` can use, or nothing. All of them are read, at the least resolution."""
    try:
        crop(data, middle_box, 1, "nearest", 3)
    except BadImage as error:
        return str(error)
    return None


def _opened(data: Encoded) -> "_Pixels | _File":
    return _Pixels(data) if isinstance(data, np.ndarray) else _File(data)


class _Pixels:
    """An image that has been decoded before."""

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self.size: tuple[int, int] = (image.shape[1], image.shape[0])

    def pixels(self, channels: int, enough: tuple[int, int]) -> np.ndarray:
        """Return uint8 `[H, W, channels]`."""
        if self._image.shape[-1] == channels:
            return self._image
        return _upright(Image.fromarray(self._image.squeeze(-1) if channels == 3 else self._image), None, channels)


class _File:
    """An image of which the header has been read.

    Attributes:
      size: width and height, as it is looked at.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._image, self._turn = None, None
        self._sides, self._mode = _plain_jpeg(data)
        if self._mode is None:
            self._image = _open(data)
            self._turn = _turn(self._image)
            self._sides = self._image.size
            if simplejpeg is not None and self._image.format in ("JPEG", "MPO") and min(self._sides) >= _SCALES[0]:
                self._mode = _MODES.get(self._image.mode)
        _hold_scans(data, math.prod(self._sides))
        self.size: tuple[int, int] = self._sides[::-1] if self._turn in _LYING else self._sides

    def pixels(self, channels: int, enough: tuple[int, int]) -> np.ndarray:
        """Return uint8 `[H, W, channels]`, of a JPEG file as small as is cheap and not below the size `enough`."""
        (width, height), least = self._sides, enough[::-1] if self._turn in _LYING else enough
        if self._mode is not None:
            scale = next(s for s in _SCALES if s == 1 or min(width // least[0], height // least[1]) >= s)
            sides = {"min_width": -(-width // scale), "min_height": -(-height // scale)} if scale > 1 else {}
            # Damaged, or odd: Pillow knows whether it can be used, and says why.
            with contextlib.suppress(ValueError), _in_turn(width * height, width * height // scale**2):
                found = simplejpeg.decode_jpeg(self._data, self._mode, **sides)
                if found.shape[-1] == channels and self._turn is None:
                    return found
                picture = Image.fromarray(found[..., 0] if found.shape[-1] == 1 else found)
                return _upright(picture, self._turn, channels)
        image = self._image or _open(self._data)
        image.draft(None, least)
        with _in_turn(width * height, math.prod(image.size)):
            return _upright(image, self._turn, channels)


def _plain_jpeg(data: bytes) -> tuple[tuple[int, int], str | None]:
    """Return the sides of a JPEG file and what it is decoded to; without that where Pillow must look at its header."""
    try:
        if simplejpeg is None or not data.startswith(b"\xff\xd8\xff") or _APP1 in _segments(data):
            return (0, 0), None
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, IndexError):
        return (0, 0), None
    odd = min(width, height) < _SCALES[0] or width * height > (Image.MAX_IMAGE_PIXELS or 0)
    return (width, height), None if odd else _COLOURS.get(colours)


def _segments(data: bytes) -> Iterator[int]:
    """Yield the markers of a JPEG file's segments up to the first scan.

    Raises:
      IndexError: there is none.
      ValueError: what should be a marker is none.
    """
    place = 2
    while (marker := data[place + 1]) != _SCAN:
        if data[place] != 0xFF:
            raise ValueError("no marker")
        yield marker
        place += 2 + (data[place + 2] << 8) + data[place + 3]


def _in_turn(pixels: int, decoded: int) -> contextlib.AbstractContextManager[object]:
    """Return what waits for other threads before an image is decoded that takes much memory."""
    return _one_large if pixels > _MOST_PIXELS or decoded > _LARGE else contextlib.nullcontext()


def _hold_scans(data: bytes, pixels: int) -> None:
    """Refuse a JPEG file whose scans go through its pixels too often: each takes ten bytes, and as long as the first.

    Of a file whose first scan has all of its colours at once, and all of each, no other scan is read.
    """
    if not data.startswith(b"\xff\xd8"):
        return
    scans = colours = progressive = segments = 0
    place = 2
    while scans * pixels <= _MOST_SCANNED and (found := _MARKER.search(data, place)) and found[1][0] != _ENDS:
        marker, place = found[1][0], found.end()
        if (segments := segments + 1) > _MOST_SEGMENTS:
            raise BadImage(f"has more than {_MOST_SEGMENTS:,} segments; save it again as a plain JPEG file")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's header
            progressive, colours = marker & 2, data[place + 7] if place + 7 < len(data) else 0
        if marker == _SCAN:
            scans += 1
            if not progressive and data[place + 2 : place + 3] == bytes([colours]):
                return
        place += int.from_bytes(data[place : place + 2])
    if scans * pixels > _MOST_SCANNED:
        raise BadImage(f"has too many scans for its {pixels:,} pixels; save it again as a plain JPEG file")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how the image must be turned to be looked at; Exif data that cannot be read say nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever damaged Exif data make Pillow raise; the picture may be whole
        return None


def _upright(image: Image.Image, turn: Image.Transpose | None, channels: int) -> np.ndarray:
    """Return uint8 `[H, W, channels]`, turned so as it is looked at."""
    if image.mode == "I;16":  # gray; convert() would make all above 255 white
        image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # of a palette's, convert() would warn that it is dropped
    if image.mode != (mode := "L" if channels == 1 else "RGB"):  # else convert() would copy it
        image = image.convert(mode)
    upright = image if turn is None else image.transpose(turn)
    return np.asarray(upright).reshape(upright.height, upright.width, channels)


@contextlib.contextmanager
def _bad_image_if_damaged() -> Iterator[None]:
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise BadImage(f"cannot be decoded ({error})") from error


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        kind = "is a GIF" if data.startswith(b"GIF8") else "is none of them" if data else "is empty"
        raise BadImage(f"must be a JPEG, PNG or WebP image, {kind}") from None
    # Cameras write several pictures into one JPEG file (MPO), of which the first is the photo.
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise BadImage("is an animation; save one of its pictures")
    if image.format in ("PNG", "WEBP") and math.prod(image.size) > _MOST_PIXELS:
        size = f"{image.width:,} x {image.height:,} pixels"
        raise BadImage(f"has {size}; of PNG and WebP files, which are decoded whole, at most {_MOST_PIXELS:,} are read")
    return image
