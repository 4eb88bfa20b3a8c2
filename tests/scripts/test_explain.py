import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from tests.conftest import Command
from train.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small LeNet-5 that has seen some of the embedded digits."""
    config: ConfigDict = base.get_config()
    config.model.update(widths=(4, 6), hidden=(16,))
    config.dataset.image_size = 16
    config.train.update(epochs=0.2, batch_size=64)
    config.evaluate.report = config.log.tensorboard = False
    folder = tmp_path_factory.mktemp("run")
    train(config, folder)
    return f"--run={folder}"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An image whose name is no text."""
    file = tmp_path / os.fsdecode(b"\xe4.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)).save(file)
    return f"--image={file}"


def test_a_folder_with_pictures_numbers_and_a_page(command: Command, run: str, image: str, tmp_path: Path) -> None:
    output = tmp_path / "explained"
    process = command("explain", run, image, f"--output={output}", "--class=7", "--stage=C1", "--unit=2", "--images=50")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines()[-1] == f"{output}/explain.html"
    assert "integrated gradients add up within" in process.stdout
    numbers = json.loads((output / "explain.json").read_text())
    assert numbers["explained"]["class"] == "7"
    assert (numbers["patches"]["stage"], numbers["patches"]["unit"], numbers["patches"]["searched"]) == ("C1", 2, 50)
    assert "\\udce4.png" in (output / "explain.html").read_text()


def test_what_is_wrong_is_one_line(one_line_error: Callable[..., str], run: str, image: str, tmp_path: Path) -> None:
    output = f"--output={tmp_path / 'explained'}"
    assert "--run=FOLDER, --image=FILE and --output=FOLDER are needed" in one_line_error("explain", run, output)
    assert "--stage=C2: the stages with maps are" in one_line_error("explain", run, image, output, "--stage=C2")
    assert not (tmp_path / "explained").exists()
    (tmp_path / "explained").touch()
    assert "is no folder" in one_line_error("explain", run, image, output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "image.png").write_bytes(b"a photo of mine")
    line = one_line_error("explain", run, image, f"--output={tmp_path / 'mine'}")
    assert "holds a file image.png that is no explanation's" in line
