"""Single images of a set, small enough to be shown."""

import numpy as np
from PIL import Image

from train.data import decode
from train.data.boxes import Box
from train.data.photos import Photos
from train.data.roles import Read
from train.errors import AGAIN, UserError


def picture(images: Read, place: int, side: int = 200) -> np.ndarray:
    """Return one image with its own proportions, uint8 `[H, W, C]`, H and W being at most `side`.

    Of photos, all is shown, also what the network's middle crop leaves out.

    Raises:
      UserError: a photo cannot be read or decoded any more; names it.
    """
    if isinstance(images, Photos):
        index = int(images.index[place])
        ((data, _),) = images.records.read([index])
        size = [side, side]

        def whole(width: int, height: int) -> Box:
            size[:] = _within(width, height, side)
            return 0, 0, width, height

        try:
            image = decode.crop(data, whole, side, "bilinear", images.channels)  # decoded at a part of its size
        except decode.BadImage as error:
            raise UserError(f"{images.records.name(index)}: {error}; replace it, and {AGAIN}") from error
    else:
        image = images.images[place]
        height, width, _ = image.shape
        size = list(_within(width, height, side))
        if max(width, height) <= side:
            return image
    scaled = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize((size[0], size[1]))
    return np.asarray(scaled).reshape(size[1], size[0], image.shape[-1])


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
