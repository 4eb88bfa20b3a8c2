"""What excites a unit most: over a set of images, the parts that it sees where its activation is largest.

Zeiler and Fergus 2014 (arXiv 1311.2901, section 4, the right halves of figure 2); Girshick et al. 2014 (arXiv
1311.2524, section 3.1). The largest activation of an image stands for it, so that no image comes twice.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from models.geometry import Fields
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.resize import resize
from train.data.roles import Origin, Read
from train.data.sources import read
from train.errors import UserError
from train.explaining.attribution import Score
from train.feed import AHEAD, batches_in_order


class Box(NamedTuple):
    """A rectangle of an image, in pixels; `bottom` and `right` are no more in it."""

    top: int
    left: int
    bottom: int
    right: int


class Patch(NamedTuple):
    """What a unit sees at the place of an image where its activation is largest.

    Attributes:
      id: of the image in its source.
      activation: of the unit.
      box: what it sees, as far as it is in the image.
      pixels: uint8 `[H, W, C]`.
    """

    id: str
    activation: float
    box: Box
    pixels: np.ndarray


class Searched(NamedTuple):
    """Images of a source.

    Attributes:
      source: its URI.
      images: at the size that the network sees, or photos.
      ids: what each is called.
      split: of the source, as it calls it.
    """

    source: str
    images: Read
    ids: list[str]
    split: str


def box(fields: Fields, place: tuple[int, int], side: int) -> Box:
    """Return what a unit of a map sees of an image, without what is padding.

    Args:
      fields: receptive fields of the map's units, down and across.
      place: of the unit, row and column of the map.
      side: of the image, in pixels.
    """
    (top, bottom), (left, right) = (
        (max(0, first), min(side, first + field.size))
        for field, at in zip(fields, place, strict=True)
        for first in (field.offset + field.stride * at,)
    )
    return Box(top, left, bottom, right)


def searched(uri: str, config: ConfigDict, most: int) -> Searched:
    """Return a source's test images, or else its val, or else all it has: whatever their class, any may excite a unit.

    Args:
      uri: of the source.
      config: the completed section `dataset` of the run, by which the images are prepared.
      most: of more images, so many are taken, evenly spread.

    Raises:
      UserError: the source cannot be read, or its images are not for this network.
    """
    splits = read(uri, config).splits
    split = next(name for name in ("test", "validation", "train") if name in splits)
    whole = Origin.all_of(split, splits[split])
    chosen = whole.take(np.arange(min(most, whole.total)) * whole.total // min(most, whole.total))
    images = chosen.chosen()
    if isinstance(images, Photos):
        if config.resize == "pad":
            raise UserError(
                f"{uri}: holds photos of any size, and the images of this run were padded, not scaled; name the "
                "--source of the run"
            )
        return Searched(uri, replace(images, channels=config.channels), chosen.ids(), split)
    if (channels := images.images.shape[-1]) != config.channels:
        raise UserError(
            f"{uri}: its images have {channels} channels, those of this run {config.channels}; name a --source that "
            "has as many"
        )
    pixels = resize(images.images, config.image_size, config.resize, config.crop)
    return Searched(uri, Examples(pixels, images.labels), chosen.ids(), split)


@jax.jit
def _largest(maps: Score, unit: int, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return of each image the largest activation of a unit, and where it is in the map, row by row."""
    of_unit = maps(images)[..., unit].reshape(len(images), -1)
    return of_unit.max(-1), of_unit.argmax(-1)


def strongest(
    maps: Score, unit: int, fields: Fields, images: Searched, config: ConfigDict, mesh: Mesh, count: int
) -> list[Patch]:
    """Return the patches that excite a unit most, the strongest first.

    Args:
      maps: from images to the stage's activations `[B, h, w, K]`.
      unit: of the K.
      fields: of the stage.
      images: that are searched.
      config: the completed config of the run.
      mesh: of devices, which share each batch.
      count: of patches; with fewer images, as many.

    Raises:
      UserError: a photo cannot be read or decoded; names it.
    """
    each = mesh.size
    total = images.images.total
    batches = partial(batches_in_order, config=config, mesh=mesh)
    parts: list[tuple[jax.Array, jax.Array]] = []
    for batch, _ in batches(images.images, batch_size=-(-min(config.evaluate.batch_size, total) // each) * each):
        parts.append(_largest(maps, unit, batch.images))
        jax.block_until_ready(parts[-AHEAD:][0])
    activations, flat = (np.concatenate(part)[:total] for part in zip(*jax.device_get(parts), strict=True))
    best = np.argsort(-activations, kind="stable")[:count]
    ((shown, _),) = batches(images.images.take(best), batch_size=-(-len(best) // each) * each)
    side = config.dataset.image_size
    width = jax.eval_shape(maps, shown.images).shape[2]
    patches = []
    for image, pixels in zip(best.tolist(), np.asarray(shown.images), strict=False):
        seen = box(fields, divmod(int(flat[image]), width), side)
        cut = pixels[seen.top : seen.bottom, seen.left : seen.right]
        patches.append(Patch(images.ids[image], float(activations[image]), seen, cut))
    return patches
