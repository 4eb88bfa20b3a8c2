"""What of an image a trained network is shown: one crop, several, or all of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.errors import UserError

# From an image uint8 `[H, W, C]` and the side of what the network was made for to views uint8 `[V, h, w, C]`.
Cut = Callable[[np.ndarray, int], np.ndarray]

# Pixels of the shorter side of an image, whoever asks for it.
LARGEST = 2**14


class Look(NamedTuple):
    """An image at one size, as the network is shown it. What it answers to the views of all looks is averaged.

    Attributes:
      shorter: what the shorter side of the image is scaled to, in pixels.
      cut: the views.
      dense: whether views are whole images, of any size, with an answer for every place.
    """

    shorter: int
    cut: Cut
    dense: bool = False


def _with_mirrored(views: list[np.ndarray]) -> np.ndarray:
    return np.stack([*views, *(view[:, ::-1] for view in views)])


def middle(image: np.ndarray, size: int) -> np.ndarray:
    """Return the square in the middle, `[1, size, size, C]`, as torchvision's CenterCrop places it."""
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return image[np.newaxis, top : top + size, left : left + size]


def ten(image: np.ndarray, size: int) -> np.ndarray:
    """Return the corners and the middle of the square in the middle, and these mirrored, `[10, size, size, C]`.

    Krizhevsky et al. 2012, section 4.1, where that square has 256 pixels and the crops have 224.
    """
    (square,) = middle(image, min(image.shape[:2]))
    far = len(square) - size
    corners = [(0, 0), (0, far), (far, 0), (far, far)]
    views = [square[top : top + size, left : left + size] for top, left in corners]
    return _with_mirrored([*views, *middle(square, size)])


def grid(image: np.ndarray, size: int, places: int = 5) -> np.ndarray:
    """Return crops at `places` x `places` evenly spaced places over all of the image, and these mirrored.

    Simonyan and Zisserman 2014, section 3.2: 5 x 5 places, with mirrored ones 50 crops at each of three sizes.
    """
    rows, columns = (np.linspace(0, side - size, places).round().astype(int) for side in image.shape[:2])
    return _with_mirrored([image[row : row + size, column : column + size] for row in rows for column in columns])


def whole(image: np.ndarray, size: int) -> np.ndarray:
    """Return the image and its mirror image, `[2, H, W, C]`."""
    return _with_mirrored([image])


# What each looks at, and at how many sizes.
PROTOCOLS: Mapping[str, tuple[Callable[..., Look], int]] = {
    "center": (partial(Look, cut=middle), 1),
    "ten_crop": (partial(Look, cut=ten), 1),
    "multi_crop": (partial(Look, cut=grid), 3),
    "dense": (partial(Look, cut=whole, dense=True), 1),
    "multi_scale": (partial(Look, cut=whole, dense=True), 3),
}


def looks_of(protocol: str, config: ConfigDict) -> tuple[Look, ...]:
    """Return the looks of a key of `PROTOCOLS`.

    At one size the shorter side is config.dataset.image_size over config.dataset.crop: 256 pixels where a crop has 224;
    where training varied it (config.augment.scale_jitter), the middle of that range. At three it is that, and 32 in 224
    pixels less and more, or the ends of the range. These are the sizes of Simonyan and Zisserman 2014, section 4.
    config.evaluate.scales sets them all.

    Raises:
      UserError: config.evaluate.scales are as many as the protocol does not take, too small or too large.
    """
    make, count = PROTOCOLS[protocol]
    size, scales = config.dataset.image_size, config.evaluate.scales
    if scales is None:
        once, step = round(size / config.dataset.crop), round(size / 7)
        least, most = config.augment.scale_jitter or (max(size, once - step), once + step)
        middle_scale = round((least + most) / 2) if config.augment.scale_jitter else once
        scales = (middle_scale,) if count == 1 else (least, middle_scale, most)
    elif len(scales) != count:
        takes = "one size" if count == 1 else f"{count} sizes"
        raise UserError(f"config.evaluate.scales={scales}: the protocol {protocol} looks at {takes} of each image")
    if max(scales) > LARGEST:
        raise UserError(f"config.evaluate.scales={scales}: must be at most {LARGEST:,} pixels")
    if min(scales) < size:
        raise UserError(f"config.evaluate.scales={scales}: must be {size} or more (config.dataset.image_size)")
    return tuple(make(scale) for scale in scales)
