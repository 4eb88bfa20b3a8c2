"""A map of what counts, laid over the image."""

import io

import numpy as np
from PIL import Image

from models.geometry import Fields

# From weak to strong: what speaks for, what speaks against, and what has no side.
RED = np.array([(255, 200, 90), (235, 75, 40), (150, 0, 30)])
BLUE = np.array([(120, 200, 240), (40, 110, 210), (20, 30, 120)])
VIOLET = np.array([(215, 165, 235), (150, 60, 200), (75, 0, 110)])
# Images that are smaller are shown with larger pixels.
_SHOWN = 336
# The share of pixels whose strength is not told apart: a few outliers would leave the rest without colour.
_OUTLIERS = 0.5 / 100


def spread(values: np.ndarray, fields: Fields, side: int) -> np.ndarray:
    """Return a map `[h, w]` at the size of the image, `[side, side]`.

    Each value stands at the middle of what its unit sees, which is not what stretching the map would make of it: maps
    lose their edges where nothing is padded. In between it is linear, and beyond the outermost middles constant.

    Args:
      values: of the map.
      fields: the receptive fields of its units, down and across.
      side: of the image, in pixels.
    """
    for axis, (field, count) in enumerate(zip(fields, values.shape, strict=True)):
        middles = field.offset + (field.size - 1) / 2 + field.stride * np.arange(count)
        shares = np.stack([np.interp(np.arange(side), middles, one) for one in np.eye(count)], 1)  # [side, count]
        values = np.moveaxis(np.tensordot(shares, values, (1, axis)), 0, axis)
    return values


def peak(values: np.ndarray) -> tuple[int, int]:
    """Return row and column of the largest value of `[H, W]`; of several the one nearest to the middle.

    Beyond the outermost middles a spread map is constant, and what is largest there belongs to the middle.
    """
    largest = np.argwhere(values == values.max())
    distances = np.abs(largest - (np.array(values.shape) - 1) / 2).sum(-1)
    row, column = largest[distances.argmin()].tolist()
    return row, column


def lay(values: np.ndarray, image: np.ndarray, positive: np.ndarray = RED) -> np.ndarray:
    """Return the image in pale gray with the values over it, uint8 `[H', W', 3]`, larger by a whole factor.

    Args:
      values: `[H, W]`.
      image: uint8 `[H, W, C]`, of 1 or 3 channels.
      positive: the colours of positive values, `[places, 3]`, from weak to strong; negative ones are blue.
    """
    size = np.abs(values)
    most = np.quantile(size, 1 - _OUTLIERS) or size.max() or 1.0
    strength = np.minimum(size / most, 1)
    gray = 255 - 0.45 * (255 - image.mean(-1, keepdims=True))
    colour = np.where(values[..., None] > 0, _between(positive, strength), _between(BLUE, strength))
    opacity = 0.9 * strength[..., None]
    return enlarged((gray * (1 - opacity) + colour * opacity).round().astype(np.uint8))


def _between(colours: np.ndarray, strength: np.ndarray) -> np.ndarray:
    places = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(strength, places, channel) for channel in colours.T], -1)


def enlarged(image: np.ndarray) -> np.ndarray:
    """Return an image `[H, W, C]` with each pixel repeated until it can be seen."""
    factor = max(1, round(_SHOWN / max(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def png(image: np.ndarray) -> bytes:
    """Return an image uint8 `[H, W, C]` of 1 or 3 channels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "png", optimize=True)
    return file.getvalue()
