import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from tests.conftest import CHECKOUT, Command, command_line
from train.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A perceptron that has seen the embedded digits once."""
    config: ConfigDict = base.get_config()
    config.evaluate.report = False
    config.model.update(name="mlp", hidden=(16,))
    config.train.update(epochs=1.0, batch_size=64)
    config.log.tensorboard = False
    folder = tmp_path_factory.mktemp("run")
    train(config, folder)
    return f"--run={folder}"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images, one of whose names is no text."""
    (tmp_path / "images").mkdir()
    for index, name in enumerate((b"a.png", b"b.png", b"\xe4.png")):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / os.fsdecode(name))
    return tmp_path / "images"


def test_json_of_folder_and_standard_input(run: str, images: Path) -> None:
    buffer = io.BytesIO()
    Image.open(images / "b.png").save(buffer, "PNG")
    line = command_line("predict", run, "--json", "--top=3", str(images), "-")
    process = subprocess.run(line, input=buffer.getvalue(), capture_output=True, cwd=CHECKOUT, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stderr == b""
    answers = json.loads(process.stdout)
    assert [answer["image"] for answer in answers] == [*map(str, sorted(images.iterdir())), "-"]
    for answer in answers:
        assert answer.keys() == {"image", "predictions"}
        assert len(answer["predictions"]) == 3
        for guess in answer["predictions"]:
            assert guess.keys() == {"class", "index", "probability"}
            assert guess["class"] == str(guess["index"])
            assert 0 <= guess["probability"] <= 1
    assert answers[3]["predictions"] == answers[1]["predictions"]


def test_text_and_an_image_that_cannot_be_used(command: Command, run: str, images: Path) -> None:
    (images / "b.png").write_text("no image")
    process = command("predict", run, "--top=2", str(images), "none.jpg")
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        f"{images}/b.png: must be a JPEG, PNG or WebP image, is none of them",
        "none.jpg: cannot be read (No such file or directory)",
        "error: 2 of 4 images cannot be used; they are named above",
    ]
    name, first, second, gap, *other = process.stdout.splitlines()
    assert (name, gap) == (f"{images}/a.png", "")
    assert other[0] == f"{images}/\\udce4.png"
    shares = [float(line.split("%")[0]) for line in (first, second)]
    assert 100 >= shares[0] >= shares[1] >= 0
    assert {line.split()[1] for line in (first, second)} <= set("0123456789")


def test_json_of_nothing_that_can_be_used_is_an_empty_list(command: Command, run: str) -> None:
    process = command("predict", run, "--json", "none.jpg")
    assert process.returncode == 1
    assert json.loads(process.stdout) == []
    assert process.stderr == "error: none.jpg: cannot be read (No such file or directory)\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["x.jpg"], "--run=FOLDER is missing"),
        (["RUN"], "IMAGE is missing: python -m scripts.predict --run=FOLDER IMAGE..."),
        (["RUN", "configs"], "configs: holds no image"),
        (["--run=configs", "x.jpg"], "configs: no run folder (config.json is missing)"),
        (["RUN", "--top=0", "x.jpg"], "--top=0"),
    ],
)
def test_what_is_wrong_is_one_line(
    one_line_error: Callable[..., str], run: str, flags: list[str], message: str
) -> None:
    assert message in one_line_error("predict", *(run if flag == "RUN" else flag for flag in flags))
