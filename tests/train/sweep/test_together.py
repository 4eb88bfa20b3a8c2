"""Runs that train together are the runs that they would be alone."""

import contextlib
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import fresh
from tests.train.test_checkpoints import data_files, flip
from train import loop, settings
from train.checkpoints import load_network
from train.data import dataset
from train.devices import make_mesh
from train.errors import UserError
from train.evaluate import evaluate_run
from train.records import METRICS, RESULT, read_metrics
from train.run import MetricsLog, RunFolder
from train.sweep import by_vmap, together, traced
from train.sweep.figures import collect
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.ranges import Asha, Ranges
from train.sweep.together import Entrant
from train.sweep.trials import Trial, config_of, trials
from train.whole import lock

OF_TIME = ("seconds", "images_per_second")


def grid(**values: tuple[Any, ...]) -> Ranges:
    return Ranges({key.replace("__", "."): value for key, value in values.items()}, {}, 1, 0, Asha())


def swept(config: ConfigDict, ranges: Ranges, path: Path) -> tuple[SweepFolder, list[Trial], list[str]]:
    folder, lines = SweepFolder.create(path, config), list[str]()
    every = trials(ranges)
    by_vmap.run(folder, config, every, lines.append)
    return folder, every, lines


def contents(path: Path) -> dict[str, tuple[int, bytes]]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def same(one: Path, other: Path) -> None:
    """Two run folders say the same, but for times and last bits."""
    lines, others = (read_metrics(path / METRICS) for path in (one, other))
    assert [line.keys() for line in lines] == [line.keys() for line in others]
    for line, its in zip(lines, others, strict=True):
        for key in line.keys() - set(OF_TIME):
            if isinstance(line[key], float):
                assert line[key] == pytest.approx(its[key], abs=1e-4), (key, line["step"])
            else:
                assert line[key] == its[key]
    runs = [RunFolder(path) for path in (one, other)]
    assert not settings.differences(runs[0].config, runs[1].config)
    assert runs[0].environment.keys() - {"resumed"} == runs[1].environment.keys()
    results = [run.result for run in runs]
    assert results[0].keys() - {"together"} == results[1].keys() - {"together"}
    assert results[0]["best_step"] == results[1]["best_step"]
    assert results[0]["test"] == pytest.approx(results[1]["test"], abs=1e-4)
    checkpoints = [sorted(file.name for file in (path / "checkpoints").iterdir()) for path in (one, other)]
    assert checkpoints[0] == checkpoints[1]
    for ours, theirs in zip(*(jax.tree.leaves(load_network(run, make_mesh(1))[1:]) for run in runs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_sweep_leaves_the_runs_that_scripts_train_would(config: ConfigDict, tmp_path: Path) -> None:
    config.model.name, config.model.hidden = "lenet5", None
    config.model.widths, config.model.hidden, config.dataset.image_size = (2, 4), (16,), 20
    config.augment.rotate = 5.0
    config.train.ema = 0.9
    config.log.tensorboard = True
    config.train.epochs, config.evaluate.every_epochs = 1.0, 0.5
    ranges = grid(
        seed=(0, 3),
        schedule__learning_rate=(0.05,),
        optimizer__weight_decay=(1e-3, 1e-2),
        schedule__name=("cosine",),
    )
    folder, every, lines = swept(config, ranges, tmp_path / "sweep")
    assert lines == [
        "group 1 of 1: 4 runs in one program, whose arguments are the seed, the learning rate by step, "
        "optimizer.weight_decay"
    ]
    for trial in every[::3]:
        alone = tmp_path / trial.name
        loop.train(config_of(config, trial), alone)
        same(folder.run(trial), alone)
    run = RunFolder(folder.run(every[0]))
    assert evaluate_run(run, "digits") == {"split": "test", "skipped": 0, **run.result["test"]}
    assert run.result["together"] == 4
    # And scripts.train takes it for its own.
    before = contents(folder.run(every[0]))
    loop.train(config_of(config, every[0]), folder.run(every[0]))
    assert contents(folder.run(every[0])) == before


@pytest.mark.parametrize("vectorised", [False, True])
def test_both_ways_of_putting_runs_into_a_program_compute_the_same(
    config: ConfigDict, tmp_path: Path, vectorised: bool
) -> None:
    config.train.epochs, config.schedule.name = 1.0, "one_cycle"
    config.optimizer.momentum = 0.8
    entrants = []
    for number in range(5):
        own = fresh(config)
        own.seed, own.optimizer.momentum = number, 0.5 + number / 20
        own.optimizer.clip_norm = 1.0 + number
        settings.resolve(own)
        data = dataset.load(own.dataset)
        entrants.append(Entrant(str(number), own, tmp_path / str(number)))
    keys = traced.traceable(entrants[0].config, ("optimizer.momentum", "optimizer.clip_norm"), data.train.total)
    assert keys == ("optimizer.momentum", "optimizer.clip_norm")
    assert together.train(entrants, keys, data, lambda name, reason: pytest.fail(reason), vectorised) == 0
    alone = fresh(config)
    alone.seed, alone.optimizer.momentum, alone.optimizer.clip_norm = 4, 0.7, 5.0
    loop.train(alone, tmp_path / "alone")
    same(tmp_path / "4", tmp_path / "alone")


def test_what_can_be_an_argument_is_found_out_by_trying(config: ConfigDict) -> None:
    config.augment.update(rotate=5.0, shift=1)
    config.train.ema, config.train.label_smoothing, config.model.dropout = 0.9, 0.1, 0.5
    config.optimizer.name = "adamw"
    settings.resolve(config)
    images = dataset.load(config.dataset).train.total
    keys = [key for key, value in settings.leaves(config) if type(value) in (int, float) and key != "seed"]
    assert set(traced.traceable(config, keys, images)) == {
        *("augment.rotate", "optimizer.b1", "optimizer.b2", "train.ema", "train.label_smoothing"),
    }


def test_runs_that_differ_in_more_train_in_groups(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    ranges = grid(model__hidden=((4,), (8,)), optimizer__weight_decay=(0.0, 1e-3, 1e-2), seed=(0, 1))
    folder, every, lines = swept(config, ranges, tmp_path)
    # No decay is another program than some.
    assert [line.partition(" in one")[0] for line in lines] == [
        f"group {number} of 4: {runs} runs" for number, runs in ((1, 2), (2, 4), (3, 2), (4, 4))
    ]
    found, _ = collect(folder, ranges, every)
    assert found["counts"]["finished"] == 12
    assert {row["finished"] for row in found["groups"]} == {2}
    means = [row["validation"]["mean"] for row in found["groups"]]
    assert means == sorted(means, reverse=True)


def test_a_run_that_fails_says_why_and_the_others_go_on(config: ConfigDict, tmp_path: Path) -> None:
    ranges = grid(schedule__learning_rate=(0.1, 1e30), seed=(0, 1))
    folder, every, lines = swept(config, ranges, tmp_path)
    outcomes = {trial.name: folder.outcome(trial) for trial in every}
    assert [outcome.status for outcome in outcomes.values()] == ["finished", "finished", "failed", "failed"]
    reason = outcomes["learning_rate=1e+30--seed=0"].reason
    assert reason.startswith("the loss of step 2 is ")
    assert "not finite are now hidden1.bias, hidden1.kernel, output.bias and " in reason
    assert reason.endswith(
        "there is no checkpoint before it; try config.optimizer.clip_norm=1, or a config.schedule.learning_rate "
        "below 1e+30"
    )
    assert sum("failed: the loss of step" in line for line in lines) == 2
    # And it is not tried again, unless somebody says so.
    before = contents(tmp_path)
    swept(config, ranges, tmp_path)
    assert contents(tmp_path) == before
    folder.forget_failure(every[2])
    folder.forget_failure(every[0])
    assert [folder.outcome(trial).status for trial in every] == ["finished", "finished", "unfinished", "failed"]


@pytest.mark.parametrize("vectorised", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_that_diverges_keeps_its_best_and_harms_no_other(
    config: ConfigDict, tmp_path: Path, vectorised: bool
) -> None:
    # Each evaluation's best state lies in memory, until there is a last one to write with it.
    config.schedule.update(name="step", milestones=(2.2,), factor=1e30)
    entrants = []
    for number, factor in enumerate((1.0, 1e30, 1.0)):
        own = fresh(config)
        own.seed, own.schedule.factor = number, factor
        settings.resolve(own)
        data = dataset.load(own.dataset)
        entrants.append(Entrant(str(number), own, tmp_path / str(number)))
    told: dict[str, str] = {}
    assert together.train(entrants, (), data, told.__setitem__, vectorised) == 0
    assert told.keys() == {"1"}
    kept = re.search(r"^the loss of step 4\d is .*; the checkpoint of step (\d+) is kept; try ", told["1"])
    assert kept, told["1"]
    best = max(
        (row for row in read_metrics(tmp_path / "1" / METRICS) if row["split"] == "validation"),
        key=lambda row: (row["accuracy"], row["step"]),
    )
    assert best["step"] == int(kept[1])
    assert [path.name for path in (tmp_path / "1" / "checkpoints").iterdir()] == [kept[1]]
    load_network(RunFolder(tmp_path / "1"), make_mesh(1))
    for number in (0, 2):
        alone = fresh(config)
        alone.seed, alone.schedule.factor = number, 1.0
        loop.train(alone, tmp_path / f"{number} alone")
        same(tmp_path / str(number), tmp_path / f"{number} alone")


def test_a_group_that_cannot_be_built_fails_and_the_others_go_on(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    folder, every, _ = swept(config, grid(train__batch_size=(64, 5000)), tmp_path)
    assert [folder.outcome(trial).status for trial in every] == ["finished", "failed"]
    assert "there are 1293 images to train on" in folder.outcome(every[1]).reason


def stopped_after(folder: SweepFolder, trial: Trial, lines: int) -> Callable[[], None]:
    """Sends SIGTERM to this process when a run has so many lines of metrics."""

    def watch() -> None:
        while len(read_metrics(folder.run(trial) / METRICS)) < lines:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    return watch


def test_a_sweep_that_was_stopped_goes_on_and_repeats_nothing(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs, config.evaluate.every_epochs, config.log.every_steps = 30.0, 10.0, 1
    ranges = grid(seed=(0, 1, 2), train__label_smoothing=(0.1, 0.2))
    folder, every = SweepFolder.create(tmp_path / "sweep", config), trials(ranges)
    watcher = threading.Thread(target=stopped_after(folder, every[0], 30))
    watcher.start()
    with pytest.raises(InterruptedSweep, match=r"stopped by SIGTERM; 0 of 6 runs have ended"):
        by_vmap.run(folder, config, every, lambda line: None)
    watcher.join()
    steps = {folder.outcome(trial).step for trial in every}
    assert len(steps) == 1
    assert 29 <= steps.pop() < 607
    # One of them is trained to its end by itself: the others are not held up, and it is not repeated.
    loop.train(config_of(config, every[1]), folder.run(every[1]))
    before = contents(folder.run(every[1]))
    lines = list[str]()
    by_vmap.run(folder, config, every, lines.append)
    assert lines[0].startswith("group 1 of 1: 5 runs")
    assert contents(folder.run(every[1])) == before
    assert {folder.outcome(trial).status for trial in every} == {"finished"}
    loop.train(config_of(config, every[0]), tmp_path / "alone")
    same(folder.run(every[0]), tmp_path / "alone")


class LateSignal(contextlib.nullcontext[Any]):
    """A signal that comes between the first look at it and the second."""

    def __init__(self) -> None:
        super().__init__(self)
        self._looks = itertools.count()

    @property
    def number(self) -> int:
        return signal.SIGTERM if next(self._looks) else 0

    def asked(self, step: int) -> int:
        return self.number


def test_a_signal_that_comes_late_in_a_step_is_heeded_after_the_next(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "Signals", LateSignal)
    folder, every = SweepFolder.create(tmp_path, config), trials(grid(seed=(0,)))
    with pytest.raises(InterruptedSweep):
        by_vmap.run(folder, config, every, lambda line: None)
    assert (folder.run(every[0]) / "checkpoints" / "2").is_dir()


def test_a_damaged_checkpoint_costs_that_run_a_launch_more(config: ConfigDict, tmp_path: Path) -> None:
    config.checkpoint.keep = 2
    folder, every, _ = swept(config, grid(seed=(0, 1)), tmp_path / "sweep")
    for trial in every:
        (folder.run(trial) / RESULT).unlink()
    last = max((folder.run(every[0]) / "checkpoints").iterdir(), key=lambda path: int(path.name))
    flip(data_files(last, "network")[-1], 0.5)
    lines = list[str]()
    by_vmap.run(folder, config, every, lines.append)
    assert [folder.outcome(trial).status for trial in every] == ["unfinished", "finished"]
    assert f"goes on from step 41, the others from {last.name}; run the same command again" in lines[-1]
    assert (folder.run(every[0]) / "damaged" / last.name).is_dir()
    by_vmap.run(SweepFolder.create(folder.path, config), config, every, lines.append)
    loop.train(config_of(config, every[0]), tmp_path / "alone")
    same(folder.run(every[0]), tmp_path / "alone")


def test_a_folder_holds_one_sweep(config: ConfigDict, tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "sweep", config)
    other = fresh(config, batch_size=32)
    with pytest.raises(UserError, match=r"holds a sweep of another config \(train.batch_size: 64 there, 32 here\)"):
        SweepFolder.create(folder.path, other)
    with pytest.raises(UserError, match=r"train.epochs: 3.0 there, 4.0 here"):
        SweepFolder.create(folder.path, fresh(config, epochs=4.0))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that are no sweep's"):
        SweepFolder.create(tmp_path, config)
    assert not (tmp_path / "base.json").exists()
    assert json.loads((folder.path / "base.json").read_text())["train"]["batch_size"] == 64


def test_what_cannot_be_trained_together_says_so(config: ConfigDict, tmp_path: Path) -> None:
    config.transfer.mode, config.transfer.weights = "finetune", "runs/another"
    folder, every, _ = swept(config, grid(seed=(0,)), tmp_path)
    assert folder.outcome(every[0]).reason.endswith("begin from scratch; try --by=processes")


def test_a_folder_that_can_never_be_had_is_not_waited_for(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    folder, every = SweepFolder.create(tmp_path / "sweep", config), trials(grid(seed=(0, 1)))
    (tmp_path / "disk").mkdir()
    folder.run(every[0]).mkdir(parents=True)
    (folder.run(every[0]) / "checkpoints").symlink_to(tmp_path / "disk")
    by_vmap.run(folder, config, every, lambda line: None)
    assert [folder.outcome(trial).status for trial in every] == ["failed", "finished"]
    assert "checkpoints: is a link to a folder" in folder.outcome(every[0]).reason


def test_one_that_cannot_begin_leaves_the_others_alone(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    folder, every = SweepFolder.create(tmp_path, config), trials(grid(seed=(0, 1, 2)))
    foreign, busy = folder.run(every[0]), folder.run(every[1])
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    lines = list[str]()
    with lock(busy), pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "is_free", lambda trial: True)  # somebody has come in between
        by_vmap.run(folder, config, every, lines.append)
    assert [folder.outcome(trial).status for trial in every] == ["failed", "waiting", "finished"]
    assert folder.outcome(every[0]).reason.startswith(f"{foreign}: holds files that are no run's")
    assert any(line.startswith(f"seed=1: unfinished: {busy}: another process writes there") for line in lines)
    with pytest.raises(UserError, match=r"1 of 3 runs have no end \(seed=1: .*another process writes there"):
        folder.check_ends(every, [])


def test_a_full_disk_leaves_runs_open(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.train.epochs = 1.0

    def full(log: MetricsLog, record: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")  # the system names no file

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", full)
        folder, every, lines = swept(config, grid(seed=(0, 1)), tmp_path)
    assert lines[-1] == (
        f"seed=1: unfinished: {tmp_path}: No space left on device; make room or mend it, and run the same command again"
    )
    assert [folder.outcome(trial).status for trial in every] == ["unfinished"] * 2
    swept(config, grid(seed=(0, 1)), tmp_path)
    assert [folder.outcome(trial).status for trial in every] == ["finished"] * 2


def test_a_folder_that_another_process_writes_into_is_waited_for(config: ConfigDict, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    folder, every = SweepFolder.create(tmp_path, config), trials(grid(seed=(0, 1)))

    def hold() -> None:
        with lock(folder.run(every[0])):
            held.set()
            while folder.is_open(every[1]):
                time.sleep(0.01)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    by_vmap.run(folder, config, every, lambda line: None)
    holder.join()
    assert [folder.outcome(trial).status for trial in every] == ["finished", "finished"]


def test_what_is_said_to_come_out_to_the_bit_does(config: ConfigDict, tmp_path: Path) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("it is said of CPUs")
    config.augment.rotate, config.train.ema, config.optimizer.clip_norm = 5.0, 0.9, 1.0
    config.schedule.name = "cosine"
    other = {"augment.rotate": 10.0, "train.ema": 0.99, "optimizer.clip_norm": 0.3, "optimizer.weight_decay": 1e-2}
    other |= {"seed": 3, "schedule.learning_rate": 0.02, "optimizer.momentum": 0.8}
    config.optimizer.weight_decay, config.optimizer.momentum = 1e-3, 0.9
    here = {key: value for key, value in settings.leaves(config) if key in other}
    every = [Trial("one", here), Trial("other", other)]
    folder, lines = SweepFolder.create(tmp_path / "sweep", config), list[str]()
    by_vmap.run(folder, config, every, lines.append)
    assert lines[0].startswith("group 1 of 1: 2 runs")
    for trial in every:
        loop.train(config_of(config, trial), tmp_path / trial.name)
        paths = folder.run(trial), tmp_path / trial.name
        networks = [jax.tree.leaves(load_network(RunFolder(path), make_mesh(1))[1:]) for path in paths]
        for ours, theirs in zip(*networks, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        losses = [[line["loss"] for line in read_metrics(path / METRICS)] for path in paths]
        assert losses[0] == losses[1]
