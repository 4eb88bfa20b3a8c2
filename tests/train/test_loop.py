import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import CHECKOUT, command_line, fresh
from train import hosts, loop
from train.checkpoints import Checkpoints, load_network
from train.devices import make_mesh
from train.errors import UserError
from train.evaluate import evaluate_run
from train.prepare import check_batch
from train.records import METRICS, read_metrics
from train.run import RunFolder
from train.whole import lock


def test_a_run_folder_explains_itself(config: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.train.ema = 0.9
    config.log.tensorboard = True
    loop.train(config, tmp_path / "run")
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints",
        "tensorboard",
    }
    folder = RunFolder(tmp_path / "run")
    result = folder.result
    assert result["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert result["step"] == 61  # 3 epochs of 1,293 images, 64 a step
    assert result["test"]["count"] == 360
    assert {"loss", "accuracy", "top5_accuracy", "count"} == result["test"].keys()
    assert result["test"]["accuracy"] > 0.8
    assert folder.environment["data"]["counts"] == {"train": 1293, "validation": 144, "test": 360}
    assert folder.config.dataset.classes == 10
    rows = read_metrics(folder.path / METRICS)
    assert [row["step"] for row in rows if row["split"] == "train"] == [10, 20, 30, 40, 50, 60, 61]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [21, 41, 61]
    assert {"step", "epoch", "split", "loss", "accuracy", "images_per_second", "learning_rate", "seconds"} == rows[
        0
    ].keys()
    assert evaluate_run(folder, "digits") == {"split": "test", "skipped": 0, **result["test"]}
    assert "test accuracy" in capsys.readouterr().out


def test_a_finished_run_says_so_and_stays(
    config: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.train(fresh(config, epochs=1.0), tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    capsys.readouterr()
    loop.train(fresh(config, epochs=1.0), tmp_path)
    assert "this run is finished" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_the_best_is_chosen_on_validation_and_kept(config: ConfigDict, tmp_path: Path) -> None:
    # A rate that rises to absurdity: the last checkpoint is worse than an earlier one.
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.01
    config.schedule.milestones = (4.0,)
    config.schedule.factor = 300.0
    loop.train(fresh(config, epochs=6.0), tmp_path)
    validations = [row for row in read_metrics(tmp_path / METRICS) if row["split"] == "validation"]
    best = max(validations, key=lambda row: (row["accuracy"], row["step"]))
    result = RunFolder(tmp_path).result
    assert result["best_step"] == best["step"] < result["step"]
    assert {file.name for file in (tmp_path / "checkpoints").iterdir()} == {str(best["step"]), str(result["step"])}
    # And the test figure is that checkpoint's.
    assert evaluate_run(RunFolder(tmp_path), "digits") == {"split": "test", "skipped": 0, **result["test"]}


def test_without_validation_the_last_is_tested(config: ConfigDict, tmp_path: Path) -> None:
    config.dataset.validation = 0.0
    loop.train(fresh(config), tmp_path)
    result = RunFolder(tmp_path).result
    assert result["best_step"] == result["step"]
    assert {row["split"] for row in read_metrics(tmp_path / METRICS)} == {"train"}


def test_a_checkpoint_holds_the_state_of_its_step(config: ConfigDict, tmp_path: Path) -> None:
    # Writing goes on while the next steps overwrite the memory it came from.
    config.schedule.name = "constant"
    config.checkpoint.keep = 3
    loop.train(fresh(config, epochs=3.0), tmp_path / "all")
    loop.train(fresh(config, epochs=1.0), tmp_path / "first")
    mesh = make_mesh(1)
    with Checkpoints(tmp_path / "all", 3) as checkpoints:
        _, params, stats = load_network(RunFolder(tmp_path / "first"), mesh)
        early = checkpoints.restore_network(21, {"params": params, "stats": stats, "ema": {}})
    for one, other in zip(jax.tree.leaves(early["params"]), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_is_not_finite_stops_and_keeps_what_is_good(config: ConfigDict, tmp_path: Path) -> None:
    config.schedule.name = "step"
    config.schedule.milestones = (1.2,)
    config.schedule.factor = 1e30
    config.optimizer.weight_decay = 0.1
    with pytest.raises(
        UserError, match=r"(loss|parameter) .*step \d+ .*; the checkpoint of step 21 is kept; try config"
    ):
        loop.train(fresh(config), tmp_path)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["21"]
    assert not (tmp_path / "result.json").exists()
    assert all(np.isfinite(row["loss"]) for row in read_metrics(tmp_path / METRICS))
    load_network(RunFolder(tmp_path), make_mesh(1))


def test_what_several_processes_cannot_do_is_said(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "count", lambda: 2)
    config.transfer.update(mode="stored", weights=str(tmp_path))
    monkeypatch.setattr(loop.adopting, "adopt", lambda *arguments: None)
    with pytest.raises(UserError, match=r"config.transfer.mode=stored: trains a small head on one host"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_devices_cannot_share_is_named(config: ConfigDict) -> None:
    mesh: Any = SimpleNamespace(size=4)
    with pytest.raises(UserError, match=r"batch_size=64: must be a multiple of 4 devices .* times 3 parts"):
        check_batch(fresh(config, accumulate=3), 1000, mesh)


def test_a_disk_too_small_is_said_before_it_is_full(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 5_000, 5_000))
    with pytest.raises(UserError, match=r"a checkpoint cannot be written \(it takes 0\.3 MB, and 0\.0 MB are free\)"):
        loop.train(fresh(config), tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_full_disk_is_one_line(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device\n  and much more")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(
        UserError, match=r"a checkpoint cannot be written \(RESOURCE_EXHAUSTED: No space left on device\)"
    ):
        loop.train(fresh(config), tmp_path)
    monkeypatch.undo()
    loop.train(fresh(config), tmp_path)  # room has been made
    assert RunFolder(tmp_path).result is not None


def test_an_unwritable_folder_is_one_line(config: ConfigDict, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/run: cannot be written \(Not a directory\); choose another folder"):
        loop.train(fresh(config), tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            "dataset",
            {"image_size": 15},
            "image_size=15: too small for lenet5: stage S4: a 2x2 window makes 0x0 of a 1x1 map",
        ),
        ("mesh", {"data": 64}, "config.mesh.data=64: this machine has"),
        ("dataset", {"source": "idx:nowhere"}, "nowhere: no such folder"),
        ("train", {"batch_size": 1294}, "batch_size=1294: there are 1293 images to train on; take at most as many"),
        ("dataset", {"source": "npz:nowhere.npz"}, "nowhere.npz: no such file"),
        ("dataset", {"mean": ("a",)}, "config.dataset.mean=.*must hold float or int"),
    ],
)
def test_bad_input_leaves_no_folder(
    config: ConfigDict, tmp_path: Path, section: str, changes: dict, message: str
) -> None:
    config.model.name = "lenet5"
    config.model.hidden = None
    config.dataset.image_size = 32
    config[section].update(changes)
    with pytest.raises(UserError, match=message):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_evaluating_a_run_in_training_leaves_it_alone(config: ConfigDict, tmp_path: Path) -> None:
    loop.train(fresh(config), tmp_path)
    (tmp_path / "checkpoints" / "99.orbax-checkpoint-tmp").mkdir()  # as one that is being written
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    evaluate_run(RunFolder(tmp_path), "digits")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_second_launch_keeps_out(config: ConfigDict, tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(UserError, match="another process writes there"):
        loop.train(fresh(config), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_validation_that_is_not_finite_stops_too(config: ConfigDict, tmp_path: Path) -> None:
    # One step to parameters that are finite, and logits of their third power that are not.
    config.model.hidden = (16, 16)
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e14
    with pytest.raises(
        UserError, match=r"the validation loss after step 1 is (nan|inf); there is no checkpoint before"
    ):
        loop.train(fresh(config, epochs=0.01), tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_moved_data_are_found_again(config: ConfigDict, tmp_path: Path) -> None:
    data = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", image=data.integers(0, 256, (160, 8, 8), dtype=np.uint8), label=np.arange(160) % 4)
    config.dataset.source = f"npz:{tmp_path}/a.npz"
    loop.train(fresh(config), tmp_path / "run")
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    config.dataset.source = f"npz:{tmp_path}/b.npz"
    loop.train(fresh(config), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert evaluate_run(folder, folder.config.dataset.source)["split"] == "test"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "source", "accuracy"),
    [
        ("lenet5_mnist", "mnist", 0.993),
        ("lenet5_fashion_mnist", "fashion_mnist", 0.915),
        ("lenet5_1998_mnist", "mnist", 0.987),
    ],
)
def test_the_readmes_figures(real_data: Path, tmp_path: Path, experiment: str, source: str, accuracy: float) -> None:
    line = command_line("train", f"--config={CHECKOUT}/configs/{experiment}.py", f"--workdir={tmp_path}/run")
    subprocess.run([*line, f"--config.dataset.source=idx:{real_data / source}"], check=True, cwd=CHECKOUT)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["parameters"] == (60_000 if "1998" in experiment else 61_706)
    assert result["test"]["accuracy"] >= accuracy
