"""A folder of photos becomes a classifier, with weights of others and without."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import own_photos
from tests.train.report import photos
from train.loop import train
from train.run import RunFolder

LISTS = [f"report/{name}.{kind}" for name in ("confusion", "mistakes", "duplicates") for kind in ("json", "png")]
REPORT = [*LISTS, "report.html"]


def quick(root: Path, weights: Path | None = None) -> ConfigDict:
    """The experiment with LeNet-5 and few steps."""
    config = own_photos.get_config(str(root))
    config.model.name = "lenet5"
    config.train.update(epochs=3.0, batch_size=8)
    config.transfer.weights = None if weights is None else str(weights)
    return config


def test_photos_alone_train_a_network_and_another_begins_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos.folder_of(tmp_path / "first")
    train(quick(tmp_path / "first"), tmp_path / "scratch")
    printed = capsys.readouterr().out
    assert "from scratch" in printed.splitlines()[0]

    second = photos.folder_of(tmp_path / "second")
    photos.save(second / "train" / "wasps" / "0.jpg", photos.scene(2000))
    photos.save(second / "train" / "wasps" / "1.jpg", photos.scene(2001))
    photos.save(second / "train" / "wasps" / "2.jpg", photos.scene(1004))  # test/ants/04.jpg
    photos.save(second / "test" / "wasps" / "3.jpg", photos.scene(2003))
    train(quick(second, tmp_path / "scratch"), tmp_path / "run")
    printed = capsys.readouterr().out
    assert f"from {tmp_path}/scratch" in printed.splitlines()[0]
    folder = RunFolder(tmp_path / "run")
    assert folder.config.transfer.mode == "stored"
    assert folder.config.transfer.frozen_until == "F6"
    assert folder.config.dataset.classes == 3
    assert folder.config.dataset.class_names == ("ants", "bees", "wasps")
    assert folder.config.dataset.image_size == 32
    for name in REPORT:
        assert (tmp_path / "run" / name).is_file()
    assert folder.result is not None
    confusion = json.loads((tmp_path / "run" / "report" / "confusion.json").read_text())
    right = sum(confusion["counts"][i][i] for i in range(3))
    assert right == round(folder.result["test"]["accuracy"] * folder.result["test"]["count"])
    assert "1 of 13 test images were in training too (1 exactly, 0 nearly, 1 with another label)" in printed

    for name in REPORT:
        (tmp_path / "run" / name).unlink()
    train(quick(second, tmp_path / "scratch"), tmp_path / "run")  # as if it had been killed before its report
    assert "this run is finished" in capsys.readouterr().out
    for name in REPORT:
        assert (tmp_path / "run" / name).is_file()


def test_mistakes_need_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store whose photos have gone can be trained on; the report has what there is to see without them."""
    root = photos.folder_of(tmp_path / "photos")
    train(quick(root), tmp_path / "scratch")
    train(quick(root, tmp_path / "scratch"), tmp_path / "run")
    root.rename(tmp_path / "away")
    config = quick(tmp_path / "nowhere", tmp_path / "scratch")
    config.dataset.source = f"features:{tmp_path}/run/features"
    capsys.readouterr()
    train(config, tmp_path / "again")
    assert "is not there: the report is without images" in capsys.readouterr().out
    assert (tmp_path / "again" / "report" / "curves.png").is_file()
    assert not (tmp_path / "again" / "report" / "confusion.json").exists()
