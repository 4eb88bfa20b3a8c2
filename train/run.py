"""The run folder: what a run is (config, environment) and what it did (metrics, result).

A run can be killed at any moment. Files that say "finished" or "this config" appear whole or not at all, and metrics
are cut back to the step that a resumed run starts at.
"""

import contextlib
import json
import math
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ml_collections import ConfigDict

from train import settings
from train.errors import NotFiniteError, UserError
from train.records import CONFIG, ENVIRONMENT, METRICS, RESULT, read, read_metrics, read_said
from train.whole import cannot_be_made, draft_of, write_whole

# Where torch is installed, tensorboardX would load it for the sake of a type: two seconds of every start. None in this
# place says "not installed".
_kept_out = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402  without a thread: errors are ours to report
from tensorboardX.proto.event_pb2 import Event  # noqa: E402
from tensorboardX.summary import scalar  # noqa: E402

if _kept_out:
    del sys.modules["torch"]


class RunFolder:
    """A run folder that exists.

    Args:
      path: the folder.

    Raises:
      UserError: there is no run in it, or its files are not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / CONFIG).is_file():
            raise UserError(f"{path}: no run folder ({CONFIG} is missing); scripts.train --workdir={path} makes one")
        self.config = read(path / CONFIG, _complete)
        self.environment: dict[str, Any] = read_said(path / ENVIRONMENT)
        self.result: dict[str, Any] | None = None
        if (path / RESULT).exists():
            self.result = read_said(path / RESULT)

    @classmethod
    def create(cls, path: Path, config: ConfigDict, environment: dict[str, Any]) -> "RunFolder":
        """Make a run folder of an existing one, or open what an earlier launch of the same run has made of it.

        Raises:
          UserError: the folder holds another run (its differing keys are named) or other files, or cannot be written.
        """
        if (path / CONFIG).exists():
            folder = cls(path)
            folder._must_be(config, environment["data"]["fingerprint"])
            if folder.result is None:
                folder._note_resumption(environment)
            return folder
        try:
            # A launch that was killed here may have left these behind.
            unfinished = {ENVIRONMENT, draft_of(path / ENVIRONMENT).name, draft_of(path / CONFIG).name}
            if {entry.name for entry in path.iterdir()} - unfinished:
                raise UserError(f"{path}: holds files that are no run's; choose another --workdir")
            write_whole(path / ENVIRONMENT, to_json(environment))
            write_whole(path / CONFIG, settings.to_json(config))  # last: from here on this is a run folder
        except OSError as error:
            with contextlib.suppress(OSError):
                (path / ENVIRONMENT).unlink(missing_ok=True)
            raise cannot_be_made(path, error) from error
        return cls(path)

    def _must_be(self, config: ConfigDict, fingerprint: str) -> None:
        if "weights" in self.environment:
            raise UserError(f"{self.path}: holds imported weights, which no training goes on; choose another --workdir")
        different = settings.differences(self.config, config)
        if fingerprint != self.environment["data"]["fingerprint"]:
            different.append(
                f"the content of {config.dataset.source} is not what {self.environment['data']['source']} was"
            )
        if different:
            raise UserError(
                f"{self.path}: holds a run of another config ({'; '.join(different)}); "
                "choose another --workdir, or set these as they were"
            )
        if config.train.epochs > self.config.train.epochs:  # the run is made longer
            (self.path / RESULT).unlink(missing_ok=True)
            self.result = None
        if settings.to_json(config) != settings.to_json(self.config):  # longer, or the data lies elsewhere now
            write_whole(self.path / CONFIG, settings.to_json(config))
            self.config = config

    def _note_resumption(self, environment: dict[str, Any]) -> None:
        """Add to environment.json what this launch runs on: it may be another machine, or newer code."""
        self.environment.setdefault("resumed", []).append({k: v for k, v in environment.items() if k != "data"})
        try:
            write_whole(self.path / ENVIRONMENT, to_json(self.environment))
        except OSError as error:
            raise cannot_be_made(self.path, error) from error

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json: from here on the run is finished."""
        write_whole(self.path / RESULT, to_json(result))
        self.result = result


class MetricsLog:
    """metrics.jsonl, and the same scalars for TensorBoard.

    Args:
      folder: the run folder.
      step: where the run starts; later lines of an earlier launch are cut off.
      tensorboard: whether to write for TensorBoard too.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool) -> None:
        path = folder / METRICS
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a")
        self._events = None
        if tensorboard:
            # TensorBoard's files cannot be cut back; they are written anew from the lines that stand.
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
            (folder / "tensorboard").mkdir()
            self._events = EventsWriter(str(folder / "tensorboard" / "events"))
            for record in kept:
                self._scalars(record)

    def write(self, record: dict[str, Any]) -> None:
        """Append one line; it is in the system's hands, and survives a kill, when this returns."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        self._scalars(record)

    def sync(self) -> None:
        """Bring all lines to the disk, past any cut of power."""
        os.fsync(self._file.fileno())

    def _scalars(self, record: dict[str, Any]) -> None:
        if self._events is None:
            return
        for name, value in record.items():
            if name not in ("step", "split", "seconds"):
                summary = scalar(f"{record['split']}/{name}", value)
                self._events.write_event(Event(wall_time=time.time(), step=record["step"], summary=summary))
        self._events.flush()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def metrics_line(
    split: str, step: int, steps_per_epoch: float, values: dict[str, Any], learning_rate: float, seconds: float
) -> dict[str, Any]:
    """Return a line of metrics.jsonl.

    Raises:
      NotFiniteError: the loss is not finite.
    """
    if not math.isfinite(values["loss"]):
        raise NotFiniteError(f"the {split} loss after step {step:,} is {values['loss']}")
    where = {"step": step, "epoch": round(step / steps_per_epoch, 4), "split": split}
    return where | values | {"learning_rate": learning_rate, "seconds": seconds}


def result_of(
    run: Path, total: int, best: int, seconds: float, parameters: int, compile_seconds: float, test: dict[str, Any]
) -> dict[str, Any]:
    """Return what result.json holds of a run of `total` steps, tested at the step `best`; `test` is the last two keys.

    Raises:
      NotFiniteError: the loss of the test is not finite.
    """
    if not math.isfinite(loss := test["test"]["loss"]):
        raise NotFiniteError(f"the test loss after step {best:,} is {loss}")
    training = [line for line in read_metrics(run / METRICS) if line["split"] == "train"]
    return {
        "step": total,
        "best_step": best,
        "seconds": seconds,
        "parameters": parameters,
        "compile_seconds": compile_seconds,
        "train": {
            "loss": training[-1]["loss"],
            "accuracy": training[-1]["accuracy"],
            "images_per_second": statistics.median(line["images_per_second"] for line in training),
        },
        **test,
    }


def _complete(text: bytes) -> ConfigDict:
    config = settings.from_json(text)
    settings.check_complete(config)
    return config


def to_json(value: dict[str, Any]) -> str:
    """Return indented JSON text."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
