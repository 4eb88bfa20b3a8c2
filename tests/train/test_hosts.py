"""Processes that share a run, here two on one machine with two simulated devices each."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from tests.conftest import CHECKOUT, command_line
from tests.train.data.test_folder import photo
from tests.train.test_devices import LENET5
from train import hosts, loop
from train.errors import UserError
from train.hosts import Place
from train.records import METRICS, read_metrics
from train.watching import _explain

ONE, TWO = (os.environ | {"JAX_NUM_CPU_DEVICES": devices} for devices in ("1", "2"))
# A perceptron, which compiles in no time.
SMALL = """
from configs import base

def get_config():
    config = base.get_config()
    config.model.name = "mlp"
    config.model.hidden = (16,)
    config.model.dropout = 0.5
    config.dataset.image_size = 8
    config.train.batch_size = 8
    config.log.every_steps = 1
    config.log.tensorboard = False
    config.evaluate.report = False
    return config
"""
# So long that a test has time to interfere.
LONG = (
    *("--config.log.every_steps=20", "--config.train.epochs=500.0", "--config.evaluate.every_epochs=50.0"),
    *("--config.checkpoint.every_steps=20", "--config.train.batch_size=64", "--heartbeat=5"),
)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The flag of a small experiment."""
    (tmp_path / "small.py").write_text(SMALL)
    return f"--config={tmp_path / 'small.py'}"


def start(workdir: Path, *flags: str, of_second: tuple[str, ...] = ()) -> list[subprocess.Popen[str]]:
    """Start a command as two processes, the second with further flags."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    processes = []
    for number in range(2):
        where = (f"--coordinator=localhost:{port}", "--processes=2", f"--process={number}")
        line = command_line("train", f"--workdir={workdir}", *flags, *where, *(of_second if number else ()))
        cache = f"--compilation_cache={workdir.parent / 'xla'}"
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen([*line, cache], env=TWO, stdout=pipe, stderr=pipe, text=True, cwd=CHECKOUT))
    return processes


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return (exit status, standard output, standard error) of each."""
    outputs = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def running(workdir: Path) -> Iterator[str]:
    """Yield the command lines of processes that have to do with a folder."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone
            continue
        if str(workdir) in line:
            yield line


def nothing_is_left(workdir: Path) -> bool:
    """Whether all that has to do with a folder ends within seconds."""
    deadline = time.monotonic() + 10
    while list(running(workdir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not list(running(workdir))


def wait_for_checkpoint(workdir: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(entry.name.isdecimal() for entry in workdir.glob("checkpoints/*")):
        assert time.monotonic() < deadline, "no checkpoint has appeared"
        time.sleep(0.1)


def losses(workdir: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(workdir / METRICS) if record["split"] == "train"]


def alone(workdir: Path, *flags: str) -> None:
    line = command_line("train", f"--workdir={workdir}", *flags)
    process = subprocess.run(line, env=ONE, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr


def assert_the_same(tmp_path: Path, flags: tuple[str, ...], of_two: tuple[str, ...], steps: int) -> None:
    """Hold a run of two processes against that of one device."""
    alone(tmp_path / "one", *flags)
    (status, said, errors), (second, nothing, others) = ends(start(tmp_path / "two", *flags, *of_two))
    assert (status, second) == (0, 0), errors + others
    assert "cpu x 4" in said
    assert "accuracy" in said
    assert errors + nothing + others == ""
    assert len(losses(tmp_path / "one")) >= steps
    assert losses(tmp_path / "two")[:steps] == pytest.approx(losses(tmp_path / "one")[:steps], rel=1e-5)
    tests = [json.loads((tmp_path / name / "result.json").read_text())["test"] for name in ("one", "two")]
    assert tests[0]["count"] == tests[1]["count"]
    assert tests[0]["accuracy"] == pytest.approx(tests[1]["accuracy"], abs=2 / tests[0]["count"])
    noted = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert noted["processes"] == 2
    assert len(noted["devices"]) == 4


def test_the_same_losses_from_digits_in_memory(tmp_path: Path) -> None:
    assert_the_same(tmp_path, (*LENET5, "--config.train.epochs=1.0"), ("--config.mesh.model=4",), 20)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of forty photos in two classes."""
    for index in range(40):
        photo(tmp_path / "photos" / "ab"[index % 2] / f"{index}.jpg", index)
    return tmp_path / "photos"


def of_photos(photos: Path) -> tuple[str, ...]:
    return (f"--config.dataset.source=folder:{photos}", "--config.augment.random_resized_crop=0.3")


def test_the_same_losses_from_photos_of_which_each_reads_its_own(tmp_path: Path, photos: Path, small: str) -> None:
    flags = (small, *of_photos(photos), "--config.train.epochs=2.0")
    assert_the_same(tmp_path, flags, ("--config.dataset.workers=1",), 6)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["two processes", "4x2"])
