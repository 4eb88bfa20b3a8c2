from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import ndimage

from configs import base
from train.data import preview, transforms
from train.data.examples import Examples
from train.weights.published import PREPROCESSINGS


@pytest.fixture
def images() -> jax.Array:
    return jax.random.randint(jax.random.key(3), (64, 9, 9, 2), 1, 256).astype(jnp.uint8)


def test_flip_mirrors_about_half_and_changes_nothing_else(images: jax.Array) -> None:
    flipped = np.asarray(transforms.flip(jax.random.key(0), images))
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(flipped, images, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 16 <= sum(mirrored) <= 48


def moves(moved: jax.Array, images: jax.Array, border: str, pixels: int) -> set[tuple[int, int]]:
    """Which (down, right) displacement each image shows; fails where none fits."""
    shown = set()
    for new, old in zip(np.asarray(moved), np.asarray(images), strict=True):
        padded = np.pad(old, ((pixels, pixels), (pixels, pixels), (0, 0)), mode=border)
        fits = [
            (pixels - top, pixels - left)
            for top in range(2 * pixels + 1)
            for left in range(2 * pixels + 1)
            if np.array_equal(new, padded[top : top + 9, left : left + 9])
        ]
        assert len(fits) == 1
        shown |= set(fits)
    return shown


def test_shift_moves_by_whole_pixels_in_all_directions(images: jax.Array) -> None:
    moved = transforms.shift(jax.random.key(0), images, 1)
    assert moves(moved, images, "constant", 1) == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}


def test_pad_and_crop_mirrors_the_border(images: jax.Array) -> None:
    moved = transforms.pad_and_crop(jax.random.key(0), images, 2)
    assert len(moves(moved, images, "reflect", 2)) > 15


def test_affine_by_nothing_is_nothing(images: jax.Array) -> None:
    x = images.astype(jnp.float32)
    np.testing.assert_allclose(transforms.affine(jax.random.key(0), x, 0.0, 0.0, 0.0), x, atol=1e-3)


@pytest.mark.parametrize("amounts", [(30.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.3), (15.0, 0.1, 0.1)])
def test_affine_is_scipys_of_some_matrix_within_the_amounts(amounts: tuple[float, float, float]) -> None:
    # The drawn map is read off the images of two ramps, then SciPy applies it to a picture.
    rotate, scale, shear = amounts
    size, count = 33, 8
    ramp = jnp.arange(size, dtype=jnp.float32)
    rows, columns = jnp.meshgrid(ramp, ramp, indexing="ij")
    picture = jnp.asarray(ndimage.gaussian_filter(np.random.default_rng(0).random((size, size)), 2), jnp.float32)
    batch = jnp.broadcast_to(jnp.stack([rows, columns, picture], -1), (count, size, size, 3))
    result = np.asarray(transforms.affine(jax.random.key(5), batch, rotate, scale, shear))
    middle = slice(12, 21)  # where the ramps have not met the border
    matrices = []
    for image in result:
        matrix = np.stack(
            [
                [image[20, 16, axis] - image[12, 16, axis], image[16, 20, axis] - image[16, 12, axis]]
                for axis in range(2)
            ]
        )
        matrices.append(matrix := matrix / 8)
        expected = ndimage.affine_transform(picture, matrix, 16 - matrix @ [16, 16], order=1)
        np.testing.assert_allclose(image[middle, middle, 2], expected[middle, middle], atol=1e-3)
    determinants = np.linalg.det(matrices)
    if scale:
        assert np.all((determinants > (1 + scale) ** -2) & (determinants < (1 - scale) ** -2))
    else:
        np.testing.assert_allclose(determinants, 1, atol=1e-3)
    if rotate and not scale:
        angles = np.rad2deg([np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in matrices])
        assert np.all(np.abs(angles) <= rotate + 0.1)
        assert angles.min() < 0 < angles.max()
    assert len({round(float(matrix[0, 0] + 7 * matrix[1, 0]), 5) for matrix in matrices}) == count  # each its own


def test_nothing_that_moves_or_colours_is_rounded_on_an_accelerator() -> None:
    """TPUs take float32 products of bfloat16 operands unless they are told otherwise: column 129.5 would be 130."""
    config, colours = base.get_config(), jnp.zeros((2, 8, 8, 3), jnp.uint8)
    config.augment.update(rotate=10.0, color_noise=0.1, trivial_augment=True)
    config.dataset.covariance = tuple(np.eye(3).ravel())
    made = jax.make_jaxpr(lambda key: transforms.augment(key, colours, config.augment, config.dataset))
    program = str(made(jax.random.key(0)))
    assert program.count("dot_general[") >= 5  # of two affine maps, gray, and colours
    assert program.count("dot_general[") == program.count("precision=(HIGHEST, HIGHEST)") + program.count(
        "precision=(Precision.HIGHEST, Precision.HIGHEST)"
    )


