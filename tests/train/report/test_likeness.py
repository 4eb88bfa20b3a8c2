"""Likeness of pictures, and nearest neighbours against NumPy."""

import numpy as np
import pytest
from PIL import Image

from tests.train.report.photos import scene
from train.report import likeness
from train.report.likeness import layouts, nearest, unit


def gray(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR))


SCENES = [scene(seed, 128, 96) for seed in range(20)]
GRAY = np.stack([gray(image) for image in SCENES])


def test_an_image_is_like_itself_and_no_other() -> None:
    np.testing.assert_allclose(likeness.likeness(GRAY, GRAY), 1, atol=1e-5)
    assert likeness.likeness(GRAY, np.roll(GRAY, 1, 0)).max() < 0.5
    assert np.median(likeness.likeness(GRAY, GRAY[:, :, ::-1])) < 0.4  # one has a large ellipse in its middle


def test_brightness_and_contrast_do_not_count() -> None:
    assert likeness.likeness(GRAY, (GRAY // 2 + 100).astype(np.uint8)).min() > 0.95


@pytest.mark.parametrize("box", [(10, 8, 128, 96), (0, 0, 120, 90), (7, 6, 123, 93)])
def test_it_is_found_where_it_has_moved_to(box: tuple[int, int, int, int]) -> None:
    cropped = np.stack([gray(image.crop(box)) for image in SCENES])
    assert likeness.likeness(GRAY, cropped).min() > 0.75
    # Place for place, they are no longer alike.
    at_rest = [np.corrcoef(np.diff(a).ravel(), np.diff(b).ravel())[0, 1] for a, b in zip(GRAY, cropped, strict=True)]
    assert np.median(at_rest) < 0.7


def test_a_frame_does_not_count() -> None:
    framed = GRAY.copy()
    framed[:, [0, 1, -2, -1]] = framed[:, :, [0, 1, -2, -1]] = 255
    np.testing.assert_allclose(likeness.likeness(framed, GRAY), 1, atol=1e-4)
    assert likeness.likeness(framed, np.roll(framed, 1, 0)).max() < 0.6


def test_without_edges_images_are_alike_when_they_are_equal() -> None:
    flat = np.stack([np.full((32, 32), 7, np.uint8), np.full((32, 32), 9, np.uint8)])
    assert likeness.likeness(flat, flat).tolist() == [1, 1]
    assert likeness.likeness(flat, flat[::-1]).tolist() == [0, 0]
    assert likeness.likeness(flat[:0], flat[:0]).shape == (0,)


def test_layouts_have_no_mean_and_one_length() -> None:
    found = layouts(np.concatenate([GRAY, np.full((1, 32, 32), 80, np.uint8)]))
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1] * 20 + [0], atol=1e-5)
    blocks = GRAY[0].reshape(8, 4, 8, 4).mean((1, 3)).ravel()
    assert found[0] @ (blocks - blocks.mean()) == pytest.approx(np.linalg.norm(blocks - blocks.mean()), rel=1e-5)


@pytest.mark.parametrize("block", [1, 7 * 50, 2**24])
def test_nearest_is_exact_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "_BLOCK", block)
    random = np.random.default_rng(0)
    queries, references = (unit(random.normal(size=(count, 6)).astype(np.float32)) for count in (23, 50))
    products = queries @ references.T
    indices, found = nearest(queries, references, 3)
    np.testing.assert_array_equal(indices, np.argsort(-products, 1)[:, :3])
    np.testing.assert_allclose(found, np.take_along_axis(products, indices, 1), rtol=1e-5)
    some = np.arange(23) % 2
    others = np.arange(50) % 2
    indices, _ = nearest(queries, references, 3, lambda places: some[places, None] != others)
    masked = np.where(some[:, None] != others, products, -np.inf)
    np.testing.assert_array_equal(indices, np.argsort(-masked, 1)[:, :3])
