"""Names that fit, sheets that hold everything, files that appear whole."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import base
from tests.train.report import photos
from train.data import sources
from train.errors import UserError
from train.pages import drawing
from train.pages.thumbnail import picture


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("train/ants/1.jpg", 16, "train/ants/1.jpg"),
        ("train/ants/0013035.jpg", 16, "train…013035.jpg"),
        ("蚂蚁蚂蚁", 8, "蚂蚁蚂蚁"),
        ("蚂蚁蚂蚁蚂", 8, "蚂…蚁蚂"),
    ],
)
def test_the_ends_of_a_name_are_kept(text: str, columns: int, expected: str) -> None:
    assert drawing.shortened(text, columns) == expected


def test_what_cannot_be_printed_is_replaced() -> None:
    assert drawing.clean("a\nb\udcff蚂é$") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}蚂é$"


def entry(color: tuple[int, int, int], height: int = 20, width: int = 30, text: str = "ants") -> drawing.Entry:
    return drawing.Entry([np.full((height, width, 3), color, np.uint8)], [(text, text)])


def image_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_every_picture_is_on_the_sheet_with_its_proportions() -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    shapes = [(20, 30), (30, 20), (10, 10), (5, 40)]
    entries = [entry(color, *shape) for color, shape in zip(colors, shapes, strict=True)]
    sheet = image_of(drawing.sheet(entries, 3, "four"))
    for color, (height, width) in zip(colors, shapes, strict=True):
        rows, columns = np.nonzero((sheet == color).all(-1))
        across, down = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert max(across, down) == pytest.approx(175, abs=2)
        assert across / down == pytest.approx(width / height, rel=0.12)


def test_gray_pictures_keep_their_brightness() -> None:
    gray = np.full((8, 8, 1), 100, np.uint8)
    assert (image_of(drawing.sheet([drawing.Entry([gray], [("a",)])], 1, "")) == 100).all(-1).sum() > 170**2


def test_texts_do_not_run_into_each_other() -> None:
    text = "$W_" + "W" * 200 + "\n蚂"
    long = image_of(drawing.sheet([entry((255, 0, 0), text=text)] * 2, 2, "title " * 100))
    short = image_of(drawing.sheet([entry((255, 0, 0), text="W")] * 2, 2, "t"))
    assert abs(long.shape[1] - short.shape[1]) < 60
    first, second = np.nonzero((long == (255, 0, 0)).all(-1).any(0))[0][[0, -1]]
    between = (first + second) // 2  # of two pictures of one size, the middle of the gap
    below = np.nonzero((long == (255, 0, 0)).all(-1).any(1))[0][-1] + 4
    assert (long[below:, between - 3 : between + 4] == 255).all()


def test_a_photo_that_has_gone_bad_is_named(tmp_path: Path) -> None:
    root = photos.folder_of(tmp_path / "photos", train=4)
    images = sources.read(f"folder:{root}", base.get_config().dataset).splits["train"]
    Path(images.records.name(0)).write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"photos/.*: .*; replace it, and run the same command again"):
        picture(images, 0)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_is_the_same_file(kind: str) -> None:
    def drawn() -> bytes:
        with drawing.plain() as new:
            figure = new(3, 2)
            axis = figure.subplots()
            axis.plot([1, 2], [3, 4], marker="o", label="a")
            axis.fill_between([1, 2], [2, 3], [3, 4], hatch="/")
            axis.legend()
            return drawing.as_file(figure, kind)

    assert drawn() == drawn()
