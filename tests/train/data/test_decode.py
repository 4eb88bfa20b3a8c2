"""Decoding against Pillow, and files that cannot be used."""

import io
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from train.data.decode import BadImage, check, crop, pixels, random_box
from train.data.resize import middle_box


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A smooth picture that looks different in each corner, so that JPEG keeps it and turning it shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (255 * columns / width, 255 * rows / height, 128 + 0 * rows)
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pixels_are_pillows() -> None:
    data = encode(scene())
    np.testing.assert_array_equal(pixels(data, 3), np.asarray(Image.open(io.BytesIO(data))))
    assert pixels(data, 1).shape == (64, 96, 1)


@pytest.mark.parametrize("size", [64, 32, 16, 8, 5])
def test_a_crop_at_a_part_of_the_size_is_the_full_one_made_small(size: int) -> None:
    image = scene()
    expected = np.asarray(image.crop((16, 0, 80, 64)).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    found = crop(encode(image, quality=95), middle_box, size, "bilinear", 3).astype(int)
    assert np.abs(found - expected).max() <= 6  # JPEG's own error included


def test_the_share_cuts_a_margin_off() -> None:
    image = scene(64, 64)
    expected = np.asarray(image.crop((8, 8, 56, 56)).resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
    found = crop(encode(image, "PNG"), partial(middle_box, share=0.75), 24, "bilinear", 3)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: np.rot90(pixels, 2)),
        (4, lambda pixels: pixels[::-1]),
        (5, lambda pixels: pixels.swapaxes(0, 1)),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (7, lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2)),
        (8, np.rot90),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_photos_are_seen_as_they_were_taken(orientation: int, turn) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(), quality=95, exif=exif)
    middle = np.asarray(scene())[:, 16:80]  # the middle square stays the middle however it is turned
    found = crop(data, middle_box, 64, "bilinear", 3).astype(int)
    assert np.abs(found - turn(middle).astype(int)).max() <= 6
    whole = pixels(data, 3).astype(int)
    assert np.abs(whole - turn(np.asarray(scene())).astype(int)).max() <= 6


def test_damaged_exif_data_spoil_no_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(scene(), exif=exif)
    at = data.index(b"Exif\0\0") + 6
    damaged = data[:at] + b"\xff" * 8 + data[at + 8 :]
    assert check(damaged) is None
    assert pixels(damaged, 3).shape == (64, 96, 3)


def test_of_several_pictures_in_a_jpeg_file_the_first_is_the_photo() -> None:
    data = encode(scene(), "MPO", save_all=True, append_images=[scene().rotate(180)], quality=95)
    assert check(data) is None
    assert np.abs(pixels(data, 3).astype(int) - np.asarray(scene())).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK"])
def test_other_kinds_of_pixels_become_rgb_or_gray(mode: str) -> None:
    data = encode(scene().convert(mode), "JPEG" if mode == "CMYK" else "PNG")
    assert check(data) is None
    assert crop(data, middle_box, 32, "bilinear", 3).shape == (32, 32, 3)
    assert crop(data, middle_box, 32, "bilinear", 1).shape == (32, 32, 1)


def test_webp_is_read() -> None:
    assert check(encode(scene(), "WEBP")) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"just some words", "is none of them"),
        (encode(scene(), "GIF"), "is a GIF"),
        (encode(scene())[:-200], "truncated"),
        (encode(scene())[:300], "cannot be decoded"),
        (encode(scene(), "PNG")[:-40], "cannot be decoded"),
        (encode(scene().convert("I;16"), "PNG"), "convert it to 8 bits a channel"),
        (encode(scene(), "WEBP", save_all=True, append_images=[scene().rotate(90)]), "is an animation"),
    ],
    ids=["empty", "text", "gif", "truncated", "header alone", "truncated png", "16 bits", "animation"],
)
def test_what_cannot_be_used_says_why(data: bytes, message: str) -> None:
    assert message in (check(data) or "")
    with pytest.raises(BadImage, match=message):
        crop(data, middle_box, 32, "bilinear", 3)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.floats(0.01, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_a_random_box_lies_in_the_image_and_keeps_its_bounds(
    width: int, height: int, smallest: float, seed: int
) -> None:
    left, top, right, bottom = random_box(width, height, np.random.default_rng(seed), smallest)
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    ratio = (right - left) / (bottom - top)
    assert 3 / 4 - 1e-6 <= ratio <= 4 / 3 + 1e-6
    # Where nothing fits, the middle is taken at its own ratio's bound: then it is as large as can be.
    share = (right - left) * (bottom - top) / (width * height)
    assert share >= smallest - 1e-6 or right - left == pytest.approx(width) or bottom - top == pytest.approx(height)


def test_random_boxes_cover_areas_and_ratios_evenly() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([random_box(1000, 1000, random, 0.1) for _ in range(4_000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    areas, ratios = sides.prod(1) / 1e6, np.log(sides[:, 0] / sides[:, 1])
    assert areas.min() == pytest.approx(0.1, abs=0.01)
    assert ratios.mean() == pytest.approx(0, abs=0.01)
    assert ratios.std() == pytest.approx(np.log(4 / 3) / np.sqrt(3), abs=0.01)  # of a uniform draw
    # Large areas fit at fewer ratios, so they come a little less often than a uniform draw would have them.
    assert 0.45 < areas.mean() < 0.55


@pytest.mark.parametrize("size", [1, 7])
def test_the_least_images_have_crops(size: int) -> None:
    data = encode(Image.new("RGB", (size, 1)), "PNG")
    assert crop(data, partial(random_box, random=np.random.default_rng(0), smallest=0.1), 8, "bilinear", 3).any() == 0
