"""What is cut out of an image: its middle, or somewhere at random."""

import math
from collections.abc import Callable

import numpy as np

# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]
# From (width, height) of an image to what is cut out of it.
ChooseBox = Callable[[int, int], Box]


def middle_box(width: int, height: int, share: float = 1.0, size: int | None = None) -> Box:
    """Return left, top, right and bottom of the square in the middle whose side is a share of the shorter side.

    With the size that the square will have, it is the one that torchvision prepares for its weights: as if the image
    were scaled first, to whole pixels, and `size` of them in the middle cut out then.
    """
    if size is None:
        side = min(width, height) * share
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side
    shorter = round(size / share)  # 256 where 224 are cut out of it
    scaled_width, scaled_height = scaled_sides(width, height, shorter)

    def edges(length: int, scaled: int) -> tuple[float, float]:
        pixel = length / scaled  # of the scaled image, in pixels of this one
        first = round((scaled - size) / 2) * pixel
        return first, first + size * pixel

    (left, right), (top, bottom) = edges(width, scaled_width), edges(height, scaled_height)
    return left, top, right, bottom


def scaled_sides(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Return the sides of an image whose shorter one is scaled to so many pixels, as torchvision rounds the longer."""
    return shorter * width // min(width, height), shorter * height // min(width, height)


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
