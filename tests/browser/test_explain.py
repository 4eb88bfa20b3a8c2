"""explain.html in a browser: every picture is there, in light and dark, and nothing sticks out on a phone."""

from pathlib import Path

import pytest

from tests.browser.conftest import PROGRAM, Open, train_on_photos
from tests.train.report import photos
from train.explaining.of_image import explain
from train.explaining.writing import write
from train.run import RunFolder

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one photo, whose name is a program too."""
    folder = tmp_path_factory.mktemp("run")
    run = train_on_photos(folder, report=False)
    photo = folder / "<img src=x onerror=alert(2)>.png"
    photos.save(photo, photos.scene(5))
    write(explain(RunFolder(run), str(photo), class_name=PROGRAM), folder)
    return folder / "explain.html"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_whole_on_every_screen(explained: Path, browse: Open, width: int) -> None:
    for dark in (False, True):
        page = browse(explained, dark=dark, width=width)
        pictures = page.execute_script("return [...document.images].map(image => [image.alt, image.naturalWidth])")
        assert len(pictures) >= 6  # the image, four methods, and a patch
        assert not [name for name, pixels in pictures if not pixels]
        assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_names_are_text(explained: Path, browse: Open) -> None:
    page = browse(explained)
    shown = page.execute_script("return document.body.innerText")
    assert f"Why {PROGRAM}?" in shown
    assert "<img src=x onerror=alert(2)>.png" in shown
    assert page.execute_script("return document.scripts.length") == 0
