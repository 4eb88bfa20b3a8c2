import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Command, command_line
from train.records import METRICS, RESULT, read_metrics
from train.run import RunFolder

OneLine = Callable[..., str]
# A perceptron on the digits as they are: a run takes a second, most of it the start.
SMALL = (
    *("--config.model.name=mlp", "--config.model.hidden=(8,)", "--config.dataset.image_size=8"),
    *("--config.augment.shift=0", "--config.train.ema=0.0", "--config.log.tensorboard=False"),
    *("--config.schedule.warmup_epochs=0.5", "--config.evaluate.every_epochs=1.0"),
)
# Of a command in another folder than the checkout.
FROM_ANYWHERE = os.environ | {"PYTHONPATH": str(CHECKOUT)}


def ranges(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ranges.toml"
    path.write_text(text)
    return f"--sweep={path}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=w"], "--sweep=... is missing: the file of ranges"),
        (["--sweep=x.toml"], "--workdir=... is missing: its folder"),
        (["--sweep=nowhere.toml", "--workdir=w"], "--sweep=nowhere.toml: cannot be read (No such file or directory)"),
        (["--sweep=README.md", "--workdir=w"], "--sweep=README.md: is not TOML"),
        (["--workdir=w", "--config.train.epoch=3"], "nearest: config.train.epochs"),
        (["SEEDS", "--workdir=w", "--config.seed=3"], "--config.seed: "),
        (["SEEDS", "--workdir=w", "--shard=3/3"], "--shard=3/3: must be i/n"),
        (["SEEDS", "--workdir=w", "--jobs=2"], "--jobs: is for --by=processes or ray"),
        (["SEEDS", "--workdir=w", "--address=auto"], "--address: is for --by=ray"),
        (["SEEDS", "--workdir=README.md"], "README.md: "),
        (["SEEDS", "--workdir=docs"], "docs: holds files that are no sweep's; choose another --workdir"),
        (["SEEDS", "--workdir=w", "--by=ray", "--config.dataset.validation=0"], "config.dataset.validation=0: ASHA"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    one_line_error: OneLine, tmp_path: Path, flags: list[str], message: str
) -> None:
    seeds = ranges(tmp_path, "[grid]\nseed = [0, 1]")
    flags = [flag.replace("=w", f"={tmp_path}/w") if flag == "--workdir=w" else flag for flag in flags]
    assert message in one_line_error("sweep", *[seeds if flag == "SEEDS" else flag for flag in flags])


def test_a_dry_run_lists_the_trials_and_leaves_nothing(command: Command, tmp_path: Path) -> None:
    seeds = ranges(tmp_path, "[grid]\nseed = [0, 1, 2]\naugment.shift = [1, 2]")
    process = command("sweep", seeds, "--dry_run", "--shard=1/2", f"--workdir={tmp_path}/w")
    assert process.stdout.splitlines() == ["seed=0--shift=2", "seed=1--shift=2", "seed=2--shift=2", "3 of 6 trials"]
    assert not (tmp_path / "w").exists()


def test_shards_by_processes_and_what_one_that_fails_leaves(command: Command, tmp_path: Path) -> None:
    rates = ranges(tmp_path, "[grid]\nschedule.learning_rate = [0.05, 1e30]\nseed = [0, 1]")
    flags = (rates, f"--workdir={tmp_path}/w", *SMALL, "--config.train.epochs=2")
    first = command("sweep", *flags, "--shard=0/2", "--by=processes", "--jobs=2")
    assert first.returncode == 1
    reason = r"the loss of step \d+ is (nan|inf)"
    assert re.search(
        rf"error: 1 of 4 runs failed \(learning_rate=1e\+30--seed=0: {reason}.*--retry_failed", first.stderr
    )
    assert len(first.stderr.splitlines()) == 1
    found = json.loads((tmp_path / "w/sweep.json").read_text())
    assert found["counts"] == {"finished": 1, "stopped": 0, "failed": 1, "unfinished": 0, "waiting": 2}
    # The other shard, another way; its table has all of them.
    second = command("sweep", *flags, "--shard=1/2")
    assert second.returncode == 1
    found = json.loads((tmp_path / "w/sweep.json").read_text())
    assert found["counts"]["finished"] == found["counts"]["failed"] == 2
    assert found["groups"][0]["finished"] == 2
    assert found["groups"][1]["test"] is None
    assert found["groups"][0]["test"]["mean"] > 0.5
    page = (tmp_path / "w/sweep.html").read_text()
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "").replace("www.w3.org", "")
    assert "learning_rate=1e+30--seed=0" in page
    for name in ("parallel", "curves"):
        assert (tmp_path / f"w/sweep/{name}.png").read_bytes().startswith(b"\x89PNG")
    # Both ways come to the same kind of run, and the whole sweep repeats nothing.
    one, other = (RunFolder(tmp_path / f"w/runs/learning_rate=0.05--seed={seed}") for seed in (0, 1))
    assert one.result["step"] == other.result["step"]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "w/runs").rglob("*")}
    assert command("sweep", *flags).returncode == 1
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "w/runs").rglob("*")} == before
    # Another config is not this sweep.
    process = command("sweep", *flags, "--config.train.batch_size=32")
    assert "holds a sweep of another config (train.batch_size: 64 there, 32 here)" in process.stderr


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder and are not waited for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has gone meanwhile
            continue
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked for in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_their_sweep_which_goes_on(command: Command, tmp_path: Path, number: int) -> None:
    seeds = ranges(tmp_path, "[grid]\nseed = [0, 1, 2]")
    folder = tmp_path / "w"
    flags = (seeds, "--by=processes", "--jobs=2", *SMALL, "--config.train.epochs=40")
    # From another folder than the checkout: what is relative begins there, for the processes too.
    shutil.copy(CHECKOUT / "configs" / "lenet5_digits.py", tmp_path / "mine.py")
    line = command_line("sweep", *flags, "--workdir=w", "--config=mine.py")
    process = subprocess.Popen(line, cwd=tmp_path, env=FROM_ANYWHERE, stdout=subprocess.PIPE, text=True)
    runs = [folder / "runs" / f"seed={seed}" for seed in range(3)]
    until(lambda: all(len(read_metrics(run / METRICS)) > 3 for run in runs[:2]))
    os.kill(process.pid, number)
    said, _ = process.communicate()
    until(lambda: not processes_of(folder))
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert ("stopped by SIGTERM; 0 of 3 runs have ended" in said) == (number == signal.SIGTERM)
    assert not (folder / "ended").exists()
    for run in runs[:2]:
        said = (folder / "logs" / f"{run.name}.txt").read_text()
        stopped = re.search(r"stopped by SIGTERM after step ([\d,]+) of", said)
        assert stopped, said
        assert (run / "checkpoints" / stopped[1].replace(",", "")).is_dir()
    if number == signal.SIGTERM:  # and to the end
        finished = command("sweep", *flags, f"--workdir={folder}")
        assert finished.returncode == 0, finished.stderr
        assert all((run / RESULT).exists() for run in runs)
        assert "resumed" in RunFolder(runs[0]).environment
