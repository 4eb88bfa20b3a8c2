"""Mixup and CutMix: images and targets are mixed by the same shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.transforms import mix

BATCH, SIDE = 400, 32


@pytest.fixture
def plain() -> tuple[jax.Array, jax.Array]:
    """Images of one value each, which says what an image's pixels come from; and targets of as many classes."""
    values = jnp.arange(BATCH, dtype=jnp.float32)
    return jnp.broadcast_to(values[:, None, None, None], (BATCH, SIDE, SIDE, 1)), jnp.eye(BATCH)


def shares(images: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each image how much is its own: by its target, and by the mean of its pixels."""
    own = np.arange(BATCH)
    other = (own - 1) % BATCH
    by_pixels = (images.mean((1, 2, 3)) - other) / (own - other)
    np.testing.assert_allclose(targets[own, own] + targets[own, other], 1, rtol=1e-5)
    return targets[own, own], by_pixels


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_targets_are_mixed_as_images_are(plain: tuple, mixup: float, cutmix: float) -> None:
    images, targets = map(np.asarray, mix(jax.random.key(0), *plain, mixup, cutmix))
    by_target, by_pixels = shares(images, targets)
    np.testing.assert_allclose(by_target, by_pixels, atol=2e-3)
    assert (by_target >= -1e-6).all()
    assert (by_target <= 1 + 1e-6).all()
    assert len(np.unique(by_target.round(3))) > BATCH / 8, "amounts are drawn for each image"


def test_mixup_blends_every_pixel_and_cutmix_replaces_some(plain: tuple) -> None:
    blended, _ = mix(jax.random.key(0), *plain, 0.5, 0.0)
    assert all(len(np.unique(image)) == 1 for image in np.asarray(blended))
    cut, _ = mix(jax.random.key(0), *plain, 0.0, 1.0)
    for number, image in enumerate(np.asarray(cut)):
        assert set(np.unique(image)) <= {number, (number - 1) % BATCH}
        other = image[..., 0] != number
        rows, columns = other.any(1), other.any(0)
        assert (other == rows[:, None] & columns).all(), "what is replaced is a rectangle"


def test_shares_follow_their_distribution(plain: tuple) -> None:
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
    by_target, _ = shares(*map(np.asarray, mix(jax.random.key(3), *plain, 0.2, 0.0)))
    assert by_target.mean() == pytest.approx(0.5, abs=0.08)
    assert by_target.var() == pytest.approx(1 / (4 * 1.4), rel=0.15)
