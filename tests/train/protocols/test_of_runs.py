"""Finished runs asked by protocols, alone and together."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import Command, fresh
from train import loop
from train.errors import UserError
from train.protocols import of_runs, real
from train.run import RunFolder


def test_by_the_center_it_is_what_training_found(config: ConfigDict, tmp_path: Path) -> None:
    loop.train(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    answered = of_runs.answer([folder], "digits", ["center"])
    found = of_runs.figures_of(answered, folder.config)
    assert folder.result is not None
    for name, value in folder.result["test"].items():
        assert found[name] == pytest.approx(value, rel=1e-6)
    assert (found["split"], found["skipped"]) == ("test", 0)
    assert sum(row["count"] for row in found["classes"]) == 360


def test_runs_answer_together(config: ConfigDict, tmp_path: Path) -> None:
    runs = []
    for seed in (0, 1):
        one = fresh(config)
        one.seed = seed
        loop.train(one, tmp_path / str(seed))
        runs.append(RunFolder(tmp_path / str(seed)))
    alone = [of_runs.answer([run], "digits", ["center"]).answers for run in runs]
    together = of_runs.answer(runs, "digits", ["center"]).answers
    np.testing.assert_allclose(np.exp(together), np.mean(np.exp(alone), axis=0), rtol=1e-4, atol=1e-7)
    other = fresh(config)
    other.dataset.split_seed = 1
    loop.train(other, tmp_path / "other")
    with pytest.raises(UserError, match="other: has other test images"):
        of_runs.answer([runs[0], RunFolder(tmp_path / "other")], "digits", ["center"])
    fewer = fresh(config)
    fewer.dataset.only_classes = ("3", "8")
    loop.train(fewer, tmp_path / "fewer")
    with pytest.raises(UserError, match=r"fewer: has other classes than .*; their answers have no mean: give runs"):
        of_runs.answer([runs[0], RunFolder(tmp_path / "fewer")], "digits", ["center"])


def test_what_a_protocol_cannot_do_is_said(config: ConfigDict, tmp_path: Path) -> None:
    loop.train(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match=r"--scales=8,9: the protocol center shows images as training did"):
        of_runs.answer([run], "digits", ["center"], (8, 9))
    with pytest.raises(UserError, match=r"scales=\(100000,\): must be at most 16,384 pixels"):
        of_runs.answer([run], "digits", ["ten_crop"], (100_000,))
    run.config.dataset.resize = "pad"
    with pytest.raises(UserError, match=r"--protocol=dense: scales images, and config.dataset.resize=pad"):
        of_runs.answer([run], "digits", ["dense"])
    run.config.dataset.update(resize="bilinear", permutation=3)
    with pytest.raises(UserError, match=r"--protocol=dense: the pixels of this run are permuted; take center"):
        of_runs.answer([run], "digits", ["dense"])


def test_command(config: ConfigDict, tmp_path: Path, command: Command) -> None:
    config.model.update(name="lenet5", hidden=None)
    config.dataset.image_size = 32
    config.train.epochs = 1.0
    loop.train(config, tmp_path / "run")
    process = command(
        "evaluate", f"--run={tmp_path}/run", "--protocol=center,ten_crop", "--scales=", "--classes=3", "--compare",
        f"--output={tmp_path}/figures.json",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "published: nothing known" in process.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["protocol"] == "center,ten_crop"
    assert figures["count"] == 360
    assert len(figures["classes"]) == 10


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([[0], [1, 2], [], [3]], [1, 2, 3, 4], (2 / 3, 3)),
        ([[0]], [7], "has labels for ILSVRC2012_val_00000001 and on, none for val/ILSVRC2012_val_00000007.JPEG"),
        ([[]], [1], "has no label for any of the 1 images"),
        ({"a": 1}, [1], "cannot be read as a list of lists"),
    ],
)
def test_real_labels(tmp_path: Path, labels: object, names: list[int], expected: tuple | str) -> None:
    (tmp_path / "real.json").write_text(json.dumps(labels))
    ids = [f"val/ILSVRC2012_val_{number:08}.JPEG" for number in names]
    answers = np.eye(4, dtype=np.float32)[[0, 2, 1, 0]][: len(ids)]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            real.accuracy(answers, ids, tmp_path / "real.json")
    else:
        assert real.accuracy(answers, ids, tmp_path / "real.json") == pytest.approx(expected)
