"""The folder of a sweep: many launches make it at once, and what is damaged in it is named."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.conftest import fresh
from train import settings
from train.errors import UserError
from train.run import RunFolder
from train.sweep import by_processes, by_ray, together
from train.sweep.folder import SweepFolder
from train.sweep.trials import Trial

TRIAL = Trial("seed=0", {"seed": 0})


def test_array_jobs_make_a_folder_together(config: ConfigDict, tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def create(path: Path) -> None:
        barrier.wait()
        SweepFolder.create(path, config)

    with ThreadPoolExecutor(8) as jobs:
        for attempt in range(5):
            list(jobs.map(create, [tmp_path / str(attempt)] * 8))
    with pytest.raises(UserError, match="holds a sweep of another config"):
        SweepFolder.create(tmp_path / "0", fresh(config, batch_size=32))


def test_a_launch_that_was_killed_keeps_nobody_out_and_leaves_nothing(config: ConfigDict, tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "w", config)
    (folder.path / ".shard-0-of-1").mkdir()  # which was its lock
    another = pytest.raises(UserError, match="another process writes there")
    with folder.writing("shard-0-of-1"), another, folder.writing("shard-0-of-1"):
        pass
    assert not (folder.path / ".shard-0-of-1").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"status": "failed"}', "{", "\xff"])
def test_a_damaged_end_is_named(config: ConfigDict, tmp_path: Path, text: str) -> None:
    folder = SweepFolder.create(tmp_path / "w", config)
    ends = (folder.path / "ended" / "seed=0.json", folder.run(TRIAL) / "result.json")
    for end in ends:
        end.parent.mkdir(parents=True)
        end.write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=rf"{end.name}: cannot be read \(.*; without it, the same command runs it"):
            folder.outcome(TRIAL)


def test_what_cannot_be_swept_so_is_said(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed: Any = SimpleNamespace(train=None)
    with pytest.raises(UserError, match=r"digits: is read from disk batch by batch; try --by=processes"):
        together.check_images(config, streamed)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'--by=ray: is not installed; pip install -e ".\[sweep\]"'):
        by_ray.check(config)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.sweep.folder.write_whole", full)
    with pytest.raises(UserError, match=r"w: cannot be written \(No space left on device\); choose another --workdir"):
        SweepFolder.create(tmp_path / "w", config)


def test_a_log_that_cannot_be_written_is_named(config: ConfigDict, tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path, config)
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(UserError, match=r"logs/seed=0.* cannot be written \(.*\); make room or mend it"):
        by_processes.run(folder, [], [TRIAL], 1, lambda line: None)


def test_runs_of_other_images_or_weights_are_not_compared(config: ConfigDict, tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "w", config)
    trials = [Trial(f"seed={seed}", {"seed": seed}) for seed in range(3)]
    completed = fresh(config)
    settings.resolve(completed)
    completed.dataset.update(classes=10, channels=1, mean=(0.5,), std=(0.25,))
    begun = {"transfer": {"sha256": {"C1": "a"}}}
    for trial, fingerprint, more in zip(trials, ("x", "x", "x"), ({}, {}, begun), strict=True):
        folder.run(trial).mkdir(parents=True)
        data = {"fingerprint": fingerprint, "source": "digits", "counts": {"train": 3}}
        RunFolder.create(folder.run(trial), completed, {"data": data, **more})
    folder.check_data(trials[:2])
    with pytest.raises(
        UserError, match=r"seed=2: has learnt from other images, or begun with other weights, than .*=0"
    ):
        folder.check_data(trials)
    varied = [Trial(trial.name, {"dataset.per_class": place}) for place, trial in enumerate(trials)]
    folder.check_data(varied)
