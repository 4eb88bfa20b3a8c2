"""Commands that are killed: which, what they begin with, how they are started, watched and ended."""

import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from configs import base
from tests.conftest import CHECKOUT, command_line
from tests.scripts.leavings import check_whole, contents
from tests.train.report import photos
from train.loop import train
from train.run import RunFolder
from train.weights import exporting

_DIGITS = (
    "train --config=configs/base.py --config.model.name=mlp --config.dataset.image_size=8 --config.train.epochs=6 "
    "--config.train.batch_size=64 --config.checkpoint.every_steps=13 --config.log.every_steps=5 --workdir={out} "
)
_PHOTOS = (
    "train --config=configs/base.py --config.model.name=mlp --config.model.hidden=(16,) --config.dataset.image_size=24 "
    "--config.dataset.source=folder:{photos} --config.augment.random_resized_crop=0.3 --config.augment.color_noise=0.1 "
    "--config.train.batch_size=8 --config.checkpoint.every_steps=13 --config.log.every_steps=5 --workdir={out} "
    "--config.evaluate.report=False "
)
_SWEEP = (
    "sweep --config=configs/base.py --sweep={ranges} --workdir={out} --config.model.name=mlp "
    "--config.dataset.image_size=8 --config.model.hidden=(16,) --config.train.epochs=8 --config.train.batch_size=64 "
    "--config.checkpoint.every_steps=40 "
)
# By name. `{out}` does not exist before, but for reports: `{copy}` is a finished run without one. What the others are
# stands in `make_inputs`.
KINDS = {
    "resident": _DIGITS + "--config.model.hidden=(16,) --config.model.dropout=0.1 --config.evaluate.report=False",
    "report-after-training": _DIGITS + "--config.model.hidden=(16,) --config.augment.shift=1",
    "streamed": _PHOTOS + "--config.train.epochs=30 --config.evaluate.every_epochs=5",
    "workers": _PHOTOS + "--config.train.epochs=10 --config.dataset.workers=2",
    "bfloat16": _DIGITS + "--config.model.hidden=(16,) --config.precision=bfloat16 --config.evaluate.report=False",
    "ema": _DIGITS + "--config.model.hidden=(16,) --config.train.ema=0.9 --config.evaluate.report=False "
    "--config.train.accumulate=2 --config.checkpoint.keep=2",
    "stored": _DIGITS + "--config.transfer.mode=stored --config.transfer.weights={run} --config.transfer.views=4 "
    "--config.transfer.frozen_until=hidden1 --config.augment.shift=1 --config.evaluate.report=False",
    "empty-caches": _PHOTOS + "--config.train.epochs=5 --config.dataset.resize=bicubic",
    "sweep-together": _SWEEP,
    "sweep-by-processes": _SWEEP + "--by=processes --jobs=2",
    "extract": "extract --run={run} --layer=hidden1,output --views=40 --config.augment.shift=1 --output={out} "
    "--config.evaluate.batch_size=64",
    "safetensors": "export --run={run} --format=safetensors --output={where}/net.safetensors",
    "torch": "export --run={run} --format=torch --output={where}/net.pth",
    "keras": "export --run={run} --format=keras --output={where}/net.weights.h5",
    "onnx": "export --run={run} --format=onnx --output={where}/net.onnx",
    "stablehlo": "export --run={run} --format=stablehlo --output={where}/net.stablehlo",
    "cache": "prepare --source=folder:{photos} --cache={out} --image_size=400",
    "report": "report --run={copy}",
    "import": "import_weights --model=mlp --weights={weights} --workdir={out}",
    "embed": "embed --run={run} --layer=pixels,hidden1 --method=pca,tsne --points=150 --output={out}",
}
# Of what is there already, and whole, these say so as of an error, and leave it alone.
_MADE_ONCE = {"cache", "import"}
# Seconds after which no process of a command that was killed may be there: a C++ compiler ends by itself.
_PATIENCE = 120


class Kill(NamedTuple):
    """How a launch is ended.

    Attributes:
      moment: from its beginning on, as a share of the time that the uninterrupted command takes.
      signals: what comes, one 0.3 s behind the other.
      at_once: whether the next launch begins before the children of this one have ended.
    """

    moment: float
    signals: tuple[signal.Signals, ...]
    at_once: bool


def draw(chance: random.Random) -> list[Kill]:
    """Return one or two kills, of which each may come at any moment: at the start, at the end, in between."""
    ways = (signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGTERM, signal.SIGKILL)
    return [
        Kill(chance.uniform(0, 1), *chance.choices(ways, (4, 4, 1)), chance.random() < 0.5)
        for _ in range(1 + (chance.random() < 0.3))
    ]


def make_inputs(folder: Path) -> dict[str, str]:
    """Make what the commands begin with: photos, a finished run on the digits, its weights as a file, ranges."""
    photos.folder_of(folder / "photos", train=48)
    config = base.get_config()
    config.model.update(name="mlp", hidden=(16,))
    config.dataset.image_size = 8
    config.train.update(epochs=3.0, batch_size=64)
    config.evaluate.report = False
    train(config, folder / "run")
    exporting.export(RunFolder(folder / "run"), "safetensors", folder / "net.safetensors")
    (folder / "ranges.toml").write_text("[grid]\nseed = [0, 1]\nschedule.learning_rate = [0.05, 0.1]\n")
    names = {"photos": "photos", "run": "run", "weights": "net.safetensors", "ranges": "ranges.toml", "xla": "xla"}
    return {key: str(folder / name) for key, name in names.items()}


