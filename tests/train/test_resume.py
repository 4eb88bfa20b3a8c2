"""A run that is stopped, killed or made longer ends as one that was not."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import CHECKOUT, command_line, fresh
from tests.train.data.test_folder import photo
from train import loop
from train.checkpoints import Checkpoints
from train.optimizer import make_optimizer, make_schedule
from train.records import METRICS, read_metrics
from train.run import RunFolder
from train.signals import InterruptedRun
from train.step import State, init_state, seed_of

# The only fields of metrics.jsonl that a resumed run may have otherwise.
OF_TIME = ("seconds", "images_per_second")


def last_state(folder: Path) -> State:
    config = RunFolder(folder).config
    optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, 10, 100))
    with Checkpoints(folder) as checkpoints:
        latest = checkpoints.latest()
        assert latest is not None
        return checkpoints.restore(latest, jax.jit(partial(init_state, config, optimizer))(seed_of(config)))[0]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in OF_TIME} for row in read_metrics(folder / METRICS)]


def assert_same_bits(one: Path, other: Path) -> None:
    ours, theirs = jax.tree.leaves(last_state(one)), jax.tree.leaves(last_state(other))
    for a, b in zip(ours, theirs, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert metrics(one) == metrics(other)
    for name in ("step", "best_step", "parameters", "test", "test_split"):
        assert RunFolder(one).result[name] == RunFolder(other).result[name]


def test_a_longer_run_goes_on_to_what_it_would_have_been(config: ConfigDict, tmp_path: Path) -> None:
    config.schedule.name = "constant"
    config.augment.shift = 1
    config.log.every_steps = 1  # so that the end of the short run writes no line of its own
    config.evaluate.report = True
    loop.train(fresh(config, epochs=2.0), tmp_path / "longer")
    short = (tmp_path / "longer" / "report.html").read_text()
    config.evaluate.report = False  # as if the longer run had been killed before its report
    loop.train(fresh(config, epochs=4.0), tmp_path / "longer")
    assert not (tmp_path / "longer" / "report.html").exists()
    config.evaluate.report = True
    loop.train(fresh(config, epochs=4.0), tmp_path / "longer")
    longer = (tmp_path / "longer" / "report.html").read_text()
    assert "for 41 steps" in short
    assert "for 81 steps" in longer
    loop.train(fresh(config, epochs=4.0), tmp_path / "at once")
    assert_same_bits(tmp_path / "longer", tmp_path / "at once")


FLAGS = (
    "--config.train.epochs=12",
    "--config.augment.rotate=0",
    "--config.augment.scale=0",
    "--config.augment.shear=0",
    "--config.schedule.warmup_epochs=2",
    "--config.evaluate.every_epochs=1",
    "--config.checkpoint.every_steps=13",
    "--config.log.every_steps=5",
    "--config.evaluate.report=False",
    "--config.model.dropout=0.1",
    "--config.train.accumulate=2",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sixty photos in two classes."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(60):
        photo(root / "ab"[index % 2] / f"{index}.jpg", index)
    return root


def of_photos(root: Path) -> tuple[str, ...]:
    """Return the flags that make it a run over streamed photos."""
    return (
        f"--config.dataset.source=folder:{root}",
        "--config.augment.random_resized_crop=0.3",
        "--config.augment.color_noise=0.1",
        "--config.train.epochs=40",
        "--config.train.batch_size=8",
        "--config.evaluate.every_epochs=10",
    )


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(workdir: Path, *flags: str) -> subprocess.Popen[str]:
        folders = f"--workdir={workdir}", f"--compilation_cache={tmp_path / 'xla'}"
        line = command_line("train", *FLAGS, *flags, *folders)
        return subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=CHECKOUT, start_new_session=True
        )

    return start


def _reached(path: Path, step: int) -> bool:
    return any(row["step"] >= step for row in read_metrics(path))


def wait_for_step(process: subprocess.Popen[str], workdir: Path, step: int, before: int | None = None) -> None:
    """Wait until this launch has written a row of that step: it begins with a new file, of another inode."""
    path, deadline = workdir / METRICS, time.monotonic() + 120
    while not path.exists() or path.stat().st_ino == before or not _reached(path, step):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The other is killed in tests/scripts/test_killed.py, too.
@pytest.mark.parametrize("kind", ["resident", pytest.param("streamed", marks=pytest.mark.slow)])
def test_killed_and_resumed_is_uninterrupted(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path, photos: Path, kind: str
) -> None:
    """A real process: two kill -9 at random steps, a SIGTERM, and the same command each time.

    A streamed run goes on with another number of workers each time.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = of_photos(photos) if kind == "streamed" else ()

    def launch_again(workers: int) -> subprocess.Popen[str]:
        return launch(broken, *flags, *((f"--config.dataset.workers={workers}",) if flags else ()))

    process = launch(whole, *flags)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed} repeats these steps")
    chance = random.Random(seed)
    steps = sorted(chance.sample(range(5, 150), 3))
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)
    for step, number, workers in zip(steps, numbers, (0, 1, 2), strict=True):
        before = (broken / METRICS).stat().st_ino if (broken / METRICS).exists() else None
        process = launch_again(workers)
        wait_for_step(process, broken, step, before)
        time.sleep(chance.random() / 10)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        if number == signal.SIGTERM:
            assert process.returncode == 128 + number, output
            assert "the same command resumes" in output
        assert not (broken / "result.json").exists()
    process = launch_again(0)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "resuming after step" in output
    assert_same_bits(whole, broken)


def test_ctrl_c_saves_and_says_how_to_go_on(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = launch(tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopped by SIGINT after step" in output
    assert "Traceback" not in output
    step = max(int(file.name) for file in (tmp_path / "run" / "checkpoints").iterdir())
    process = launch(tmp_path / "run")
    output, _ = process.communicate(timeout=300)
    assert f"resuming after step {step:,}" in output


def test_ctrl_c_of_a_terminal_reaches_workers_too_and_all_is_saved(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path, photos: Path
) -> None:
    workdir = tmp_path / "run"
    process = launch(workdir, *of_photos(photos), "--config.dataset.workers=2")
    wait_for_step(process, workdir, 20)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "all is saved" in output
    assert "Traceback" not in output


def test_a_signal_while_it_compiles_saves_the_first_step(config: ConfigDict, tmp_path: Path) -> None:
    prepare = loop.prepare

    def interrupted(*arguments: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return prepare(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "prepare", interrupted)
        with pytest.raises(InterruptedRun, match="stopped by SIGTERM after step 1 of 61") as interruption:
            loop.train(fresh(config), tmp_path)
    assert interruption.value.status == 143
    loop.train(fresh(config), tmp_path)
    assert RunFolder(tmp_path).result["step"] == 61
