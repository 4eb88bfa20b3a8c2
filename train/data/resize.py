"""From the size that images in memory have to the size that a network sees."""

import numpy as np
from PIL import Image

from train.errors import UserError

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
RESIZES = (*RESAMPLING, "pad")


def middle_box(
    width: int, height: int, share: float = 1.0, size: int | None = None
) -> tuple[float, float, float, float]:
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


def scale(image: np.ndarray, shorter: int, method: str) -> np.ndarray:
    """Return uint8 `[H, W, C]`, scaled so that its shorter side has so many pixels; `method` is of `RESAMPLING`."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    sides = scaled_sides(*picture.size, shorter)
    return np.asarray(picture.resize(sides, RESAMPLING[method])).reshape(*sides[::-1], image.shape[-1])


def resize(images: np.ndarray, size: int, method: str, share: float = 1.0) -> np.ndarray:
    """Return uint8 `[N, size, size, C]` of uint8 `[N, H, W, C]`.

    "pad" sets the image in the middle of zeros, as LeCun et al. 1998 did with 28x28 digits in 32x32. The others scale
    the middle square, whose side is `share` of the shorter side.

    Raises:
      UserError: "pad" cannot make an image smaller.
    """
    _, height, width, channels = images.shape
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
    result = np.empty((len(images), size, size, channels), np.uint8)
    for index, image in enumerate(images):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        resized = picture.resize((size, size), RESAMPLING[method], box=box)
        result[index] = np.asarray(resized).reshape(size, size, channels)
    return result
