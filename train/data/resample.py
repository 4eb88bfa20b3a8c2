"""Part of an image, scaled to so many pixels: by C++ of ours where there is a compiler, or else by Pillow.

Both give the same bytes, with one exception: where an image loses far more of its height than of its width, Pillow goes
along columns first since its version 13, and a value may be off by what is rounded in between.
"""

import ctypes
import functools
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from train import compiler
from train.data.boxes import Box

METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_SOURCE = Path(__file__).with_suffix(".cc")
_CUBIC = {"bilinear": 0, "bicubic": 1}
_ONE_AT_A_TIME = threading.Lock()


def resample(
    image: np.ndarray, sides: tuple[int, int], method: str, box: Box | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Return uint8 `[height, width, C]`: the box of an image, scaled.

    As in Pillow, what a pixel of the result covers is averaged, so that small results show no moiré.

    Args:
      image: uint8 `[H, W, C]`, of 1 or 3 channels.
      sides: width and height of the result.
      method: a key of `METHODS`.
      box: left, top, right and bottom in pixels, inside the image; by default all of it.
      out: where the result is written, if not into a new array; contiguous.
    """
    height, width, channels = image.shape
    box = box or (0, 0, width, height)
    with _ONE_AT_A_TIME:  # of the threads that come first, one compiles
        kernel = _kernel()
    if method in _CUBIC and kernel is not None:
        image = np.ascontiguousarray(image)
        result = np.empty((sides[1], sides[0], channels), np.uint8) if out is None else out
        places = image.ctypes.data, result.ctypes.data
        kernel(places[0], height, width, channels, *box, _CUBIC[method], places[1], sides[1], sides[0])
        return result
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    found = np.asarray(picture.resize(sides, METHODS[method], box=box)).reshape(sides[1], sides[0], channels)
    if out is None:
        return found
    out[...] = found
    return out


@functools.cache
def _kernel() -> "ctypes._FuncPointer | None":
    """Return the C++ function; None where it cannot be built, of which one line on stderr says why."""
    try:
        function = compiler.loaded("resample", [_SOURCE]).oldmasters_resample
    except (OSError, subprocess.SubprocessError) as error:
        if multiprocessing.parent_process() is None:  # the process that a worker is of has said it
            print(f"Pillow scales images, a third as fast: {compiler.reason(error)}", file=sys.stderr)
        return None
    number, place, real = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
    function.argtypes = [place, *[number] * 3, *[real] * 4, ctypes.c_int32, place, *[number] * 2]
    function.restype = None
    return function
