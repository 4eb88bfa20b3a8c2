"""The map explorer in a browser: what is under a point, what is found, and what is chosen and saved."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.browser.conftest import Open
from train import loop
from train.embedding import explorer, of_run
from train.embedding.of_run import Embedding, Options
from train.run import RunFolder

pytestmark = pytest.mark.peer
ATTACK = '"><script>document.title = "attacked"</script>'
TOTAL = 60


@pytest.fixture
def embedding(config: ConfigDict, tmp_path: Path) -> Embedding:
    """Two checkpoints, two stages, two methods; a class and the ids are hostile."""
    config.checkpoint.keep = 2
    config.train.epochs = 2.0
    loop.train(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    options = Options(stages=("pixels", "hidden1"), points=TOTAL, perplexity=10, every_checkpoint=True)
    found = of_run.embed(run, options)
    run.config.dataset.class_names = (ATTACK, "one", *"23456789")
    return Embedding(**vars(found) | {"ids": [f"{ATTACK}/{place}" for place in range(TOTAL)]})


@pytest.fixture
def driver(browse: Open, embedding: Embedding, tmp_path: Path) -> Iterator[Any]:
    """A browser that shows the page, and saves in the folder `saved`."""
    (tmp_path / "explorer.html").write_text(explorer.build(embedding))
    driver = browse(tmp_path / "explorer.html")
    saving = {"behavior": "allow", "downloadPath": str(tmp_path / "saved")}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", saving)
    yield driver
    assert driver.title != "attacked"


def until(true: Callable[[], Any]) -> Any:
    """Return what is true at last."""
    for _ in range(200):
        if value := true():
            return value
        time.sleep(0.05)
    raise AssertionError("ten seconds are over")


def text(driver: Any, name: str) -> str:
    return driver.execute_script("return document.getElementById(arguments[0]).innerText", name)


def point(driver: Any, kind: str, x: float, y: float, **more: Any) -> None:
    """Send a pointer to a place on the map, in pixels."""
    driver.execute_script(
        "const map = document.getElementById('map'), box = map.getBoundingClientRect();"
        "map.setPointerCapture = () => {};"
        "const [kind, x, y, more] = arguments;"
        "const place = { clientX: box.left + x, clientY: box.top + y, pointerId: 7, pointerType: 'mouse' };"
        "map.dispatchEvent(new PointerEvent(kind, { ...place, ...more }));",
        kind, x, y, more,
    )  # fmt: skip


def drag(driver: Any, *corners: tuple[float, float], **more: Any) -> None:
    point(driver, "pointerdown", *corners[0], **more)
    for corner in corners[1:]:
        point(driver, "pointermove", *corner, **more)
    point(driver, "pointerup", *corners[-1], **more)


def screen(driver: Any, place: int) -> list[float]:
    return driver.execute_script("return explorer.screen(arguments[0])", place)


def pixels(driver: Any, canvas: str, some: str) -> list[int]:
    """Return some of the bytes of a canvas; of a copy, for Chromium warns where one is read twice."""
    return driver.execute_script(
        f"const canvas = {canvas}, copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');"
        "copy.drawImage(canvas, 0, 0);"
        f"const bytes = copy.getImageData(0, 0, canvas.width, canvas.height).data; return [...{some}]"
    )


def set_to(driver: Any, name: str, value: Any, event: str = "input") -> None:
    driver.execute_script(
        "const [name, value, event] = arguments, control = document.getElementById(name);"
        "control.value = value; control.dispatchEvent(new Event(event));",
        name, value, event,
    )  # fmt: skip


def lasso(driver: Any, place: int) -> None:
    """Draw around a point."""
    x, y = screen(driver, place)
    drag(driver, (x - 5, y - 5), (x + 5, y - 5), (x + 5, y + 5), (x - 5, y + 5), shiftKey=True)


def test_under_a_point_is_its_image(driver: Any, embedding: Embedding) -> None:
    for place in (0, 17, TOTAL - 1):
        set_to(driver, "find", embedding.ids[place])  # so that no neighbour is nearer
        point(driver, "pointermove", *screen(driver, place))
        seen = embedding.seen[-1]
        label, taken_for = (embedding.class_names[i[place]] for i in (embedding.labels, seen.taken_for))
        assert text(driver, "card").splitlines() == [
            f"is {label}",
            f"taken for {taken_for}",
            f"confidence {100 * float(f'{seen.confidence[place]:.4f}'):.1f} %",
            embedding.ids[place],
        ]
        gray = pixels(driver, "document.querySelector('#card canvas')", "bytes.filter((_, i) => i % 4 === 0)")
        assert gray == embedding.images.images[place].ravel().tolist()
    point(driver, "pointermove", -500, -500)
    assert not driver.find_element("id", "card").is_displayed()


def test_sliders_and_buttons_choose_the_map_and_its_figures(driver: Any, embedding: Embedding) -> None:
    for place, one in enumerate(embedding.maps):
        step, stage = place // 4, place // 2 % 2
        set_to(driver, "step", step)
        set_to(driver, "stage", stage)
        driver.execute_script("document.querySelector(`[data-method=${arguments[0]}]`).click()", one.method)
        assert text(driver, "stage-name") == one.stage
        assert text(driver, "step-name") == f"step {one.step}, epoch {round(embedding.seen[step].epoch, 1):g}"
        assert text(driver, "trustworthiness") == f"{one.quality.trustworthiness:.3f}"
        assert text(driver, "knn_map") == f"{100 * one.quality.knn_map:.1f} %"
        wide = (one.points.max(0) - one.points.min(0)).max()

        def there(one=one, wide=wide) -> bool:
            (ax, ay), (bx, by) = screen(driver, 3), screen(driver, 8)
            side = driver.execute_script(
                "const map = document.getElementById('map'); return Math.min(map.clientWidth, map.clientHeight) - 48"
            )
            expected = (one.points[8] - one.points[3]) / wide * side
            return abs(bx - ax - expected[0]) < 0.5 and abs(ay - by - expected[1]) < 0.5

        until(there)


def test_moving_and_zooming_keep_the_point_under_the_pointer(driver: Any) -> None:
    x, y = screen(driver, 5)
    apart = screen(driver, 6)[0] - x
    drag(driver, (300, 300), (310, 320), (340, 350))
    assert screen(driver, 5) == pytest.approx([x + 40, y + 50], abs=1e-3)
    driver.execute_script(
        "const map = document.getElementById('map'), box = map.getBoundingClientRect(), [x, y] = arguments;"
        "map.dispatchEvent(new WheelEvent('wheel', { deltaY: -700, clientX: box.left + x, clientY: box.top + y }));",
        x + 40, y + 50,
    )  # fmt: skip
    assert screen(driver, 5) == pytest.approx([x + 40, y + 50], abs=2)  # of a wheel, places are whole pixels
    assert screen(driver, 6)[0] - screen(driver, 5)[0] == pytest.approx(math.exp(700 * 0.0015) * apart, rel=1e-3)
    driver.find_element("id", "whole").click()
    assert screen(driver, 5) == pytest.approx([x, y], abs=1e-3)


def test_what_the_lasso_chooses_is_listed_and_saved(driver: Any, embedding: Embedding, tmp_path: Path) -> None:
    driver.find_element("id", "lasso").click()
    drag(driver, (1, 1), (2000, 1), (2000, 2000), (1, 2000))
    assert text(driver, "count") == f"{TOTAL} images"
    driver.find_element("id", "csv").click()
    saved = tmp_path / "saved" / "chosen.csv"
    until(saved.exists)
    with saved.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "label", "prediction", "confidence"]
    names, seen = embedding.class_names, embedding.seen[-1]
    expected = zip(embedding.ids, embedding.labels, seen.taken_for, strict=True)
    assert [row[:3] for row in rows] == [[name, names[label], names[taken]] for name, label, taken in expected]
    assert [float(row[3]) for row in rows] == pytest.approx(seen.confidence.tolist(), abs=1e-4)

    driver.find_element("id", "lasso").click()
    set_to(driver, "find", embedding.ids[21])
    lasso(driver, 21)
    assert text(driver, "count") == "1 image"
    assert embedding.ids[21] in text(driver, "chosen")
    point(driver, "pointermove", -500, -500)
    assert not driver.find_element("id", "card").is_displayed()
    driver.execute_script("document.querySelector('#chosen li').focus()")
    assert embedding.ids[21] in text(driver, "card")
    driver.find_element("id", "text").click()
    until((tmp_path / "saved" / "ids.txt").exists)
    assert (tmp_path / "saved" / "ids.txt").read_text() == embedding.ids[21] + "\n"
    driver.find_element("id", "clear").click()
    assert text(driver, "chosen") == ""


def test_a_class_is_found_and_all_else_cannot_be_chosen(driver: Any, embedding: Embedding) -> None:
    set_to(driver, "find", "ONE")
    drag(driver, (1, 1), (2000, 1), (2000, 2000), (1, 2000), shiftKey=True)
    assert text(driver, "count") == f"{(embedding.labels == 1).sum()} images"
    set_to(driver, "find", "no such thing")
    assert driver.execute_script("return document.getElementById('find').validationMessage") != ""
    set_to(driver, "find", "")
    driver.find_element("css selector", "#legend button").click()
    drag(driver, (1, 1), (2000, 1), (2000, 2000), (1, 2000), shiftKey=True)
    assert text(driver, "count") == f"{(embedding.labels == 0).sum()} images"


def test_points_are_coloured_by_what_is_asked_for(driver: Any, embedding: Embedding) -> None:
    seen = embedding.seen[-1]
    for colour, shown in (
        ("label", len(set(embedding.labels.tolist()))),
        ("taken", len(set(seen.taken_for.tolist()))),
        ("mistake", 2),
        ("confidence", len({min(9, int(value * 10)) for value in seen.confidence.round(4)})),
    ):
        set_to(driver, "colour", colour, "change")
        assert len(driver.find_elements("css selector", "#legend button")) == shown
        driver.execute_script("explorer.paint()")
        opaque = "new Uint32Array(bytes.buffer).filter((_, i) => bytes[4 * i + 3] === 255)"
        colours = len(set(pixels(driver, "document.getElementById('map')", opaque)))
        assert colours >= min(shown, 2)


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_nothing_sticks_out(embedding: Embedding, browse: Open, tmp_path: Path, width: int) -> None:
    (tmp_path / "explorer.html").write_text(explorer.build(embedding))
    page = browse(tmp_path / "explorer.html", width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