def test_augment_is_a_function_of_the_key(images: jax.Array) -> None:
    config = base.get_config()
    config.augment.update(shift=1, rotate=10.0, scale=0.1, shear=0.1, pad_and_crop=2, flip=True)
    first, again, other = (
        transforms.augment(jax.random.key(seed), images, config.augment, config.dataset) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.dtype == jnp.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255


def test_nothing_switched_on_changes_nothing(images: jax.Array) -> None:
    config = base.get_config()
    augmented = transforms.augment(jax.random.key(0), images, config.augment, config.dataset)
    np.testing.assert_array_equal(augmented, images)


def test_color_noise_is_one_colour_an_image_with_the_datas_covariance() -> None:
    # Krizhevsky et al. 2012, section 4.1: one draw an image, along the principal components of the RGB values.
    covariance = np.array([[0.07, 0.05, 0.03], [0.05, 0.06, 0.04], [0.03, 0.04, 0.08]])
    grays = jnp.full((20_000, 2, 2, 3), 100.0)
    added = (transforms.color_noise(jax.random.key(0), grays, tuple(covariance.ravel()), 0.1) - 100) / 255
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
    measured = np.cov(np.asarray(added[:, 0, 0]).T)
    np.testing.assert_allclose(measured, 0.1**2 * covariance, rtol=0.1)
    np.testing.assert_allclose(added.mean((0, 1, 2)), 0, atol=1e-3)


def test_normalise_by_channel() -> None:
    config = ConfigDict({"mean": (0.5, 0.25), "std": (0.5, 0.125), "permutation": None, "channel_order": "RGB"})
    x = jnp.array([[[[255, 255], [0, 0]]]], jnp.uint8)
    np.testing.assert_allclose(transforms.normalise(x, config), [[[[1, 6], [-1, -2]]]])


def test_a_network_of_bgr_sees_what_keras_makes_of_a_photo() -> None:
    """keras.applications, mode "caffe": RGB to BGR, pixels 0..255 minus 103.939, 116.779, 123.68."""
    prepared = PREPROCESSINGS["keras"]
    config = ConfigDict({key: prepared[key] for key in ("mean", "std", "channel_order")} | {"permutation": None})
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    wanted = x[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(transforms.normalise(jnp.asarray(x), config), wanted, atol=1e-4)


def test_preview_has_a_row_for_each_that_is_on(tmp_path: Path, images: jax.Array) -> None:
    config = base.get_config()
    config.augment.update(shift=1, rotate=10.0)
    examples = Examples(np.asarray(images[..., :1]), np.zeros(64, np.int32))
    assert preview.save(examples, config, tmp_path / "p.png") == ["as read", "shift", "affine", "all together"]
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG"
        bands = np.array_split(np.asarray(picture.convert("L"))[:, picture.width // 5 :], 4)
    height = min(map(len, bands))
    assert all(not np.array_equal(bands[0][:height], band[:height]) for band in bands[1:])


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (2, 0), (-3, 1), (0, -8), (9, 0)])
def test_move_is_scipys_shift(images: jax.Array, rows: int, columns: int) -> None:
    moved = transforms.move(images, rows, columns)
    np.testing.assert_array_equal(moved, ndimage.shift(np.asarray(images), (0, rows, columns, 0), order=0))


def test_a_permutation_is_one_order_for_all_images() -> None:
    # Every pixel of the first image is another value, so that it tells where each came from.
    images = jnp.arange(3 * 81, dtype=jnp.uint8).reshape(3, 9, 9, 1)
    config = base.get_config().dataset
    config.update(mean=(0.0,), std=(1 / 255,))

    def seen(seed: int | None) -> np.ndarray:
        config.permutation = seed
        return np.round(np.asarray(transforms.normalise(images, config))).astype(int).reshape(3, 81)

    order = seen(7)[0]
    assert sorted(order) == list(range(81))
    assert sum(order != np.arange(81)) > 60
    np.testing.assert_array_equal(seen(7), seen(None)[:, order])
    assert not np.array_equal(seen(8), seen(7))
