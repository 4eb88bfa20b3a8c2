"""The whole: defaults, what is left out and said, what is written, and what is refused."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import base
from tests.train.explaining import squares
from train.errors import UserError
from train.explaining.of_image import explain
from train.explaining.writing import write
from train.loop import train
from train.run import RunFolder

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A LeNet-5 that has seen squares once; one of its classes has a name to be careful with."""
    folder = tmp_path_factory.mktemp("squares")
    return squares.learnt(folder / "run", squares.write(folder, (EVIL, "standing")), epochs=1.0, **squares.MODEL)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("image") / "<b>a&b.png"
    Image.fromarray(squares.draw(1, seed=9)[0][0, ..., 0]).save(file)
    return str(file)


class Elements(HTMLParser):
    """Names and attributes of a page's elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_all_is_written_and_agrees_with_itself(run: RunFolder, image: str, tmp_path: Path) -> None:
    explanation = explain(run, image, class_name="standing")
    write(explanation, tmp_path / "new" / "folder")
    files = {file.name: file for file in (tmp_path / "new" / "folder").iterdir()}
    pictures = {"image", "saliency", "integrated_gradients", "grad_cam", "occlusion", "patches"}
    assert files.keys() == {f"{name}.png" for name in pictures} | {"explain.json", "explain.html"}
    for name in pictures - {"patches"}:
        with Image.open(files[f"{name}.png"]) as drawn:
            assert drawn.width == drawn.height
            assert drawn.width % squares.SIDE == 0  # whole pixels
            assert drawn.width >= 300

    numbers = json.loads(files["explain.json"].read_text())
    assert numbers["image"] == image
    assert (numbers["explained"]["class"], numbers["explained"]["index"]) == ("standing", 1)
    assert {guess["class"] for guess in numbers["predictions"]} == {EVIL, "standing"}
    assert sum(guess["probability"] for guess in numbers["predictions"]) == pytest.approx(1, abs=1e-5)
    logits = {guess["index"]: guess["logit"] for guess in numbers["predictions"]}
    odds = [np.log(guess["probability"]) for guess in sorted(numbers["predictions"], key=lambda it: it["index"])]
    assert odds[0] - odds[1] == pytest.approx(logits[0] - logits[1], abs=1e-3)
    integrated = numbers["integrated_gradients"]
    error = abs(integrated["sum"] - integrated["difference"]) / abs(integrated["difference"])
    assert integrated["completeness_error"] == pytest.approx(error)
    assert error <= 0.01
    row, column = numbers["occlusion"]["at"]
    assert explanation.occlusion[row, column] == explanation.occlusion.max() == numbers["occlusion"]["maximum"]
    assert (numbers["grad_cam"]["stage"], numbers["patches"]["searched"]) == ("C3", 60)
    activations = [patch["activation"] for patch in numbers["patches"]["top"]]
    assert len(activations) == 9
    assert activations == sorted(activations, reverse=True)


def test_the_page_runs_nothing_and_loads_nothing(run: RunFolder, image: str, tmp_path: Path) -> None:
    write(explain(run, image, class_name=EVIL), tmp_path)
    page = (tmp_path / "explain.html").read_text()
    elements = Elements(page).found
    assert not {"script", "iframe", "object", "b>a&b.png"} & {name for name, _ in elements}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;a&amp;b.png" in page
    shown = [attributes["src"] for name, attributes in elements if name == "img"]
    assert len(shown) == 5 + 10  # the image and four maps; its own patch and nine others
    assert all(source and source.startswith("data:image/png;base64,") for source in shown)


def test_by_default_the_most_probable_class_and_the_most_excited_unit(run: RunFolder, image: str) -> None:
    explanation = explain(run, image)
    assert explanation.index == explanation.probabilities.argmax()
    assert explanation.at_stage is not None
    same = explain(run, image, class_name=explanation.classes[explanation.index], unit=explanation.at_stage.unit)
    np.testing.assert_array_equal(same.at_stage.grad_cam, explanation.at_stage.grad_cam)  # type: ignore[union-attr]
    for unit in (0, 15):
        other = explain(run, image, stage="C3", unit=unit).at_stage
        assert other is not None
        assert other.unit == unit
        assert other.activation <= explanation.at_stage.activation


def test_without_its_data_there_are_no_patches_and_it_is_said(run: RunFolder, image: str, tmp_path: Path) -> None:
    moved = RunFolder(run.path)
    moved.config.unlock()
    moved.config.dataset.source = f"npz:{tmp_path}/gone"
    explanation = explain(moved, image)
    write(explanation, tmp_path)
    assert not (tmp_path / "patches.png").exists()
    assert (tmp_path / "grad_cam.png").exists()
    numbers = json.loads((tmp_path / "explain.json").read_text())
    assert f"{tmp_path}/gone: no such file" in numbers["patches"]["left_out"]
    assert "Patches of other images are left out" in (tmp_path / "explain.html").read_text()
    with pytest.raises(UserError, match="no such file"):  # who names a source means it
        explain(run, image, source=f"npz:{tmp_path}/gone")


def test_without_maps_the_other_methods_work(image: str, tmp_path: Path) -> None:
    config = base.get_config()
    config.model.name = "lenet1d"
    config.dataset.image_size = 8
    config.train.update(epochs=0.1, batch_size=64)
    config.evaluate.report = config.log.tensorboard = False
    train(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "grad_cam.png").touch()  # of another explanation
    explanation = explain(run, image, class_name="3")
    write(explanation, tmp_path / "page")
    assert explanation.integrated.error <= 0.01
    written = {file.name for file in (tmp_path / "page").iterdir()}
    assert written == {
        *("image.png", "saliency.png", "integrated_gradients.png", "occlusion.png"),
        *("explain.json", "explain.html"),
    }
    said = "the network has no maps of two dimensions"
    assert json.loads((tmp_path / "page" / "explain.json").read_text())["grad_cam"] == {"left_out": said}
    assert f"No Grad-CAM and no patches: {said}" in (tmp_path / "page" / "explain.html").read_text()
    with pytest.raises(UserError, match=f"--stage=C1: {said}; leave --stage out"):
        explain(run, image, stage="C1")
    with pytest.raises(UserError, match=f"--unit=0: {said}"):
        explain(run, image, unit=0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"stage": "C33"}, "--stage=C33: the stages with maps are C1, S2, C3, S4; nearest: C3"),
        ({"stage": "output"}, "--stage=output: the stages with maps are C1, S2, C3, S4"),
        ({"class_name": "standin"}, f"--class=standin: the 2 classes are {EVIL}, standing; nearest: standing"),
        ({"unit": 16}, "--unit=16: stage C3 has the units 0 to 15"),
        ({"unit": -1, "stage": "C1"}, "--unit=-1: stage C1 has the units 0 to 7"),
        ({"source": "digitz"}, "digitz: must start with one of"),
    ],
)
def test_what_is_wrong_is_one_line(run: RunFolder, image: str, asked: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        explain(run, image, **asked)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_image_that_cannot_be_used_is_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--image=none\.jpg: cannot be read \(No such file or directory\)"):
        explain(run, "none.jpg")
    (tmp_path / "words.png").write_text("no image")
    with pytest.raises(UserError, match=r"words\.png: must be a JPEG, PNG or WebP image"):
        explain(run, str(tmp_path / "words.png"))
