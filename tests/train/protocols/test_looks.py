"""What is cut out of an image, against crops by hand."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from train import settings
from train.errors import UserError
from train.protocols import looks


@pytest.fixture
def image() -> np.ndarray:
    """Every pixel says where it is."""
    rows, columns = np.mgrid[:256, :341]
    return np.stack([rows % 256, columns % 256, columns // 256], axis=-1).astype(np.uint8)


def where(view: np.ndarray) -> tuple[int, int]:
    """Return row and column of a view's first pixel."""
    return int(view[0, 0, 0]), int(view[0, 0, 1]) + 256 * int(view[0, 0, 2])


def test_ten_crops_are_those_cut_by_hand(image: np.ndarray) -> None:
    views = looks.ten(image, 224)
    assert views.shape == (10, 224, 224, 3)
    # The square in the middle of 341 columns begins at 42 (42.5, rounded to even), and its far crops 32 pixels on.
    assert [where(view) for view in views[:5]] == [(0, 42), (0, 74), (32, 42), (32, 74), (16, 58)]
    square = image[:, 42:298]
    by_hand = [square[:224, :224], square[:224, 32:], square[32:, :224], square[32:, 32:], square[16:240, 16:240]]
    np.testing.assert_array_equal(views, by_hand + [np.flip(crop, 1) for crop in by_hand])


def test_a_grid_reaches_all_edges(image: np.ndarray) -> None:
    views = looks.grid(image, 224)
    assert views.shape == (50, 224, 224, 3)
    assert [where(view)[0] for view in views[:25:5]] == [0, 8, 16, 24, 32]
    assert [where(view)[1] for view in views[:5]] == [0, 29, 58, 88, 117]  # quarters of 117, rounded
    np.testing.assert_array_equal(views[25:], views[:25, :, ::-1])


def test_middle_and_whole(image: np.ndarray) -> None:
    assert [where(view) for view in looks.middle(image, 224)] == [(16, 58)]
    np.testing.assert_array_equal(looks.whole(image, 224), [image, image[:, ::-1]])
    square = np.zeros((224, 224, 1), np.uint8)
    assert looks.ten(square, 224).shape == (10, 224, 224, 1)


@pytest.mark.parametrize(
    ("protocol", "jitter", "sizes"),
    [
        ("ten_crop", None, [256]),
        ("dense", None, [256]),
        ("dense", (256, 512), [384]),
        ("multi_scale", None, [224, 256, 288]),
        ("multi_scale", (384, 384), [384, 384, 384]),
        ("multi_crop", (256, 512), [256, 384, 512]),
    ],
)
def test_sizes_are_the_papers(
    config: ConfigDict, protocol: str, jitter: tuple[int, int] | None, sizes: list[int]
) -> None:
    config.dataset.update(image_size=224, crop=0.875)
    config.augment.scale_jitter = jitter
    assert [look.shorter for look in looks.looks_of(protocol, config)] == sizes


@pytest.mark.parametrize(
    ("protocol", "scales", "words"),
    [
        ("dense", (256, 512), "the protocol dense looks at one size"),
        ("multi_scale", (256,), "looks at 3 sizes"),
        ("dense", (200,), r"must be 224 or more \(config.dataset.image_size\)"),
    ],
)
def test_sizes_that_do_not_fit(config: ConfigDict, protocol: str, scales: tuple[int, ...], words: str) -> None:
    config.dataset.update(image_size=224, crop=0.875)
    config.evaluate.scales = scales
    settings.resolve(config)
    with pytest.raises(UserError, match=words):
        looks.looks_of(protocol, config)