@dataclass
class Whole:
    """What an uninterrupted command leaves, and how many seconds the last one has taken."""

    contents: dict[str, Any]
    seconds: float


@dataclass
class Case:
    """A command in a folder of its own.

    Attributes:
      kind: a key of `KINDS`.
      inputs: see `make_inputs`.
      where: the folder, empty.
    """

    kind: str
    inputs: dict[str, str]
    where: Path

    def __post_init__(self) -> None:
        self.where.mkdir(parents=True)
        self._out = self.where / "out"
        if "{copy}" in KINDS[self.kind]:
            shutil.copytree(self.inputs["run"], self._out)

    def start(self) -> subprocess.Popen[str]:
        """Start the command; its output goes into files, which no child of it can keep open."""
        name, *flags = KINDS[self.kind].split()
        places = {"out": str(self._out), "copy": str(self._out), "where": str(self.where), **self.inputs}
        environment = os.environ | {"OLDMASTERS_KILLED": str(self.where)}
        if self.kind == "empty-caches":
            environment["XDG_CACHE_HOME"] = str(self.where / "caches")
        else:
            flags.append("--compilation_cache={xla}")
        line = command_line(name, *(flag.format(**places) for flag in flags))
        self._said = self.where.with_suffix(".stdout"), self.where.with_suffix(".stderr")
        with self._said[0].open("w") as out, self._said[1].open("w") as err:
            return subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, cwd=CHECKOUT, env=environment
            )

    def said(self) -> str:
        """Return what the last launch has printed."""
        return "".join(path.read_text() for path in self._said)

    def kill(self, how: Kill, seconds: float) -> float:
        """Start the command, end it, and look at what it leaves.

        Args:
          how: it is ended.
          seconds: that the uninterrupted command takes.

        Returns:
          The seconds that it has taken if it had ended before; 0 if it was ended.
        """
        began, process, status = time.monotonic(), self.start(), None
        for number, pause in zip(how.signals, (how.moment * seconds, 0.3), strict=False):
            try:
                status = process.wait(timeout=pause)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        else:
            status = _end_of(process, _PATIENCE)
        took = 0.0 if status not in (0, 1) else time.monotonic() - began
        done = {0, 1} if self.kind in _MADE_ONCE and self.is_there() else {0}
        possible = done | {code for number in how.signals for code in (-number, 128 + number)}
        assert status in possible, f"status {status}\n{self.said()}"
        assert "Traceback" not in self.said(), self.said()
        if not how.at_once:  # else they may still be at work, as the next launch begins
            self.wait_for_children()
            check_whole(self.where)
        return took

    def is_there(self) -> bool:
        return self._out.exists()

    def wait_for_children(self) -> None:
        """Wait until no process of a launch is left; they must end by themselves."""
        until = time.monotonic() + _PATIENCE
        while left := processes_of(self.where):
            assert time.monotonic() < until, f"still there: {left}"
            time.sleep(0.05)

    def finish(self) -> dict[str, Any]:
        """Run the command to its end, and return what lies in the folder then."""
        there = self.kind in _MADE_ONCE and self.is_there()
        process = self.start()
        status = _end_of(process, 600)
        if there:
            assert status == 1, self.said()
            assert "is there already" in self.said()
        else:
            assert status == 0, self.said()
            assert not self._said[1].read_text(), self.said()
        self.wait_for_children()
        check_whole(self.where)
        return contents(self.where)


def _end_of(process: subprocess.Popen[str], seconds: float) -> int:
    """Wait for the end of a process; one that finds none is a failure, and ended."""
    try:
        return process.wait(timeout=seconds)
    finally:
        process.kill()


def uninterrupted(kind: str, inputs: dict[str, str], where: Path) -> Whole:
    """Run a command from its beginning to its end."""
    case, began = Case(kind, inputs, where), time.monotonic()
    return Whole(case.finish(), time.monotonic() - began)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of all processes that a case has started, whoever their parents are now."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"OLDMASTERS_KILLED={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has gone meanwhile, or is another user's
            continue
    return found


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Say in which files two folders differ."""
    lines = [f"{name}: {'only after kills' if name in here else 'missing'}" for name in here.keys() ^ there.keys()]
    for name in sorted(here.keys() & there.keys()):
        if here[name] != there[name]:
            lines.append(f"{name}: {_first_difference(here[name], there[name])}")
    return lines


def _first_difference(here: Any, there: Any) -> str:
    if isinstance(here, dict) and isinstance(there, dict):
        pairs = [(key, here.get(key), there.get(key)) for key in sorted(here.keys() | there.keys())]
    elif isinstance(here, list | str) and isinstance(there, type(here)):
        split = (here.splitlines(), there.splitlines()) if isinstance(here, str) else (here, there)
        pairs = [(number, a, b) for number, (a, b) in enumerate(zip(*split, strict=False))] + [
            ("length", *map(len, split))
        ]
    else:
        pairs = [("", here, there)]
    return next(f"at {key}: {str(a)[:300]} after kills, {str(b)[:300]} without" for key, a, b in pairs if a != b)
