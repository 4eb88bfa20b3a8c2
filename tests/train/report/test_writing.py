"""The report in a run folder."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import markupsafe
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.train.report import photos
from train import devices, environment, network, settings
from train.answers import make_answerer
from train.data import dataset
from train.data.activations import Activations
from train.data.roles import Dataset
from train.errors import UserError
from train.evaluate import make_evaluator
from train.records import METRICS
from train.report import findings, writing
from train.report.files import is_written
from train.run import RunFolder

LISTS = ["calibration", "confusion", "duplicates", "mistakes"]
PICTURES = [
    *("calibration", "confusion", "curves", "duplicates", "filters"),
    *("mistakes", "network", "neighbourhood", "stages"),
]
Given = tuple[ConfigDict, Any, Dataset]
RECORDS = [
    {"step": 5, "epoch": 1.0, "split": "train", "loss": 0.7, "accuracy": 0.5, "learning_rate": 0.1},
    {"step": 5, "epoch": 1.0, "split": "validation", "loss": 0.6, "accuracy": 0.75, "count": 8},
]
RESULT = {
    "step": 5,
    "best_step": 5,
    "seconds": 1.5,
    "parameters": 7,
    "compile_seconds": 0.5,
    "train": {"loss": 0.7, "accuracy": 0.5, "images_per_second": 900.0},
    "test_split": "test",
    "test": {"loss": 0.65, "accuracy": 0.51234, "top5_accuracy": 1.0, "count": 12},
}


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
    config, described, data = made
    run = RunFolder.create(folder, config, environment.describe(config.dataset.source, data))
    (folder / METRICS).write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS))
    run.finish(RESULT)
    return writing.write(run, described, data, devices.make_mesh(1))


def shown(folder: Path) -> str:
    """All text of the page."""
    html = (folder / "report.html").read_text()
    return " ".join(re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def names_of(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "report").iterdir())


def files(lists: list[str], pictures: list[str]) -> list[str]:
    return sorted([f"{name}.json" for name in lists] + [f"{name}.png" for name in pictures])


def test_the_report_of_a_folder_of_photos(config: ConfigDict, root: Path, folder: Path) -> None:
    made = given(config, root)
    lines = write(folder, made)
    assert names_of(folder) == files(LISTS, PICTURES)
    for name in PICTURES:
        with Image.open(folder / "report" / f"{name}.png") as image:
            assert image.format == "PNG"
    _, confusion, duplicates, mistakes = (
        json.loads((folder / "report" / f"{name}.json").read_text()) for name in LISTS
    )
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
    assert len(lines) == 3
    assert lines[2] == f"report: {folder}/report.html"
    assert lines[0].startswith(f"{mistakes['count']} mistakes among 12 test images: {folder}/report/mistakes.png")
    assert "2 of 12 test images were in training too (1 exactly, 1 nearly, 1 with another label)" in lines[1]
    assert f"{duplicates['accuracy_without']:.2%} without; take them out" in lines[1]


def test_what_there_is_not_is_not_drawn(config: ConfigDict, tmp_path: Path, folder: Path) -> None:
    """Neither mistakes nor duplicates: pictures of an earlier report go."""
    config, described, data = given(config, photos.folder_of(tmp_path / "photos", test=3))
    write(folder, (config, described, data))
    assert "mistakes.png" in names_of(folder)
    (folder / "report" / "duplicates.png").write_bytes(b"of an earlier report")
    graph, params, stats = described
    assert not isinstance(data.test, Activations)
    answers = make_answerer(graph, config, devices.make_mesh(1), ())(params, stats, data.test)
    right = data.test.take(np.flatnonzero(answers.right))
    assert right.total
    without = replace(data, test=right)
    lines = write(folder, (config, described, without))
    assert names_of(folder) == files(LISTS, ["calibration", "confusion", "curves", "filters", "network", "stages"])
    assert lines == [
        f"no mistake among {right.total} test images; {folder}/report/confusion.png",
        "no test image was found among the training images",
        f"report: {folder}/report.html",
    ]
    assert f"all {right.total} test images are recognised" in shown(folder)


def test_digits_are_too_much_alike(config: ConfigDict, folder: Path) -> None:
    settings.resolve(config)
    data = dataset.load(config.dataset)
    lines = write(folder, (config, network.build(config, jax.random.key(0)), data))
    assert "that near duplicates cannot be told from others: only exact ones were looked for" in lines[1]
    assert json.loads((folder / "report" / "duplicates.json").read_text())["bound"] is None
    assert json.loads((folder / "report" / "mistakes.json").read_text())["mistakes"][0]["id"].startswith("train/")


def test_a_folder_that_cannot_be_written_is_named(
    config: ConfigDict, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = given(config, photos.folder_of(tmp_path / "photos", train=6, test=2))

    replace = Path.replace

    def full(draft: Path, path: Path) -> Path:
        if folder in path.parents:  # compiled programs find room
            raise OSError(28, "No space left on device")
        return replace(draft, path)

    RunFolder.create(folder, made[0], environment.describe(made[0].dataset.source, made[2])).finish(RESULT)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=rf"{folder}/report/c\w+\.png.*cannot be written \(No space left on device\)"):
        writing.write(RunFolder(folder), made[1], made[2], devices.make_mesh(1))
    assert not is_written(folder)
    assert names_of(folder) == []


def test_the_page_shows_the_run_and_fetches_nothing(config: ConfigDict, root: Path, folder: Path) -> None:
    write(folder, given(config, root))
    text, html = shown(folder), (folder / "report.html").read_text()
    assert "51.23 % accuracy on 12 images of the test split" in text
    assert "was chosen on 8 validation images, of which it recognised 75.00 %" in text
    assert "train.batch_size 64" in text
    assert "Content-Security-Policy" in html
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
    addresses = re.findall(r"""(?:src|srcset|href)=["']([^"']*)""", html)
    assert len(addresses) > 20
    assert not [address[:60] for address in addresses if not address.startswith(("data:", "#"))]


def test_names_are_text_on_the_page(config: ConfigDict, tmp_path: Path, folder: Path) -> None:
    script = "<script>alert(1)<"  # a folder's name cannot hold a slash
    root = photos.folder_of(tmp_path / "photos")
    for role in ("train", "test"):
        (root / role / "bees").rename(root / role / script)
        for file in (root / role / script).iterdir():
            file.rename(file.with_name(f'"><img src=x onerror=alert(2)>{file.name}'))
    write(folder, given(config, root))
    html = (folder / "report.html").read_text()
    assert "<script>" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)&lt;" in html


