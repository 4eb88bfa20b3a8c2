"""The recipes for ImageNet on a miniature of it, in the same form: with other sizes, and nothing else changed."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from tests.train.data import imagenet
from tests.train.data.test_decode import encode, scene
from train.data import tfds

SLOW = pytest.mark.slow


@pytest.fixture(scope="session")
def miniature(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    odd = {  # ImageNet has such files
        "n01440764_gray.JPEG": encode(scene(300, 200).convert("L")),
        "n01440764_inks.JPEG": encode(scene(300, 200).convert("CMYK")),
        "n01440764_png.JPEG": encode(scene(300, 200), "PNG"),
    }
    imagenet.build(real_data / "imagenet_samples256", real_data / "imagenet_index" / "labels.txt", folder, odd)
    return folder


def test_it_has_imagenets_form(miniature: Path, real_data: Path, tmp_path: Path) -> None:
    ours, official = tfds.builder(imagenet.NAME, miniature), tfds.builder(imagenet.NAME, tmp_path)
    assert not official.is_prepared()
    assert ours.info.full_name == official.info.full_name
    assert ours.info.supervised_keys == official.info.supervised_keys
    assert ours.info.features.to_json() == official.info.features.to_json()
    names = ours.info.features["label"].names
    assert names == official.info.features["label"].names
    assert names == (real_data / "imagenet_index" / "labels.txt").read_text().split()


def test_photos_are_passed_on_as_files(miniature: Path, real_data: Path) -> None:
    """TFDS shuffles, so they are compared as sets."""
    source = tfds.read(imagenet.NAME, data_dir=str(miniature), stream=True, image_size=224, channels=None)
    validation = source.splits["validation"]
    records = validation.records.read(range(validation.total))
    files = sorted((real_data / "imagenet_samples256").glob("*/*"))[::3]
    assert {data for data, _ in records} == {path.read_bytes() for path in files}
    assert source.class_names is not None
    by_content = {path.read_bytes(): path.parent.name for path in files}
    assert all(source.class_names[label] == by_content[data] for data, label in records)
    everything = source.splits["train"].load(np.arange(194), 64, "bilinear", lambda _: lambda w, h: (0, 0, w, h))
    assert everything.images.shape == (194, 64, 64, 3)  # gray, inks and PNG among them


def train(command: Command, recipe: str, miniature: Path, run: Path, *sizes: str) -> list[float]:
    """Take two steps, and return the losses of all steps and of the test."""
    line = [f"--config=configs/{recipe}", f"--config.dataset.data_dir={miniature}", f"--workdir={run}", *sizes]
    process = command("train", *line, "--config.log.every_steps=1")
    assert process.returncode == 0, process.stderr
    result = json.loads((run / "result.json").read_text())
    assert (result["test_split"], result["test"]["count"]) == ("val", 64)
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    return [*losses, result["test"]["loss"]]


@pytest.mark.parametrize("form", ["2012", *(pytest.param(form, marks=SLOW) for form in ("torchvision", "modern"))])
def test_alexnets_recipes_train(form: str, miniature: Path, command: Command, tmp_path: Path) -> None:
    sizes = ["--config.dataset.image_size=67", "--config.train.batch_size=32", "--config.train.epochs=0.3"]
    if form == "modern":
        sizes.append("--config.schedule.warmup_epochs=0.1")
    losses = train(command, f"alexnet_imagenet.py:{form}", miniature, tmp_path / "run", *sizes)
    assert losses == pytest.approx([np.log(1000)] * 3, rel=0.3)  # as of who guesses


def test_vgg16s_recipe_trains_behind_net_a(miniature: Path, command: Command, tmp_path: Path) -> None:
    sizes = ["--config.dataset.image_size=32", "--config.train.batch_size=16", "--config.train.epochs=0.15"]
    first = train(command, "vgg16_imagenet.py:net_a", miniature, tmp_path / "a", *sizes)
    net_a = f"--config.transfer.net_a={tmp_path / 'a'}"
    then = train(command, "vgg16_imagenet.py:paper", miniature, tmp_path / "d", *sizes, net_a)
    assert [*first, *then] == pytest.approx([np.log(1000)] * 6, rel=0.3)
