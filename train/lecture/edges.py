"""Filters that people designed, on a photo: what a network's first layer learns by itself."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from train.data import decode
from train.errors import UserError
from train.lecture.examples import Example, convolve

# As in Gonzalez and Woods, "Digital Image Processing". Weights add up to 0 or to 1.
KERNELS: Mapping[str, np.ndarray] = {
    "sobel, left to right": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "sobel, top to bottom": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "prewitt, left to right": np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]),
    "prewitt, top to bottom": np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]]),
    "laplacian": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "blur": np.full((7, 7), 1 / 49),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
}


def read(path: str | None) -> np.ndarray:
    """Return a photo in gray, `[H, W]`, 0..255; without a path, one of a temple that comes with scikit-learn.

    Raises:
      UserError: there is no such photo, or it cannot be decoded.
    """
    if path is None:
        from sklearn.datasets import load_sample_image  # here alone, for it takes a second

        red, green, blue = np.moveaxis(load_sample_image("china.jpg").astype(np.float32), -1, 0)
        return 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601, as in Pillow
    file = Path(path).expanduser()
    try:
        with file.open("rb") as content:
            return decode.pixels(decode.read(content), 1)[..., 0].astype(np.float32)
    except OSError as error:
        raise UserError(f"--image={path}: {error.strerror}; name a JPEG, PNG or WebP file") from error
    except decode.BadImage as error:
        raise UserError(f"--image={path}: {error}; name another") from error


def edges(photo: np.ndarray, name: str) -> Example:
    """Return what each filter makes of a photo in gray, `[H, W]`, 7x7 pixels or more.

    Raises:
      UserError: the photo is smaller than that.
    """
    if min(photo.shape) < 7:
        raise UserError(f"{name}: is {photo.shape[1]}x{photo.shape[0]} pixels; take a photo of 7x7 or more")
    maps = {kernel: convolve(photo, weights) for kernel, weights in KERNELS.items()}
    ranges = {kernel: {"least": float(found.min()), "largest": float(found.max())} for kernel, found in maps.items()}
    steps = [
        f"{kernel}: {' | '.join(' '.join(f'{weight:.3g}' for weight in row) for row in KERNELS[kernel])}; "
        f"from {found['least']:.0f} to {found['largest']:.0f}"
        if KERNELS[kernel].shape == (3, 3)
        else f"{kernel}: the mean of 7x7 pixels; from {found['least']:.0f} to {found['largest']:.0f}"
        for kernel, found in ranges.items()
    ]
    notes = [
        "Weights that add up to 0 answer to changes, and are gray (0) where nothing changes; weights that add up to 1 "
        "keep the brightness.",
        "A convolutional network learns such weights from images.",
    ]
    return Example(
        "Filters for edges, blur and sharpness",
        {"image": name, "height": photo.shape[0], "width": photo.shape[1]},
        dict(KERNELS),
        ranges,
        [(name, photo), *maps.items()],
        steps,
        notes,
    )
