import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Command
from tests.train.data.test_folder import photo
from train.run import RunFolder

OneLine = Callable[..., str]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.train.epoch=3"], "config.train.epoch: no such key; nearest: config.train.epochs"),
        (["--config.learning_rate=3"], "config.learning_rate: no such key; nearest: config.schedule.learning_rate"),
        (["--config.zzz=3"], "config.zzz: no such key"),
        (["--config.model=mlp"], "config.model is a section: set one of its keys, config.model.activation"),
        (["--config", "configs/nope.py"], "--config=configs/nope.py: no such file"),
        (["--config.train.epochs=many"], "--config.train.epochs=many: could not convert string to float: 'many'"),
        (["--config.train.batch_size=1.5"], "--config.train.batch_size=1.5: invalid literal for int()"),
        (["--config.augment.flip=perhaps"], "--config.augment.flip=perhaps"),
        (["--config.train.batch_size=0", "--workdir=never"], "config.train.batch_size=0: must be at least 1"),
        (["--config.model.name.x=3"], "config.model.name.x: no such key; nearest: config.model.name"),
        (["--config=configs/lenet5_mnist.py:mlp"], "--config=FILE:ARGUMENT: this file takes no argument"),
        (["--workdirs=x"], "Unknown command line flag 'workdirs'. Did you mean: workdir ?"),
        (["stray"], "stray: flags start with two hyphens (--name=value)"),
        ([], "--workdir=FOLDER is missing"),
        (
            ["--workdir=/dev/null/a\nrun"],
            r"/dev/null/a\nrun: cannot be written (Not a directory); choose another folder",
        ),
        (["--workdir=~no such user/run"], "~: Could not determine home directory.; write the path out"),
        (["--preview=p.jpg"], "--preview=p.jpg: must end in .png"),
        (["--preview=/nowhere/p.png"], "/nowhere/p.png: No such file or directory"),
    ],
)
def test_a_wrong_command_line_is_one_line(one_line_error: OneLine, flags: list[str], message: str) -> None:
    assert message in one_line_error("train", *flags)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.train.epoch = 3.0", "bad.py:5: config.epoch: no such key; nearest: config.train.epochs"),
        ("config.train.epochs = 'many'", "bad.py:5: "),
        ("config.train.epochs = undefined", "bad.py:5: name 'undefined' is not defined"),
        ("config train", "bad.py:5: invalid syntax"),
        ("config.unlock(); config.train.epoch = 3.0", "config.train.epoch: no such key; nearest: config.train.epochs"),
        ("config = None", "get_config() has returned NoneType"),
        ("config = __import__('ml_collections').ConfigDict()", "config.augment.color_noise is missing"),
    ],
)
def test_a_wrong_config_file_is_one_line(one_line_error: OneLine, tmp_path: Path, line: str, message: str) -> None:
    lines = ["from configs import base", "", "def get_config():", "    config = base.get_config()", f"    {line}"]
    (tmp_path / "bad.py").write_text("\n".join([*lines, "    return config", ""]))
    error = one_line_error("train", f"--config={tmp_path}/bad.py", f"--workdir={tmp_path}/run")
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_missing_config_file_names_the_nearest(one_line_error: OneLine) -> None:
    error = one_line_error("train", "--config=configs/lenet_mnist.py", "--workdir=x")
    assert "--config=configs/lenet_mnist.py: no such file; nearest: lenet5_mnist.py" in error


def test_flags_may_come_in_any_order(one_line_error: OneLine) -> None:
    error = one_line_error(
        "train", "--config.train.epochs=0", "--workdir=x", f"--config={CHECKOUT}/configs/mlp_mnist.py"
    )
    assert "config.train.epochs=0.0: must be above 0" in error


def test_debug_shows_the_traceback(command: Command) -> None:
    process = command("train", "--debug", "--config.train.epochs=0", "--workdir=x")
    assert process.returncode == 1
    assert "Traceback" in process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: config.train.epochs=0.0: must be above 0")


