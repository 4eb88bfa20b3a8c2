"""Pages that fetch nothing, and show names as text."""

import io

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from train.pages import page


def test_small_images_stay_as_they_are_and_photos_become_jpeg() -> None:
    random = np.random.default_rng(0)
    for shape in ((8, 8, 1), (64, 50, 3)):
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        with Image.open(io.BytesIO(page.image_file(pixels))) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)
    with Image.open(io.BytesIO(page.image_file(np.full((65, 100, 3), 200, np.uint8)))) as image:
        assert image.format == "JPEG"
        assert image.size == (100, 65)


def test_addresses_say_what_they_hold() -> None:
    assert page.embedded(page.image_file(np.zeros((4, 4, 1), np.uint8))).startswith("data:image/png;base64,iVBOR")
    assert page.embedded(page.image_file(np.zeros((90, 90, 3), np.uint8))).startswith("data:image/jpeg;base64,/9j/")
    assert page.embedded(b"<svg></svg>") == "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4="


def test_a_page_without_what_it_shows_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        page.render("report")
