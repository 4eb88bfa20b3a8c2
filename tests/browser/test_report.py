"""report.html in a browser: every picture is there, in light and dark, and nothing sticks out on a phone."""

from pathlib import Path

import pytest

from tests.browser.conftest import PROGRAM, Open, train_on_photos

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_on_photos(tmp_path_factory.mktemp("run"), report=True) / "report.html"


def test_all_pictures_are_there(report: Path, browse: Open) -> None:
    for dark in (False, True):
        page = browse(report, dark=dark)
        pictures = page.execute_script("return [...document.images].map(image => [image.alt, image.naturalWidth])")
        assert len(pictures) >= 8
        assert not [name for name, width in pictures if not width]
        assert all(name for name, _ in pictures)
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(20, 23, 26)"


def test_each_color_scheme_has_its_figures(report: Path, browse: Open) -> None:
    def figure(dark: bool) -> str:
        script = "return document.querySelector('#curves ~ .scroll img').currentSrc"
        return browse(report, dark=dark).execute_script(script)

    assert figure(dark=False) != figure(dark=True)


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_nothing_sticks_out(report: Path, browse: Open, width: int) -> None:
    page = browse(report, width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_links_lead_somewhere_and_names_are_text(report: Path, browse: Open) -> None:
    page = browse(report)
    lost = "return [...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
    assert page.execute_script(lost) == 0
    assert page.execute_script("return document.querySelectorAll('nav a').length") >= 10
    assert PROGRAM in page.execute_script("return document.body.innerText")
    assert page.execute_script("return document.scripts.length") == 0


def test_details_open(report: Path, browse: Open) -> None:
    page = browse(report)
    first = page.find_element("css selector", "details")
    assert "train.batch_size" not in page.execute_script("return document.body.innerText")
    first.find_element("css selector", "summary").click()
    assert "train.batch_size" in page.execute_script("return document.body.innerText")