def test_alexnet_takes_the_same_first_step(tmp_path: Path, photos: Path, mesh: str) -> None:
    flags = (
        *("--config=configs/alexnet_folder.py", f"--config.dataset.source=folder:{photos}"),
        *("--config.train.batch_size=8", "--config.train.epochs=0.1", "--config.schedule.warmup_epochs=0.0"),
        *("--config.schedule.name=constant", "--config.log.every_steps=1", "--config.evaluate.report=False"),
    )
    if mesh == "4x2":
        alone(tmp_path / "one", *flags)
        line = command_line("train", f"--workdir={tmp_path / 'mesh'}", *flags, "--config.mesh.model=2")
        eight = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
        assert subprocess.run(line, env=eight, cwd=CHECKOUT).returncode == 0
        assert losses(tmp_path / "mesh") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    else:
        assert_the_same(tmp_path, flags, ("--config.mesh.model=2",), 1)


@pytest.mark.parametrize("killed", ["child", pytest.param("parent", marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_others_with_a_line_and_the_same_command_goes_on(
    tmp_path: Path, small: str, killed: str
) -> None:
    run = tmp_path / "run"
    processes = start(run, small, *LONG)
    wait_for_checkpoint(run)
    watched = processes[1].pid
    children = Path(f"/proc/{watched}/task/{watched}/children").read_text().split()
    os.kill(int(children[0]) if killed == "child" else watched, signal.SIGKILL)
    (status, _, errors), (other, _, own) = ends(processes)
    assert status == 1
    assert errors.count("\n") == 1, errors
    assert re.match("error: process 0 of 2: .*; the last checkpoint is kept; the same command", errors)
    if killed == "child":
        assert other == 1
        assert re.fullmatch(r"error: process 1 of 2: ended by SIGKILL.*\n", own)
    assert nothing_is_left(run)
    processes = start(run, small, *LONG)  # and stopped in good order: one is told, both heed it
    assert processes[0].stdout is not None
    said = ""
    while "resuming after step" not in said:
        line = processes[0].stdout.readline()
        assert line, ends(processes)
        said += line
    time.sleep(1)
    for _ in range(2):  # as a launcher passes on what the scheduler has sent as well
        processes[1].send_signal(signal.SIGTERM)
        time.sleep(0.1)
    (status, first, _), (other, second, _) = ends(processes)
    assert (status, other) == (143, 143)
    steps = [re.search(r"stopped by SIGTERM after step ([\d,]+) of", output) for output in (first, second)]
    assert steps[0] is not None
    assert steps[1] is not None
    assert steps[0][1] == steps[1][1]
    assert (run / "checkpoints" / steps[0][1].replace(",", "")).is_dir()
    assert nothing_is_left(run)


@pytest.mark.parametrize(
    ("of_second", "line"),
    [
        (
            ("--config.seed=1",),
            "error: the config: of process 0 (HOST) is not that of process 1 (HOST); ",
        ),
        (("--config.dataset.source=folder:OTHER",), "error: the content of "),
    ],
)
def test_hosts_that_differ_are_named(
    tmp_path: Path, photos: Path, small: str, of_second: tuple[str, ...], line: str
) -> None:
    for index in range(40):
        photo(tmp_path / "others" / "ab"[index % 2] / f"{index}.jpg", index + 1)
    of_second = tuple(flag.replace("OTHER", str(tmp_path / "others")) for flag in of_second)
    outcomes = ends(start(tmp_path / "run", small, *of_photos(photos), "--heartbeat=5", of_second=of_second))
    assert [status for status, _, _ in outcomes] == [1, 1]
    line = line.replace("HOST", socket.gethostname())
    assert any(errors.startswith(line) for _, _, errors in outcomes), outcomes
    assert all(errors.count("\n") == 1 for _, _, errors in outcomes), outcomes
    assert not (tmp_path / "run").exists()


def test_what_jax_says_of_an_end_becomes_one_line() -> None:
    told = "process 1 of 4\n"
    lost = "Terminating process because the JAX distributed service detected fatal errors. absl::Status: UNAVAILABLE: "

    def line(said: str, number: int = signal.SIGABRT) -> str:
        return _explain(number, said, Place("a:1", 4, 1), 300, 30)

    silent = "The following tasks are unhealthy (stopped sending heartbeats):\n2\n3\nThe tasks have crashed.\n"
    assert line(told + lost + silent).startswith("process 1 of 4: process 2, 3 has ended, or is silent for 30 s; ")
    assert "process 0, which keeps all together, has ended" in line(told + lost + "Socket closed\n")
    assert line(lost + "DEADLINE_EXCEEDED\n\nRPC: /xla.coordination.CoordinationService/RegisterTask").startswith(
        "--coordinator=a:1: process 0 has not answered within 300 s"
    )
    assert "process 2 has come twice" in line(lost + "ABORTED: 2 unexpectedly tried to connect with a different")
    assert line(told, signal.SIGSEGV).startswith("process 1 of 4: ended by SIGSEGV; ")
    assert "as when memory runs out" in line("", signal.SIGKILL)


def test_what_only_several_hosts_can_meet_is_a_line(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("DEADLINE_EXCEEDED: nobody came\nat some place")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with (
        pytest.raises(UserError, match=r"jax cannot join the processes \(DEADLINE_EXCEEDED: nobody came\); mend that"),
        hosts.joined(Place("127.0.0.1:1", 2, 1)),
    ):
        pass
    # A folder that the second of two does not see.
    monkeypatch.setattr(hosts, "after_writer", lambda write, read: read())
    monkeypatch.setattr(hosts, "number", lambda: 1)
    with pytest.raises(UserError, match=r"what process 0 has written is not here, at process 1; mount it here"):
        loop.train(config, tmp_path / "run")
