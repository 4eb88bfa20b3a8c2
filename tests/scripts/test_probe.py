"""What scripts.probe prints and writes, of stores made by hand. tests/train/test_probes.py is about the figures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from train.data.activations import MANIFEST, VERSION, shard_name

COUNTS = {"train": 40, "validation": 20, "test": 30}
NAMES = ["ants", "bees"]


def store(path: Path, counts: dict[str, int] = COUNTS, views: int = 1) -> str:
    """Write a store of two layers: one that tells two classes, and one that says nothing. Return its flag."""
    path.mkdir()
    random = np.random.default_rng(0)
    for split, count in counts.items():
        labels = np.arange(count, dtype=np.int32) % 2
        rows = np.tile(labels, views if split == "train" else 1)
        np.save(path / f"{split}-label.npy", labels)
        telling = random.standard_normal((len(rows), 2, 2, 3)) + 4 * (2 * rows[:, None, None, None] - 1)
        np.save(path / shard_name(split, "conv1", 0), random.standard_normal((len(rows), 5)).astype(np.float16))
        np.save(path / shard_name(split, "fc7", 0), telling.astype(np.float16))
    manifest = {
        "version": VERSION,
        "of": {key: {} for key in ("network", "weights", "preprocessing")}
        | {"data": {"fingerprint": ""}, "views": {"count": views}},
        "layers": {"conv1": [5], "fc7": [2, 2, 3]},
        "dtype": "float16",
        "splits": counts,
        "shard_rows": 1000,
        "batch_size": 100,
        "config": {"dataset": {"class_names": NAMES, "classes": 2}},
    }
    (path / MANIFEST).write_text(json.dumps(manifest))
    return f"--features={path}"


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("linear", {"strength", "tried", "top5_accuracy", "train_count", "converged"}),
        ("knn", {"k", "tried", "train_count"}),
        ("few_shot", {"shots"}),
    ],
)
def test_figures_are_printed_and_written(command: Command, tmp_path: Path, method: str, own: set[str]) -> None:
    flags = [store(tmp_path / "store"), f"--method={method}", f"--output={tmp_path}/figures.json"]
    process = command("probe", *flags, *(["--shots=1,4", "--draws=3"] if method == "few_shot" else []))
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"method", "layer", "count", "accuracy", "interval", "classes", "warnings"} | own == figures.keys()
    assert (figures["method"], figures["layer"], figures["count"]) == (method, "fc7", 30)
    assert figures["accuracy"] == pytest.approx(1, abs=0.05)
    low, high = figures["interval"]
    assert f"{method} on fc7: {100 * figures['accuracy']:.2f} % (95 %: {100 * low:.2f} to {100 * high:.2f}) of 30" in (
        process.stdout
    )
    for warning in figures["warnings"]:
        assert f"note: {warning}" in process.stdout
    if method == "few_shot":
        assert [(size["images_per_class"], size["draws"]) for size in figures["shots"]] == [(1, 3), (4, 3)]
        assert "mean of 3 draws" in process.stdout
    else:
        assert all(value in process.stdout for value in figures["tried"])
        assert figures["train_count"] == 60


def test_another_layer_says_something_else(command: Command, tmp_path: Path) -> None:
    process = command("probe", store(tmp_path / "store"), "--method=knn", "--layer=conv1")
    assert process.returncode == 0, process.stderr
    line = next(line for line in process.stdout.splitlines() if line.startswith("knn on conv1: "))
    assert float(line.split()[3]) < 85


def test_views_are_images_of_their_own_but_for_few_shots(
    command: Command, one_line_error: Callable[..., str], tmp_path: Path
) -> None:
    features = store(tmp_path / "store", views=3)
    process = command("probe", features, "--method=knn", f"--output={tmp_path}/figures.json")
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["train_count"] == 3 * 40 + 20
    line = one_line_error("probe", features, "--method=few_shot", "--shots=21")
    assert "--shots=21: class 0 (ants) has 20 training images" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method=knn"], "--features=DIR is missing: a folder that scripts.extract has made"),
        (["--features=configs", "--method=knn"], "configs: holds no stored activations"),
        (["STORE"], "--method=NAME is missing: one of linear, knn, few_shot"),
        (["STORE", "--method=svm"], "--method=svm"),
        (["STORE", "--method=knn", "--layer=fc8"], "holds conv1, fc7, not fc8; nearest: fc7"),
        (["STORE", "--method=knn", "--shots=1"], "--shots: --method=knn does not take it"),
        (["STORE", "--method=few_shot", "--shots=abc"], "--shots=abc: must be whole numbers with commas between"),
        (["STORE", "--method=few_shot", "--shots="], "--shots=: must be"),
        (["STORE", "--method=few_shot", "--shots=0"], "--shots=0: must be images a class, 1 or more"),
        (["STORE", "--method=few_shot", "--draws=0"], "--draws=0"),
        (["STORE", "--method=few_shot", "--shots=5,50"], "--shots=50: class 0 (ants) has 20 training images"),
        (["STORE", "--method=linear", "--output=."], "--output=.: is a folder; name a file"),
    ],
)
def test_what_is_wrong_is_one_line(
    one_line_error: Callable[..., str], tmp_path: Path, flags: list[str], message: str
) -> None:
    features = store(tmp_path / "store")
    assert message in one_line_error("probe", *(features if flag == "STORE" else flag for flag in flags))


def test_without_validation_nothing_is_written(one_line_error: Callable[..., str], tmp_path: Path) -> None:
    features = store(tmp_path / "store", {"train": 40, "test": 20})
    line = one_line_error("probe", features, "--method=linear", f"--output={tmp_path}/figures.json")
    assert "validation: the store has no such images, and a probe needs them; extract some of them too" in line
    assert not (tmp_path / "figures.json").exists()
