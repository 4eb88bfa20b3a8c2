"""The folder of a sweep: what its runs share, where each lies, and what has become of it.

| file | what |
|---|---|
| `base.json` | the config that all runs share |
| `runs/NAME/` | the run folders |
| `ended/NAME.json` | of a run that has no result: whether it failed or was stopped, and why |
| `logs/NAME.txt` | what the process of a run has printed |
| `sweep.json`, `sweep.html`, `sweep/` | what came of it: figures, page, pictures |
"""

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from train import json_file, settings
from train.errors import AGAIN, UserError
from train.records import CONFIG, METRICS, RESULT, read_metrics, read_said
from train.run import RunFolder, to_json
from train.signals import InterruptedRun, signal_name
from train.sweep.trials import Trial
from train.whole import Taken, hold_no_links, lock, make_folder, write_whole

BASE = "base.json"


class Outcome(NamedTuple):
    """What has become of a trial.

    Attributes:
      status: "finished"; "failed"; "stopped" by ASHA; "unfinished", which the same command goes on with; "waiting".
      reason: why it failed or was stopped.
      step: of the last line of its metrics; 0 where there is none.
      result: of result.json.
      records: the lines of metrics.jsonl.
    """

    status: str
    reason: str
    step: int
    result: dict[str, Any] | None
    records: list[dict[str, Any]]

    @property
    def validations(self) -> list[dict[str, Any]]:
        """The lines of evaluations on validation images."""
        return [line for line in self.records if line["split"] == "validation"]

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation of the best checkpoint, of equally good ones the later; None where nothing was validated."""
        return max(self.validations, key=lambda line: (line["accuracy"], line["step"]), default=None)

    @property
    def in_words(self) -> str:
        """One line of it."""
        if self.result is None:
            return f"{self.status}: {self.reason}" if self.reason else f"{self.status} after step {self.step:,}"
        found = f"{self.result['test_split']} accuracy {self.result['test']['accuracy']:.2%}"
        return f"{found}, {self.result['seconds']:.1f} s"


class InterruptedSweep(InterruptedRun):
    """A signal ended the sweep; what has been trained is saved."""

    def __init__(self, path: Path, ended: int, total: int, number: int) -> None:
        line = f"{path}: stopped by {signal_name(number)}; {ended} of {total} runs have ended, the others are saved as "
        Exception.__init__(self, line + "far as they have come, and the same command goes on")
        self.status = 128 + number


class SweepFolder:
    """The folder of a sweep.

    Args:
      path: the folder, that `create` has made.

    Attributes:
      left_open: by name, why runs of this launch have no end, though they do not run any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_open: dict[str, str] = {}

    @classmethod
    def create(cls, path: Path, config: ConfigDict) -> "SweepFolder":
        """Make the folder of a sweep, or open what an earlier launch of the same sweep has made of it.

        Args:
          path: the folder.
          config: that all runs share, not resolved.

        Raises:
          UserError: it holds the sweep of another config, or other files, or cannot be written.
        """
        base = path / BASE
        make_folder(path)
        try:
            # In this order: another launch may be making it, and base.json comes first.
            if any(not entry.name.startswith(".") for entry in path.iterdir()) and not base.exists():
                raise UserError(f"{path}: holds files that are no sweep's; choose another --workdir")
            for folder in (path, path / "runs"):
                if folder.is_dir():
                    hold_no_links(folder)
            with _alone(path):
                if base.exists():
                    _must_be(path, settings.from_json(json_file.content(base)), config)
                else:
                    write_whole(base, settings.to_json(config))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --workdir") from error
        except ValueError as error:
            raise UserError(f"{base}: cannot be read ({error}); choose another --workdir") from error
        return cls(path)

    def run(self, trial: Trial) -> Path:
        """Return the run folder of a trial."""
        return self.path / "runs" / trial.name

    def log(self, trial: Trial) -> Path:
        """Return the file of what a trial's process prints."""
        return self.path / "logs" / f"{trial.name}.txt"

    def _ended(self, trial: Trial) -> Path:
        return self.path / "ended" / f"{trial.name}.json"

    def end(self, trial: Trial, status: str, reason: str) -> None:
        """Write down that a trial has "failed" or was "stopped", and why: it is not run again."""
        self._ended(trial).parent.mkdir(exist_ok=True)
        write_whole(self._ended(trial), to_json({"status": status, "reason": reason}))

    def fail(self, trial: Trial, reason: str) -> str:
        """Write down that a trial has failed, and say so in words.

        But a trial whose reason says AGAIN stays open: it has failed for something that is not its own.
        """
        if AGAIN in reason:
            self.left_open[trial.name] = reason
            return f"unfinished: {reason}"
        self.end(trial, "failed", reason)
        return f"failed: {reason}"

    def forget_failure(self, trial: Trial) -> None:
        """Let a trial that has failed be run again."""
        if self.outcome(trial).status == "failed":
            self._ended(trial).unlink()

    def outcome(self, trial: Trial) -> Outcome:
        """Return what has become of a trial.

        Raises:
          UserError: a file of it is damaged.
        """
        run = self.run(trial)
        records = read_metrics(run / METRICS)
        step = records[-1]["step"] if records else 0
        if (run / RESULT).exists():
            return Outcome("finished", "", step, _result(run / RESULT), records)
        if self._ended(trial).exists():
            ended = _read(self._ended(trial), "status", "reason")
            return Outcome(ended["status"], ended["reason"], step, None, records)
        return Outcome("unfinished" if run.exists() else "waiting", "", step, None, records)

    def is_open(self, trial: Trial) -> bool:
        """Whether a trial is still to be run, or to be gone on with."""
        return not (self.run(trial) / RESULT).exists() and not self._ended(trial).exists()

    def check_data(self, trials: Sequence[Trial]) -> None:
        """Make sure that runs which are compared have learnt from the same images, and begun with the same weights.

        Where they lie may change between two launches, so that a launch on others is not noticed before.

        Raises:
          UserError: two have not, though it is not what the sweep varies; names them.
        """
        of_first: dict[str, tuple[Path, Any]] = {}
        for trial in trials:
            path = self.run(trial)
            if not (path / CONFIG).exists():
                continue
            environment = RunFolder(path).environment
            about = environment["data"]["fingerprint"], environment.get("transfer")
            varied = [(key, value) for key, value in trial.values.items() if key.startswith(("dataset.", "transfer."))]
            first, there = of_first.setdefault(repr(varied), (path, about))
            if about != there:
                raise UserError(
                    f"{path}: has learnt from other images, or begun with other weights, than {first}; remove the one "
                    f"that is not meant, and {AGAIN}, or choose another --workdir for these"
                )

    def check_ends(self, trials: Sequence[Trial], runs: Sequence[Mapping[str, Any]]) -> None:
        """Make sure that all has come to a good end.

        Args:
          trials: of this launch.
          runs: of `sweep.json`, all of the sweep.

        Raises:
          UserError: a run has failed, or a trial of this launch has no end.
        """
        failed = [f"{run['name']}: {run['reason']}" for run in runs if run["status"] == "failed"]
        left = [
            f"{trial.name}: {self.left_open.get(trial.name, 'it has not run')}"
            for trial in trials
            if self.is_open(trial)
        ]
        wrong = []
        if failed:
            wrong.append(f"{len(failed)} of {len(runs)} runs failed ({failed[0]}); --retry_failed runs them again")
        if left:
            wrong.append(
                f"{len(left)} of {len(trials)} runs have no end ({left[0]}); the same command goes on with them"
            )
        if wrong:
            raise UserError("; ".join(wrong))

    def is_free(self, trial: Trial) -> bool:
        """Whether no process writes into a trial's run folder: one of a sweep that was killed may still save there."""
        if not self.run(trial).exists():
            return True
        try:
            with lock(self.run(trial)):
                return True
        except Taken:
            return False
        except UserError:  # it would stay so; who begins the run says why it cannot
            return True

    @contextlib.contextmanager
    def table(self) -> Iterator[None]:
        """Wait until no other process reads outcomes and writes what came of them: so the last has seen all ends."""
        with _alone(self.path):
            yield

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Keep other processes out of what has this name, in this folder.

        Raises:
          UserError: another process is there.
        """
        own = self.path / f".{name}"
        with lock(own):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # one that was killed has left it behind
                    own.rmdir()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is here with this folder."""
    if (path / ".table").is_symlink():
        raise UserError(f"{path / '.table'}: is a link; remove it")
    with (path / ".table").open("a") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path, *keys: str) -> dict[str, Any]:
    """Return what a JSON file holds.

    Raises:
      UserError: it is no object with texts under these keys.
    """
    try:
        found = json_file.read(path)
        if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in keys):
            raise ValueError(f"must be an object with the texts {', '.join(keys)}")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); without it, the same command runs it again") from error
    return found


def _result(path: Path) -> dict[str, Any]:
    """Return what a result.json says.

    Raises:
      UserError: it does not say what is shown of a run.
    """
    try:
        found = read_said(path)
        for said, names in ((found, ("test_split", "seconds")), (found["test"], ("loss", "accuracy", "top5_accuracy"))):
            for name in names:
                said[name]  # what is not there is named
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: cannot be read ({reason}); without it, the same command runs it again") from error
    return found


def _must_be(path: Path, there: ConfigDict, here: ConfigDict) -> None:
    different = settings.differences(there, here)
    if there.train.epochs != here.train.epochs and not any(key.startswith("train.epochs") for key in different):
        different.append(f"train.epochs: {there.train.epochs:g} there, {here.train.epochs:g} here")
    if different:
        raise UserError(
            f"{path}: holds a sweep of another config ({'; '.join(different)}); "
            "choose another --workdir, or set these as they were"
        )
