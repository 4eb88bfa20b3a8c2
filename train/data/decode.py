"""From an encoded image to the pixels of a crop."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from train.data.resize import RESAMPLING, middle_box, scaled_sides

FORMATS = ("JPEG", "PNG", "WEBP")

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

# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]
# From (width, height) of an image to what is cut out of it.
ChooseBox = Callable[[int, int], Box]


class BadImage(ValueError):
    """The bytes are no image that can be used; the message says why."""


def random_box(width: int, height: int, random: np.random.Generator, smallest: float) -> Box:
    """Return a rectangle of random area, shape and place, as Szegedy et al. 2014 (arXiv 1409.4842, section 6) drew it.

    The area is between `smallest` (a share) and all of the image, the aspect ratio between 3/4 and 4/3. Where ten draws
    do not fit, the middle is taken, cut to those ratios.
    """
    for _ in range(10):
        area = width * height * random.uniform(smallest, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if box_width <= width and box_height <= height:
            left, top = random.uniform(0, width - box_width), random.uniform(0, height - box_height)
            return left, top, left + box_width, top + box_height
    box_width, box_height = min(width, height * 4 / 3), min(height, width * 4 / 3)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def jittered_box(width: int, height: int, random: np.random.Generator, scales: tuple[int, int], size: int) -> Box:
    """Return a square anywhere in the image that has `size` pixels where the shorter side is scaled to a random length.

    That length is one of the whole numbers from `scales[0]` to `scales[1]` (Simonyan and Zisserman 2014, section 3.1).
    """
    side = size * min(width, height) / random.integers(scales[0], scales[1] + 1)
    left, top = random.uniform(0, width - side), random.uniform(0, height - side)
    return left, top, left + side, top + side


def crop(data: bytes, choose: ChooseBox, size: int, resize: str, channels: int) -> np.ndarray:
    """Decode, cut a box out and scale it to uint8 `[size, size, channels]`.

    A photo's Exif orientation is honoured, 16 bits a channel become 8, and transparent pixels show their colour. A JPEG
    file is decoded at a half, a quarter or an eighth of its size where that leaves the box no smaller than the result.

    Args:
      data: a JPEG, PNG or WebP file.
      choose: the box, from the size of the photo as it is looked at.
      size: side of the result in pixels.
      resize: a key of `RESAMPLING`.
      channels: 1 or 3.

    Raises:
      BadImage: it is no such file, or damaged.
    """
    with _bad_image_if_damaged():
        image = _open(data)
        turn = _turn(image)
        lies = turn in _LYING
        width, height = image.size[::-1] if lies else image.size
        left, top, right, bottom = choose(width, height)
        enough = math.ceil(width * size / (right - left)), math.ceil(height * size / (bottom - top))
        image.draft(None, enough[::-1] if lies else enough)
        image = _upright(image, turn, channels)
        across, down = image.width / width, image.height / height
        # Rounding must not carry the box over the edge.
        box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
        return np.asarray(image.resize((size, size), RESAMPLING[resize], box=box)).reshape(size, size, channels)


def scaled(data: bytes, shorter: int, resize: str, channels: int) -> np.ndarray:
    """Decode, and scale so that the shorter side has so many pixels: uint8 `[H, W, channels]`.

    Otherwise as `crop`.

    Raises:
      BadImage: it is no such file, or damaged.
    """
    with _bad_image_if_damaged():
        image = _open(data)
        turn = _turn(image)
        sides = scaled_sides(*image.size, shorter)
        image.draft(None, sides)
        image = _upright(image, turn, channels)
        upright = sides[::-1] if turn in _LYING else sides
        return np.asarray(image.resize(upright, RESAMPLING[resize])).reshape(*upright[::-1], channels)


def pixels(data: bytes, channels: int) -> np.ndarray:
    """Decode all of an image to uint8 `[H, W, channels]`; orientation, depth and transparency are as in `crop`.

    Raises:
      BadImage: as `crop`.
    """
    with _bad_image_if_damaged():
        image = _open(data)
        image = _upright(image, _turn(image), channels)
        return np.asarray(image).reshape(image.height, image.width, channels)


def check(data: bytes) -> str | None:
    """Say why the bytes are no image that `crop` can use, or nothing. All of them are read, at the least resolution."""
    try:
        crop(data, middle_box, 1, "nearest", 3)
    except BadImage as error:
        return str(error)
    return None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how the image must be turned to be looked at; Exif data that cannot be read say nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever damaged Exif data make Pillow raise; the picture may be whole
        return None


def _upright(image: Image.Image, turn: Image.Transpose | None, channels: int) -> Image.Image:
    if image.mode == "I;16":  # gray; convert() would make all above 255 white
        image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    image.info.pop("transparency", None)  # of a palette's, convert() would warn that it is dropped
    image = image.convert("L" if channels == 1 else "RGB")
    return image if turn is None else image.transpose(turn)


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
    return image
