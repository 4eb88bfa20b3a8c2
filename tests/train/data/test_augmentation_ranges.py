"""Whatever the settings and the seed: what augmentation makes stays in the range that it states."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base
from train.data import boxes, transforms
from train.data.trivial_augment import OPERATIONS, changed, trivial_augment

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.tuples(st.integers(1, 6000), st.integers(1, 6000))
# One shape for all, so that what is compiled once serves every example.
IMAGES = jnp.asarray(np.random.default_rng(0).integers(1, 256, (8, 9, 7, 3), dtype=np.uint8))
AFFINE, FLIP, TRIVIAL, CHANGED = map(jax.jit, (transforms.affine, transforms.flip, trivial_augment, changed))


@settings(max_examples=300)
@given(SIDES, SEEDS, st.floats(1e-4, 1))
def test_a_random_box_lies_in_the_image_and_has_its_area_and_shape(
    sides: tuple[int, int], seed: int, smallest: float
) -> None:
    width, height = sides
    left, top, right, bottom = boxes.random_box(width, height, np.random.default_rng(seed), smallest)
    slack = 1e-9 * max(sides)
    assert -slack <= left < right <= width + slack
    assert -slack <= top < bottom <= height + slack
    ratio = (right - left) / (bottom - top)
    assert 3 / 4 - 1e-6 <= ratio <= 4 / 3 + 1e-6
    share = (right - left) * (bottom - top) / (width * height)
    middle = math.isclose(left, width - right, abs_tol=slack) and math.isclose(top, height - bottom, abs_tol=slack)
    assert share <= 1 + 1e-9
    # Where ten draws have not fitted, it is the middle, as large as that shape allows.
    assert share >= smallest - 1e-9 or (middle and (right - left >= width - slack or bottom - top >= height - slack))


@settings(max_examples=200)
@given(SIDES, SEEDS, st.integers(1, 512), st.integers(0, 300), st.integers(0, 300))
def test_a_jittered_box_is_a_square_of_the_least_to_the_most(
    sides: tuple[int, int], seed: int, size: int, more: int, most: int
) -> None:
    width, height = sides
    scales = size + more, size + more + most
    left, top, right, bottom = boxes.jittered_box(width, height, np.random.default_rng(seed), scales, size)
    slack = 1e-9 * max(sides)
    assert -slack <= left < right <= width + slack
    assert -slack <= top < bottom <= height + slack
    assert right - left == pytest.approx(bottom - top)
    scaled_to = size * min(sides) / (right - left)  # the shorter side, in pixels of the result
    assert scales[0] - 1e-3 <= scaled_to <= scales[1] + 1e-3
    assert scaled_to == pytest.approx(round(scaled_to), abs=1e-3)


@settings(max_examples=300)
@given(SIDES, st.floats(0.05, 1), st.one_of(st.none(), st.integers(1, 512)))
def test_the_middle_box_lies_in_the_image(sides: tuple[int, int], share: float, size: int | None) -> None:
    width, height = sides
    left, top, right, bottom = boxes.middle_box(width, height, share, size)
    slack = 1e-9 * max(sides)
    assert -slack <= left < right <= width + slack
    assert -slack <= top < bottom <= height + slack
    if size is None:
        assert right - left == pytest.approx(share * min(sides))
        assert (left + right, top + bottom) == (pytest.approx(width), pytest.approx(height))
    else:  # of the scaled image, by half a pixel
        pixels = [
            side / scaled for side, scaled in zip(sides, boxes.scaled_sides(*sides, round(size / share)), strict=True)
        ]
        assert abs((left + right) - width) <= 2 * pixels[0]
        assert abs((top + bottom) - height) <= 2 * pixels[1]


@settings(max_examples=8)
@given(SEEDS)
def test_flips_are_the_image_or_its_mirror_image(seed: int) -> None:
    for new, old in zip(FLIP(jax.random.key(seed), IMAGES), IMAGES, strict=True):
        assert np.array_equal(new, old) or np.array_equal(new, old[:, ::-1])


@settings(max_examples=8)
@given(
    SEEDS, st.integers(1, 4), st.sampled_from([("constant", transforms.shift), ("reflect", transforms.pad_and_crop)])
)
def test_moves_are_by_so_many_whole_pixels_at_most(seed: int, pixels: int, kind: tuple) -> None:
    border, move = kind
    moved = np.asarray(move(jax.random.key(seed), IMAGES, pixels))
    padded = np.pad(IMAGES, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode=border)
    height, width = IMAGES.shape[1:3]
    for new, old in zip(moved, padded, strict=True):
        places = [(row, column) for row in range(2 * pixels + 1) for column in range(2 * pixels + 1)]
        assert any(np.array_equal(new, old[row : row + height, column : column + width]) for row, column in places)


@settings(max_examples=8)
@given(SEEDS, st.floats(0, 180), st.floats(0, 0.99), st.floats(0, 1))
def test_affine_maps_invent_no_brightness(seed: int, rotate: float, scale: float, shear: float) -> None:
    # Interpolation is a mean of pixels, and of the black outside.
    made = np.asarray(AFFINE(jax.random.key(seed), IMAGES.astype(jnp.float32), rotate, scale, shear))
    assert np.isfinite(made).all()
    assert made.min() >= 0
    largest = np.asarray(IMAGES).max((1, 2))
    assert (made.max((1, 2)) <= largest + 1e-3).all()


CHANGES = st.fixed_dictionaries(
    {
        "flip": st.booleans(),
        "shift": st.sampled_from([0, 2]),
        "pad_and_crop": st.sampled_from([0, 3]),
        "trivial_augment": st.booleans(),
        "rotate": st.floats(0, 180),
        "scale": st.floats(0, 0.99),
        "shear": st.floats(0, 1),
    }
)
EVERYTHING = {"flip": True, "shift": 2, "pad_and_crop": 3, "trivial_augment": True}
EVERYTHING |= {"rotate": 180.0, "scale": 0.9, "shear": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_all_together_stay_pixels(seed: int) -> None:
    stay_pixels(seed, EVERYTHING)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False)
@given(SEEDS, CHANGES)
def test_any_of_them_stay_pixels(seed: int, chosen: dict[str, Any]) -> None:
    stay_pixels(seed, chosen)


def stay_pixels(seed: int, chosen: dict[str, Any]) -> None:
    config = base.get_config()
    config.augment.update(chosen)
    made = transforms.augment(jax.random.key(seed), IMAGES, config.augment, config.dataset)
    assert made.shape == IMAGES.shape
    assert made.dtype == jnp.float32
    assert np.isfinite(made).all()
    assert 0 <= made.min() <= made.max() <= 255 + 1e-3


@settings(max_examples=25)
@given(SEEDS, st.floats(0, 1), st.integers(0, 10**6))
def test_colour_noise_is_one_colour_an_image_of_the_principal_components(
    seed: int, deviation: float, of_data: int
) -> None:
    colours = np.random.default_rng(of_data).uniform(0, 1, (50, 3)) * [1, 0.5, 0]  # a channel that never varies
    covariance = np.cov(colours.T, bias=True)
    added = np.asarray(
        transforms.color_noise(jax.random.key(seed), IMAGES.astype(jnp.float32), tuple(covariance.ravel()), deviation)
    ) - np.asarray(IMAGES)
    assert np.isfinite(added).all()
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-3)
    np.testing.assert_allclose(added[..., 2], 0, atol=1e-3)
    assert np.abs(added).max() <= 255 * deviation * 3**0.5 * 7 + 1e-3  # of components with a deviation below 1, 7 sigma


def test_trivial_augment_keeps_shape_and_type_and_changes_most_images() -> None:
    changed = 0
    for seed in range(6):
        made = TRIVIAL(jax.random.key(seed), IMAGES)
        assert (made.shape, made.dtype) == (IMAGES.shape, jnp.uint8)
        changed += (np.asarray(made) != np.asarray(IMAGES)).any((1, 2, 3)).sum()
    assert changed > 6 * len(IMAGES) / 2  # one operation of fourteen is none, and some do little


NEUTRAL = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize")


def by(name: str, amount: float, sign: float) -> np.ndarray:
    which = jnp.int32(OPERATIONS.index(name))
    return np.asarray(CHANGED(IMAGES[0], which, jnp.float32(amount), jnp.float32(sign)))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", NEUTRAL)
def test_operations_by_nothing_are_nothing(name: str, sign: float) -> None:
    np.testing.assert_array_equal(by(name, 0.0, sign), IMAGES[0])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", NEUTRAL[1:6])
def test_operations_that_move_take_pixels_of_the_image(name: str, sign: float) -> None:
    colours = {tuple(colour) for colour in np.asarray(IMAGES[0]).reshape(-1, 3).tolist()} | {(0, 0, 0)}
    for amount in (0.2, 0.5, 1.0):
        made = by(name, amount, sign)
        assert {tuple(colour) for colour in made.reshape(-1, 3).tolist()} <= colours
        assert (made != np.asarray(IMAGES[0])).any()


PARAMETER = st.one_of(st.just(0.0), st.floats(1e-4, 1e3))


@settings(max_examples=10)
@given(SEEDS, PARAMETER, PARAMETER, st.integers(0, 10**6))
def test_mixed_images_and_targets_are_between_those_they_are_of(
    seed: int, mixup: float, cutmix: float, of_targets: int
) -> None:
    lie_between(seed, mixup, cutmix, of_targets)


@pytest.mark.slow
@settings(max_examples=500, derandomize=False)
@given(SEEDS, PARAMETER, PARAMETER, st.integers(0, 10**6))
def test_mixed_by_any_parameters_they_are_between(seed: int, mixup: float, cutmix: float, of_targets: int) -> None:
    lie_between(seed, mixup, cutmix, of_targets)


def lie_between(seed: int, mixup: float, cutmix: float, of_targets: int) -> None:
    if not mixup and not cutmix:
        mixup = 0.2
    images = IMAGES.astype(jnp.float32)
    random = np.random.default_rng(of_targets)
    targets = random.dirichlet(np.ones(5), len(images)).astype(np.float32)
    made, shares = map(np.asarray, transforms.mix(jax.random.key(seed), images, jnp.asarray(targets), mixup, cutmix))
    assert np.isfinite(made).all()
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    for result, of in ((made, np.asarray(images)), (shares, targets)):
        other = np.roll(of, 1, axis=0)
        slack = 1e-5 * of.max()
        assert (result >= np.minimum(of, other) - slack).all()
        assert (result <= np.maximum(of, other) + slack).all()
