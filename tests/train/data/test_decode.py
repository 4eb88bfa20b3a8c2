"""Decoding against Pillow, and files that cannot be used."""

import io
import re
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tests.conftest import little_memory
from train.data import decode
from train.data.boxes import middle_box, random_box
from train.data.decode import BadImage, check, crop, pixels


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


@pytest.mark.parametrize(("width", "height"), [(341, 256), (300, 451), (97, 64), (64, 64)])
@pytest.mark.parametrize(("size", "share"), [(56, 0.875), (64, 1.0)])
def test_the_middle_is_what_scaling_first_and_cutting_then_leaves(
    width: int, height: int, size: int, share: float
) -> None:
    """torchvision's Resize(64) and CenterCrop(56), in Pillow: the longer side is cut off to a whole number."""
    image = scene(width, height)
    shorter = round(size / share)
    scaled = [shorter * side // min(width, height) for side in (width, height)]
    left, top = (round((side - size) / 2) for side in scaled)
    whole = image.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    found = crop(encode(image, "PNG"), partial(middle_box, share=share, size=size), size, "bilinear", 3)
    assert np.abs(found - np.asarray(whole).astype(int)).max() <= 1


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


def sixteen_bits(values: np.ndarray) -> bytes:
    """A PNG file of 16 bits a channel, for Pillow writes none in colour: `[H, W]`, `[H, W, 2]` (alpha), 3 or 4."""
    rows = np.atleast_3d(values).astype(">u2")
    height, width, channels = rows.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.tobytes() for row in rows)  # filter 0: none
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (*chunks, (b"IEND", b""))
    )


RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_ramp_of_16_bits_is_that_of_8(channels: int) -> None:
    alpha = channels in (2, 4)
    ramp = np.stack([RAMP * 257] * (channels - alpha) + [np.full_like(RAMP, 65535)] * alpha, axis=-1)
    data = sixteen_bits(ramp)
    assert check(data) is None
    for wanted in (1, 3):
        np.testing.assert_array_equal(pixels(data, wanted), np.stack([RAMP] * wanted, -1))
        np.testing.assert_array_equal(crop(data, middle_box, 16, "bilinear", wanted), pixels(data, wanted))


def test_gray_of_16_bits_goes_to_the_nearest_of_8() -> None:
    values = np.array([[0, 128, 129, 256, 257, 32768, 65406, 65407, 65535]])
    assert pixels(sixteen_bits(values), 1).ravel().tolist() == np.rint(values / 257).ravel().tolist()
    photo = np.asarray(Image.open(io.BytesIO(sixteen_bits(values))))
    assert photo.ravel().tolist() == values.ravel().tolist()  # the file says what was meant


def test_dark_16_bits_stay_dark() -> None:
    # Cut off at 255 instead, they would be white.
    assert pixels(encode(Image.fromarray(np.full((8, 8), 300, np.uint16)), "PNG"), 3).max() == 1


RED = Image.new("CMYK", (32, 32), (0, 255, 255, 0))


def without_adobe(data: bytes) -> bytes:
    """Take the marker APP14 out, by which Adobe's programs say what they have written."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]


def ycck_red() -> bytes:
    """Red as Photoshop writes it by default: inverted inks, of which the three colours are then made luma and chroma.

    libjpeg takes those as 255 minus RGB: the inverted inks (255, 0, 0) are RGB (0, 255, 255), which is YCbCr
    (179, 171, 1) by JFIF's formulas. Pillow inverts what it writes, and says transform 0 where 2 is YCCK.
    """
    data = encode(Image.new("CMYK", (32, 32), (255 - 179, 255 - 171, 255 - 1, 0)), quality=100, subsampling=0)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    return data[:at] + b"\x02" + data[at + 1 :]


@pytest.mark.parametrize(
    "data", [encode(RED), without_adobe(encode(RED)), ycck_red()], ids=["Adobe's", "without marker", "YCCK"]
)
def test_red_inks_are_red(data: bytes) -> None:
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(pixels(data, 3).astype(int) - (255, 0, 0)).max() <= 3
    assert np.abs(crop(data, middle_box, 4, "bilinear", 3).astype(int) - (255, 0, 0)).max() <= 3
    assert np.abs(pixels(data, 1).astype(int) - 76).max() <= 3  # the luma of red


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    palette = scene().quantize(16)
    data = encode(palette, "PNG", transparency=bytes([0, 100] + [255] * 14))
    np.testing.assert_array_equal(pixels(data, 3), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(pixels(data, 1)[..., 0], np.asarray(palette.convert("L")))


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
        (encode(scene(), "WEBP", save_all=True, append_images=[scene().rotate(90)]), "is an animation"),
    ],
    ids=["empty", "text", "gif", "truncated", "header alone", "truncated png", "animation"],
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


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    return data.tobytes()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "data",
    [
        encode(scene(), quality=90),
        encode(scene(), quality=90, subsampling=0),
        encode(scene(), quality=90, progressive=True),
        encode(scene(97, 61), quality=30, subsampling=2),
        encode(scene().convert("L")),
        encode(scene().convert("CMYK")),
        encode(scene(), exif=exif(6)),
        encode(scene().convert("L"), exif=exif(3)),
        encode(scene(7, 5)),
        encode(scene(), keep_rgb=True, subsampling=0),
        encode(scene())[:-200],
    ],
    ids=["plain", "4:4:4", "progressive", "odd", "gray", "inks", "turned", "turned-gray", "tiny", "rgb", "cut-off"],
)
def test_simplejpeg_changes_nothing(data: bytes, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode.simplejpeg is not None, "a dependency"

    def seen(size: int) -> list[object]:
        found: list[object] = []
        for look in (
            lambda: crop(data, lambda width, height: (1, 0, width, height * 0.9), size, "bilinear", channels),
            lambda: decode.scaled(data, size, "bicubic", channels),
            lambda: pixels(data, channels),
        ):
            try:
                found.append(look())
            except BadImage as error:
                found.append(str(error))
        return found

    def everything() -> list[object]:
        return [image for size in (60, 30, 11, 3) for image in seen(size)]

    fast = everything()
    monkeypatch.setattr(decode, "simplejpeg", None)
    for one, other in zip(fast, everything(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_decoded_before_are_taken_as_they_are() -> None:
    data = encode(scene(), "PNG")
    for channels in (1, 3):
        for had in (1, 3):
            found = pixels(pixels(data, had), channels)
            if channels <= had:
                assert np.abs(found.astype(int) - pixels(data, channels)).max() == 0
            assert found.shape == (64, 96, channels)
    box = partial(middle_box, share=0.75)
    np.testing.assert_array_equal(crop(pixels(data, 3), box, 24, "bilinear", 3), crop(data, box, 24, "bilinear", 3))


def png(sides: tuple[int, int], packed: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file in RGB that claims these sides."""
    header = (b"IHDR", struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *more, (b"IDAT", packed), (b"IEND", b""))
    )


