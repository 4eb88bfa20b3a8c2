"""Each operation against Pillow's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.train.report.photos import scene
from train.data.trivial_augment import OPERATIONS, changed, trivial_augment

WIDTH, HEIGHT = 96, 72


def affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST)


# By operation, Pillow's result for a share of the largest amount with its sign.
PILLOW = {
    "identity": lambda image, amount: image,
    "shear_x": lambda image, amount: affine(image, 1, 0.99 * amount, 0, 0, 1, 0),
    "shear_y": lambda image, amount: affine(image, 1, 0, 0, 0.99 * amount, 1, 0),
    "translate_x": lambda image, amount: affine(image, 1, 0, 32 * amount, 0, 1, 0),
    "translate_y": lambda image, amount: affine(image, 1, 0, 0, 0, 1, 32 * amount),
    "rotate": lambda image, amount: image.rotate(135 * amount),
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + 0.99 * amount),
    "color": lambda image, amount: ImageEnhance.Color(image).enhance(1 + 0.99 * amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + 0.99 * amount),
    "sharpness": lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + 0.99 * amount),
    "posterize": lambda image, amount: ImageOps.posterize(image, 8 - round(abs(amount) * 6)),
    "solarize": lambda image, amount: ImageOps.solarize(image, 255 * (1 - abs(amount))),
    "autocontrast": lambda image, amount: ImageOps.autocontrast(image),
    "equalize": lambda image, amount: ImageOps.equalize(image),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("step", "sign"), [(0, 1), (7, -1), (16, 1), (25, -1), (30, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_as_pillow_does_it(name: str, step: int, sign: int, mode: str) -> None:
    picture = scene(3, WIDTH, HEIGHT).convert(mode)
    image = np.asarray(picture).reshape(HEIGHT, WIDTH, -1)
    ours = changed(jnp.asarray(image), jnp.int32(OPERATIONS.index(name)), jnp.float32(step / 30), jnp.float32(sign))
    theirs = np.asarray(PILLOW[name](picture, sign * step / 30)).reshape(image.shape)
    apart = np.abs(np.asarray(ours, int) - theirs)
    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        assert (apart > 0).mean() < 0.01  # a pixel whose source lies on an edge may come from either side
    else:
        assert apart.max() <= 1


def test_each_image_is_changed_by_itself() -> None:
    image = np.asarray(scene(1, 32, 32))
    images = jnp.asarray(np.stack([image] * 200))
    out = np.asarray(trivial_augment(jax.random.key(0), images))
    assert out.dtype == np.uint8
    kinds = {array.tobytes() for array in out}
    assert len(kinds) > 100
    again = trivial_augment(jax.random.key(0), images)
    np.testing.assert_array_equal(out, again)


def test_every_operation_and_amount_occurs() -> None:
    image = np.asarray(scene(1, 16, 16))
    seen = {
        jnp.asarray(changed(jnp.asarray(image), jnp.int32(which), jnp.float32(step / 30), jnp.float32(1))).tobytes()
        for which in range(len(OPERATIONS))
        for step in (0, 15, 30)
    }
    out = trivial_augment(jax.random.key(1), jnp.asarray(np.stack([image] * 3000)))
    drawn = {array.tobytes() for array in np.asarray(out)}
    assert len(seen - drawn) <= 1
