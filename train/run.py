"""The run folder: what a run is (config, environment) and what it did (metrics, result).

A run can be killed at any moment. Files that say "finished" or "this config" appear whole or not at all, and metrics
are cut back to the step that a resumed run starts at.
"""

import contextlib
import fcntl
import json
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ml_collections import ConfigDict

from train import settings
from train.errors import AGAIN, NotFiniteError, UserError

# Where torch is installed, tensorboardX would load it for the sake of a type: two seconds of every start. None in this
# place says "not installed".
_kept_out = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402  without a thread: errors are ours to report
from tensorboardX.proto.event_pb2 import Event  # noqa: E402
from tensorboardX.summary import scalar  # noqa: E402

if _kept_out:
    del sys.modules["torch"]

CONFIG, ENVIRONMENT, METRICS, RESULT = "config.json", "environment.json", "metrics.jsonl", "result.json"


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
        self.config = _read(path / CONFIG, settings.from_json)
        self.environment: dict[str, Any] = _read(path / ENVIRONMENT, json.loads)
        self.result: dict[str, Any] | None = _read(path / RESULT, json.loads) if (path / RESULT).exists() else None

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
            unfinished = {ENVIRONMENT, _draft(path / ENVIRONMENT).name, _draft(path / CONFIG).name}
            if {entry.name for entry in path.iterdir()} - unfinished:
                raise UserError(f"{path}: holds files that are no run's; choose another --workdir")
            write_whole(path / ENVIRONMENT, to_json(environment))
            write_whole(path / CONFIG, settings.to_json(config))  # last: from here on this is a run folder
        except OSError as error:
            with contextlib.suppress(OSError):
                (path / ENVIRONMENT).unlink(missing_ok=True)
            raise _cannot_be_made(path, error) from error
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
            raise _cannot_be_made(self.path, error) from error

    def finish(self, result: dict[str, Any]) -> None:
        """Write result.json: from here on the run is finished."""
        write_whole(self.path / RESULT, to_json(result))
        self.result = result


def _cannot_be_made(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror}); choose another folder, or make room or mend it, and {AGAIN}"
    )


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if it is not there.

    Raises:
      UserError: something else is there, or it cannot be made.
    """
    try:
        if path.is_symlink() and not path.exists():  # perhaps to a disk that is not mounted
            raise UserError(
                f"{path}: is a link to {path.readlink()}, which is not there; make that folder, and {AGAIN}"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is no folder; choose another")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(path, error) from error


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other launches out of it; a killed one leaves no lock behind.

    If anything fails in the meantime, a folder that was made here and is still empty goes again.

    Raises:
      UserError: another process has it, or it cannot be made.
    """
    existed = path.is_dir()
    make_folder(path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _cannot_be_made(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{path}: another process writes there; wait, and {AGAIN}, or choose another folder"
            ) from error
        except OSError:  # a file system without locks: better none than no training
            pass
        yield
    finally:
        os.close(descriptor)
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()


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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; a last one that a kill has torn does not count.

    Raises:
      UserError: another line is damaged; nothing of the file is given up for it.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_text().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}: is no JSON; mend it, or delete the line") from error
    return records


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment the old or the new one stands there, whole."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into, which takes its place when all is written; after an error there is nothing of it."""
    if path.exists() and not path.is_file():  # a device or a pipe, which no file may take the place of
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # of a link, the target is replaced
    draft = _draft(path)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing can be written any more
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a full disk, the system names nothing
            error.filename, error.filename2 = str(path), None
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, which takes its place when all is written; after an error there is none.

    Raises:
      UserError: another process is making it, or it cannot be made.
    """
    path = Path(os.path.realpath(path))
    draft = _draft(path)
    try:
        with lock(draft):
            try:
                for left in draft.iterdir():  # by one that was killed
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                yield draft
                draft.replace(path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    except UserError as error:  # nobody has asked for a draft
        raise UserError(str(error).replace(str(draft), str(path))) from error


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text())
    except (OSError, ValueError) as error:
        again = "; without it, the command that trained writes it again" if path.name == RESULT else ""
        raise UserError(f"{path}: cannot be read ({error}){again}") from error


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def to_json(value: dict[str, Any]) -> str:
    """Return indented JSON text."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