def claiming(data: bytes, marker: int, sides: tuple[int, int]) -> bytes:
    """A JPEG file whose frame, of that marker, claims these sides."""
    at = data.index(bytes([0xFF, marker])) + 5
    return data[:at] + struct.pack(">HH", *reversed(sides)) + data[at + 4 :]


def webp(sides: tuple[int, int]) -> bytes:
    """A WebP file of one frame whose header claims these sides (RFC 6386, section 9.1)."""
    data = encode(scene(16, 16), "WEBP")
    at = data.index(b"\x9d\x01\x2a") + 3
    return data[:at] + struct.pack("<HH", *sides) + data[at + 4 :]


ZEROS = zlib.compress(bytes(2**27), 9)  # 130 kB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png((60_000, 60_000)), "3600000000 pixels"),
        (claiming(encode(scene()), 0xC0, (60_000, 60_000)), "3600000000 pixels"),
        (png((9_000, 9_000)), "9,000 x 9,000 pixels; .* at most 67,108,864 are read"),
        (webp((16_383, 16_383)), "cannot be decoded|pixels"),
        (webp((9_000, 9_000)), "cannot be decoded|at most 67,108,864 are read"),
        (png((8, 8), ZEROS, (b"zTXt", b"a\0\0" + ZEROS)), "too large"),
        (png((8, 8), ZEROS, (b"iCCP", b"a\0\0" + ZEROS)), "too large"),
        (png((8, 8), ZEROS, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20)))] * 100), "Too much memory"),
        (png((2**31 - 1, 1)), "pixels|cannot be decoded"),
        (png((0, 0)), "cannot be decoded|is none"),
    ],
    ids=["png", "jpeg", "large png", "webp", "large webp", "text", "profile", "texts", "wide", "nothing"],
)
def test_what_a_header_claims_takes_no_memory(data: bytes, message: str) -> None:
    with little_memory(2**27):
        assert re.search(message, check(data) or "")


def test_more_bytes_than_pixels_are_not_unpacked() -> None:
    data = png((8, 8), ZEROS)
    with little_memory(2**27):
        assert check(data) is None
        assert pixels(data, 3).max() == 0


def test_a_progressive_photo_has_no_more_scans_than_it_can_use() -> None:
    """Each of ten bytes would go through all pixels: 1,000 of them took 50 s at 8,000 x 8,000."""
    photo = encode(scene(), progressive=True, subsampling=0)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0)
    assert check(photo) is None
    assert check(photo[:-2] + scan * 20 + photo[-2:]) is None  # a small one may
    large = claiming(photo[:-2] + scan * 20 + photo[-2:], 0xC2, (8_000, 8_000))
    assert "too many scans for its 64,000,000 pixels" in (check(large) or "")
    hidden = large[:2] + b"\xff\xfe\x00\x04\xff\xd9" + large[2:]  # a comment that looks like the end
    assert "too many scans" in (check(hidden) or "")
    many = large[:-2] + b"\xff\xda" * 1_000_000
    assert "too many scans" in (check(many) or "")


def test_a_photo_has_no_more_segments_than_a_camera_writes() -> None:
    photo = encode(scene())
    data = photo[:2] + b"\xff\xe0\x00\x02" * 2**15 + photo[2:]
    assert "has more than 16,384 segments" in (check(data) or "")
    assert check(photo[:2] + b"\xff\xe0\x00\x02" * 100 + photo[2:]) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "MPO"])
def test_a_photo_that_ends_too_soon_is_read_or_said_to_be_damaged(kind: str) -> None:
    data = encode(scene(24, 16), kind)
    read = sum(check(data[:length]) is None for length in range(len(data)))
    assert read < 64  # what stands behind the pixels


def test_no_more_of_a_file_is_read_than_an_image_has(tmp_path: Path) -> None:
    with (tmp_path / "film.jpg").open("wb") as film:
        film.truncate(6 * 2**30)
    for path in (tmp_path / "film.jpg", Path("/dev/zero")):
        with path.open("rb") as file, pytest.raises(decode.BadImage, match="has more than 268,435,456 bytes; take it"):
            decode.read(file)
