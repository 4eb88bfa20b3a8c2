"""The report in a run folder."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.train.report import photos
from train import devices, network, settings
from train.data import dataset
from train.data.activations import Activations
from train.data.roles import Dataset
from train.errors import UserError
from train.evaluate import make_evaluator
from train.report import writing
from train.report.answers import make_answerer

FILES = [f"{name}.{kind}" for name in ("confusion", "duplicates", "mistakes") for kind in ("json", "png")]
Given = tuple[ConfigDict, Any, Dataset]


def given(config: ConfigDict, root: Path) -> Given:
    """An untrained perceptron and photos."""
    config.dataset.update(source=f"folder:{root}", image_size=16, validation=0.0)
    settings.resolve(config)
    data = dataset.load(config.dataset)
    return config, network.build(config, jax.random.key(1)), data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ants and bees, one of each class's test photos in training too, one of these with the other label."""
    root = photos.folder_of(tmp_path / "photos")
    shutil.copy(root / "test" / "ants" / "02.jpg", root / "train" / "bees" / "a $copy$_.jpg")
    photos.save(root / "train" / "bees" / "nearly.jpg", photos.scene(1003), 50)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A run folder."""
    (tmp_path / "run").mkdir()
    yield tmp_path / "run"
    assert not list((tmp_path / "run").glob(".*"))


def write(folder: Path, made: Given) -> list[str]:
    return writing.write(folder, made[0], made[1], made[2], devices.make_mesh(1))


def test_the_report_of_a_folder_of_photos(config: ConfigDict, root: Path, folder: Path) -> None:
    made = given(config, root)
    lines = write(folder, made)
    assert sorted(file.name for file in folder.iterdir()) == FILES
    for name in FILES[1::2]:
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
    confusion, duplicates, mistakes = (json.loads((folder / name).read_text()) for name in FILES[::2])
    config, described, data = made
    figures = make_evaluator(described[0], config, devices.make_mesh(1))(*described[1:], data.test)
    counts = np.array(confusion["counts"])
    assert counts.trace() / counts.sum() == pytest.approx(figures["accuracy"])
    assert mistakes["count"] == counts.sum() - counts.trace() == len(mistakes["mistakes"])
    assert {entry["id"].split("/")[1] for entry in mistakes["mistakes"]} <= {"ants", "bees"}
    assert all(entry["id"].split("/")[1] == entry["label"] for entry in mistakes["mistakes"])
    assert duplicates["accuracy"] == pytest.approx(figures["accuracy"])
    assert [(pair["kind"], pair["test"], pair["train"]) for pair in duplicates["pairs"]] == [
        ("exact", "test/ants/02.jpg", "train/bees/a $copy$_.jpg"),
        ("near", "test/bees/03.jpg", "train/bees/nearly.jpg"),
    ]
    assert duplicates["pairs"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert len(lines) == 2
    assert lines[0].startswith(f"{mistakes['count']} mistakes among 12 test images: {folder}/mistakes.png")
    assert "2 of 12 test images were in training too (1 exactly, 1 nearly, 1 with another label)" in lines[1]
    assert f"{duplicates['accuracy_without']:.2%} without; take them out" in lines[1]


def test_what_there_is_not_is_not_drawn(config: ConfigDict, tmp_path: Path, folder: Path) -> None:
    """Neither mistakes nor duplicates: pictures of an earlier report go."""
    config, described, data = given(config, photos.folder_of(tmp_path / "photos", test=3))
    for name in ("mistakes.png", "duplicates.png"):
        (folder / name).write_bytes(b"of an earlier report")
    graph, params, stats = described
    assert not isinstance(data.test, Activations)
    answers = make_answerer(graph, config, devices.make_mesh(1))(params, stats, data.test)
    right = data.test.take(np.flatnonzero(answers.right))
    assert right.total
    without = Dataset(data.train, None, right, "test", "", (), data.origins | {"test": data.origins["test"]})
    lines = write(folder, (config, described, without))
    assert sorted(file.name for file in folder.iterdir()) == [
        "confusion.json",
        "confusion.png",
        "duplicates.json",
        "mistakes.json",
    ]
    assert lines == [
        f"no mistake among {right.total} test images; {folder}/confusion.png",
        "no test image was found among the training images",
    ]


def test_digits_are_too_much_alike(config: ConfigDict, folder: Path) -> None:
    settings.resolve(config)
    data = dataset.load(config.dataset)
    lines = write(folder, (config, network.build(config, jax.random.key(0)), data))
    assert "that near duplicates cannot be told from others: only exact ones were looked for" in lines[1]
    assert json.loads((folder / "duplicates.json").read_text())["bound"] is None
    assert json.loads((folder / "mistakes.json").read_text())["mistakes"][0]["id"].startswith("train/")


def test_a_folder_that_cannot_be_written_is_named(
    config: ConfigDict, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = given(config, photos.folder_of(tmp_path / "photos", train=6, test=2))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=rf"{folder}/confusion\.json.*cannot be written \(No space left on device\)"):
        write(folder, made)
    assert list(folder.iterdir()) == []