def test_a_network_without_images_has_a_page_of_its_curves(config: ConfigDict, folder: Path) -> None:
    config.dataset.validation = 0.0
    settings.resolve(config)
    data = dataset.load(config.dataset)
    stored = Activations((np.zeros((4, 3), np.float32),), np.arange(4, dtype=np.int32))
    lines = write(folder, (config, network.build(config, jax.random.key(0)), replace(data, train=stored, test=stored)))
    assert lines == ["digits is not there: the report is without images", f"report: {folder}/report.html"]
    assert names_of(folder) == files([], ["curves", "filters", "network"])
    assert "The first filters" in shown(folder)
    assert "mistakes" not in shown(folder)


def test_among_very_many_training_images_nothing_is_looked_for(
    config: ConfigDict, root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "_MOST_COMPARED", 25)
    lines = write(folder, given(config, root))
    assert "whether test images were in training too was not looked for among 26" in lines
    assert "duplicates.json" not in names_of(folder)
    assert "Not looked for: there are too many training images." in shown(folder)


def test_a_report_again_is_the_same_but_for_its_times(config: ConfigDict, root: Path, folder: Path) -> None:
    made = given(config, root)
    write(folder, made)
    before = {name: (folder / "report" / name).read_bytes() for name in names_of(folder)}
    writing.write(RunFolder(folder), made[1], made[2], devices.make_mesh(1))
    assert {name: (folder / "report" / name).read_bytes() for name in names_of(folder)} == before


def test_names_that_are_no_text_are_written_as_their_bytes(config: ConfigDict, tmp_path: Path, folder: Path) -> None:
    root = photos.folder_of(tmp_path / "photos")
    for file in (root / "test" / "ants").iterdir():
        file.rename(file.with_name(os.fsdecode(b"\xe4") + file.name))
    write(folder, given(config, root))
    assert r"test/ants/\udce4" in (folder / "report.html").read_text()


def test_of_one_image_no_unit_is_called_silent(config: ConfigDict, root: Path, folder: Path) -> None:
    config, described, data = given(config, root)
    assert not isinstance(data.test, Activations)
    one = replace(data, test=data.test.take(np.array([3])))
    write(folder, (config, described, one))
    assert "Units that say nothing" not in shown(folder)
    assert "The map of the last hidden stage" not in shown(folder)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$_a", "</title>"])
def test_class_names_of_arrays_are_text_too(config: ConfigDict, tmp_path: Path, folder: Path, name: str) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        images = random.integers(0, 256, (count, 16, 16), dtype=np.uint8)
        names = np.array([name, "b"])
        np.savez(tmp_path / f"set_{split}.npz", image=images, label=np.arange(count) % 2, class_names=names)
    config.dataset.update(source=f"npz:{tmp_path}/set", image_size=16, validation=0.0)
    settings.resolve(config)
    data = dataset.load(config.dataset)
    write(folder, (config, network.build(config, jax.random.key(0)), data))
    html = (folder / "report.html").read_text()
    assert "<script>" not in html
    assert html.count("</title>") == 1
    assert markupsafe.escape(name) in html
