"""From the size that images in memory have to the size that a network sees."""

import numpy as np

from train.data.boxes import middle_box, scaled_sides
from train.data.resample import METHODS, resample
from train.errors import UserError

RESIZES = (*METHODS, "pad")


def scale(image: np.ndarray, shorter: int, method: str) -> np.ndarray:
    """Return uint8 `[H, W, C]`, scaled so that its shorter side has so many pixels; `method` is one of resample's."""
    height, width, _ = image.shape
    return resample(image, scaled_sides(width, height, shorter), method)


def resize(images: np.ndarray, size: int, method: str, share: float = 1.0) -> np.ndarray:
    """Return uint8 `[N, size, size, C]` of uint8 `[N, H, W, C]`.

    "pad" sets the image in the middle of zeros, as LeCun et al. 1998 did with 28x28 digits in 32x32. The others scale
    the middle square, whose side is `share` of the shorter side.

    Raises:
      UserError: "pad" cannot make an image smaller.
    """
    _, height, width, _ = images.shape
    if (height, width) == (size, size) and share == 1:
        return images
    if method == "pad":
        if max(height, width) > size:
            raise UserError(
                f"config.dataset.resize=pad: images of {height}x{width} pixels do not fit into "
                f"config.dataset.image_size={size}; choose bilinear or a larger size"
            )
        top, left = (size - height) // 2, (size - width) // 2
        return np.pad(images, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))
    box = middle_box(width, height, share, size)
    return np.stack([resample(image, (size, size), method, box) for image in images])
