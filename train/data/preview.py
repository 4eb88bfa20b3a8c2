"""A picture of what the training step sees: one row as read, one for each augmentation, one for all together."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from train.data import transforms
from train.data.examples import Examples
from train.data.roles import Images, Read
from train.data.stream import TrainingBatches
from train.whole import whole_file

_COLUMNS = 12
# The rows, and the keys of the section `augment` that each leaves on.
_ROWS = {
    "as read": (),
    "random crop": ("random_resized_crop", "scale_jitter"),
    "flip": ("flip",),
    "shift": ("shift",),
    "pad and crop": ("pad_and_crop",),
    "any change": ("trivial_augment",),
    "affine": ("rotate", "scale", "shear"),
    "colour noise": ("color_noise",),
    "mixed": ("mixup", "cutmix"),
}


def save(images: Images, config: ConfigDict, path: Path) -> list[str]:
    """Save the picture of the first training images as PNG; returns the names of its rows from the top.

    Augmentations that the section `augment` leaves off have no row.
    """
    from matplotlib.figure import Figure  # 0.7 s to import, wanted here alone

    first = images.take(np.arange(min(_COLUMNS, images.total)))
    sections = {
        name: ConfigDict({key: value if key in keys else type(value)() for key, value in config.augment.items()})
        for name, keys in _ROWS.items()
        if not keys or any(config.augment[key] for key in keys)
    }
    sections["all together"] = config.augment
    figure = Figure(figsize=(_COLUMNS * 0.8 + 1.2, len(sections) * 0.85), layout="constrained")
    axes = figure.subplots(len(sections), first.total, squeeze=False)
    for row, (name, section) in zip(axes, sections.items(), strict=True):
        pixels, key = jnp.asarray(_decoded(first, config, section).images), jax.random.key(config.seed)
        batch = transforms.augment(key, pixels, section, config.dataset)
        if section.mixup or section.cutmix:
            batch, _ = transforms.mix(key, batch, jnp.zeros((first.total, 1)), section.mixup, section.cutmix)
        pictures = np.asarray(jnp.clip(batch, 0, 255)).astype(np.uint8)
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=100)
    return list(sections)


def _decoded(images: Read, config: ConfigDict, section: ConfigDict) -> Examples:
    if isinstance(images, Examples):
        return images
    whole = config.copy_and_resolve_references()
    whole.augment.update(random_resized_crop=section.random_resized_crop, scale_jitter=section.scale_jitter)
    return TrainingBatches(images, whole).crops(np.arange(images.total), 0)
