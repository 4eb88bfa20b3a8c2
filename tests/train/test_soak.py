"""A long run holds no more memory, open files, threads and processes at its end than near its beginning."""

import subprocess
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from tests.conftest import CHECKOUT, command_line
from tests.train.data.test_folder import photo
from train.run import METRICS, read_metrics

STEPS = 100_000
TRAINING_PHOTOS = 43  # of sixty, by default
RESIDENT = ("--config.train.batch_size=64", f"--config.train.epochs={STEPS * 64 / 1293}")
STREAMED = (
    "--config.train.batch_size=4",
    f"--config.train.epochs={STEPS * 4 / TRAINING_PHOTOS}",
    "--config.augment.random_resized_crop=0.3",
    "--config.schedule.learning_rate=0.001",
    "--config.evaluate.every_epochs=200",
)
KINDS = {
    "resident": (*RESIDENT, "--config.evaluate.every_epochs=50", "--config.log.tensorboard"),
    "streamed": STREAMED,
    "streamed by processes": (*STREAMED, "--config.dataset.workers=2"),
}


class Sample(NamedTuple):
    """What a process and those that it has started hold."""

    step: int
    megabytes: float
    files: int
    threads: int
    processes: int


def family(pid: int) -> list[Path]:
    """Return the folders in /proc of a process and of all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    every = [pid]
    for one in every:
        every += children.get(one, [])
    return [Path("/proc", str(one)) for one in every]


def sample(pid: int, step: int) -> Sample:
    megabytes, files, threads, processes = 0.0, 0, 0, 0
    for folder in family(pid):
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        megabytes += int(status["RssAnon"].split()[0]) / 1e3 + int(status["RssShmem"].split()[0]) / 1e3
        threads += int(status["Threads"])
        files += len(list((folder / "fd").iterdir()))
        processes += 1
    return Sample(step, megabytes, files, threads, processes)


def last_step(workdir: Path) -> int:
    rows = read_metrics(workdir / METRICS) if (workdir / METRICS).exists() else []
    return rows[-1]["step"] if rows else 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="what a process holds is read in /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_steps_hold_no_more_than_ten_thousand(kind: str, tmp_path: Path) -> None:
    for index in range(60):
        photo(tmp_path / "photos" / "ab"[index % 2] / f"{index}.jpg", index)
    line = command_line(
        "train",
        "--config.model.name=mlp",
        "--config.model.hidden=(16,)",
        "--config.dataset.image_size=8",
        "--config.schedule.warmup_epochs=0",
        "--config.augment.rotate=0",
        "--config.augment.scale=0",
        "--config.augment.shear=0",
        "--config.evaluate.report=False",
        f"--workdir={tmp_path / 'run'}",
        *(() if kind == "resident" else (f"--config.dataset.source=folder:{tmp_path / 'photos'}",)),
        *KINDS[kind],
    )
    samples = []
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(line, cwd=CHECKOUT, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                time.sleep(1)
                try:
                    samples.append(sample(process.pid, last_step(tmp_path / "run")))
                except (OSError, KeyError):  # it, or one of its own, has just ended
                    continue
        finally:
            process.kill()
    assert process.returncode == 0, (tmp_path / "output").read_text()
    assert last_step(tmp_path / "run") >= STEPS - 1
    early = [one for one in samples if STEPS * 0.1 <= one.step < STEPS * 0.3]
    late = [one for one in samples if STEPS * 0.8 <= one.step < STEPS * 0.99]
    for name in ("megabytes", "files", "threads", "processes"):
        before, after = (median(getattr(one, name) for one in some) for some in (early, late))
        print(f"{kind}: {name} {before:,.0f} at a fifth, {after:,.0f} at the end, of {len(samples)} samples")
        # A pool may still be short of a thread or two. What each evaluation leaked would be there fifty times.
        assert after <= before + (before / 50 if name == "megabytes" else 2), name