def test_a_run_then_its_evaluation(command: Command, one_line_error: OneLine, tmp_path: Path) -> None:
    flags = [f"--workdir={tmp_path}/run", "--config.train.epochs=2", "--config.schedule.warmup_epochs=1"]
    process = command("train", *flags)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""  # a clean run says nothing there
    assert "lenet5: 61,706 parameters" in process.stdout
    assert f"report: {tmp_path}/run/report.html" in process.stdout.splitlines()
    assert (tmp_path / "run" / "report.html").is_file()

    process = command("evaluate", f"--run={tmp_path}/run", f"--output={tmp_path}/figures.json")
    assert process.returncode == 0, process.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    contract = {*("source", "protocol", "count", "loss", "accuracy", "top5_accuracy")}
    assert figures.keys() == contract | {*("runs", "split", "skipped", "interval", "top5_interval", "classes")}
    result = RunFolder(tmp_path / "run").result
    assert {name: figures[name] for name in result["test"]} == pytest.approx(result["test"], rel=1e-6)

    error = one_line_error("train", *flags, "--config.seed=1")
    assert "holds a run of another config (seed: 0 there, 1 here)" in error
    assert "no run folder" in one_line_error("evaluate", f"--run={tmp_path}")
    assert "no such folder" in one_line_error("evaluate", f"--run={tmp_path}/run", f"--source=idx:{tmp_path}/x")
    assert "--run=FOLDER is missing" in one_line_error("evaluate")
    error = one_line_error("evaluate", f"--run={tmp_path}/run", "--output=/nowhere/f.json")
    assert "--output=/nowhere/f.json: there is no folder /nowhere that can be written to" in error
    error = one_line_error("evaluate", f"--run={tmp_path}/run", f"--output={tmp_path}")
    assert "is a folder; name a file" in error
    error = one_line_error("evaluate", f"--run={tmp_path}/run", "--protocol=centre")
    assert "--protocol=centre: centre must be one of center" in error
    error = one_line_error("evaluate", f"--run={tmp_path}/run", "--scales=large")
    assert "--scales=large: must be whole numbers of pixels" in error


def test_preview(command: Command, tmp_path: Path) -> None:
    process = command("train", f"--preview={tmp_path}/p.png")
    assert "rows from the top: as read, shift, affine, all together" in process.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["train", "evaluate", "benchmark", "prepare"])
def test_help_tells_the_flags(command: Command, name: str) -> None:
    process = command(name, "--help")
    assert f"python -m scripts.{name}" in process.stdout
    assert process.returncode == 0
    assert "compilation_cache" in process.stdout
    assert ("--config.KEY=VALUE" in process.stdout) is (name in ("train", "benchmark"))


def test_run_as_a_file_names_the_right_command() -> None:
    process = subprocess.run([sys.executable, "scripts/train.py"], capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 1
    assert "run it as: python -m scripts.train" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_cache_of_programs_can_be_moved_and_switched_off(command: Command, tmp_path: Path) -> None:
    flags = ["--config.train.epochs=0.1", "--config.schedule.warmup_epochs=0", "--config.evaluate.report=False"]
    command("train", *flags, f"--workdir={tmp_path}/1", f"--compilation_cache={tmp_path}/cache")
    assert any((tmp_path / "cache").iterdir())
    count = len(list((tmp_path / "cache").iterdir()))
    process = command("train", *flags, f"--workdir={tmp_path}/2", "--compilation_cache=")
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / "cache").iterdir())) == count


def test_workers_leave_no_word_behind_an_error(one_line_error: OneLine, tmp_path: Path) -> None:
    for index in range(20):
        photo(tmp_path / "photos" / "ab"[index % 2] / f"{index}.jpg", index)
    line = one_line_error(
        "train",
        f"--config.dataset.source=folder:{tmp_path / 'photos'}",
        "--config.dataset.workers=2",
        "--config.train.batch_size=8",
        "--config.train.epochs=100",
        "--config.model.name=mlp",
        "--config.model.hidden=(16,)",
        "--config.schedule.learning_rate=1e9",
        f"--workdir={tmp_path / 'run'}",
    )
    assert "not finite are now hidden1.bias" in line
