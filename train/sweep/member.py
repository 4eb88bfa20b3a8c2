"""A run that trains together with others: its folder, its state, and what it writes."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import network
from train.checkpoints import Checkpoints, load_network, network_of
from train.data.roles import Dataset, Images
from train.errors import AGAIN, NotFiniteError, UserError
from train.integrity import diverged
from train.meter import Meter
from train.records import METRICS, read_metrics
from train.report import files as report
from train.run import MetricsLog, RunFolder, metrics_line, result_of
from train.step import Metrics, State
from train.timetable import Timetable
from train.whole import lock

Evaluate = Callable[[State, Images], dict[str, Any]]


class _Kept(NamedTuple):
    """The state that was best on validation, until it is written or a better one comes."""

    state: State
    progress: dict[str, Any]
    validation: dict[str, Any]


class Member:
    """One of several runs in one program. It leaves the run folder that `scripts.train` would.

    A checkpoint takes a tenth of a second of a core, more than LeNet-5 trains between two evaluations of the digits: so
    the best state is kept in memory, and written when the last one is.

    Args:
      path: the run folder.
      config: complete.
      environment: see `environment.describe`; the run's own part of it comes from its config.
      timetable: of all runs that train together.
      by_step: the learning rate of each step.
      together: how many runs there are.

    Raises:
      UserError: the folder holds another run, or cannot be written, or another process writes there.
    """

    def __init__(
        self,
        path: Path,
        config: ConfigDict,
        environment: dict[str, Any],
        timetable: Timetable,
        by_step: np.ndarray,
        together: int,
    ) -> None:
        self.path, self.config, self.rates = path, config, by_step
        self.state: State
        self._timetable, self._together = timetable, together
        self._kept: _Kept | None = None
        self._best: tuple[int, State] | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock(path))
            self._folder = RunFolder.create(path, config, environment)
            report.remove(path)
            self._checkpoints = stack.enter_context(Checkpoints(path, config.checkpoint.keep))
            self.first = self._checkpoints.latest() or 0
            self._log = stack.enter_context(MetricsLog(path, self.first, tensorboard=config.log.tensorboard))
            self._open = stack.pop_all()
        validations = [line for line in read_metrics(path / METRICS) if line["split"] == "validation"]
        self._best_accuracy = max((line["accuracy"] for line in validations), default=-1.0)
        self.last_validation: dict[str, Any] | None = None

    def begin(self, initial: State) -> None:
        """Take the state before the first step, or that of the last checkpoint.

        Raises:
          UserError: it is damaged, and has been put aside.
        """
        progress: dict[str, Any] = {"seconds": 0.0, "sums": None}
        self.state = initial
        if newest := self._checkpoints.restore_newest(initial):
            step, self.state, progress = newest
            if step != self.first:
                raise UserError(f"{self.path}: goes on from step {step:,}, the others from {self.first:,}; {AGAIN}")
        self._seconds_before, self._began = progress["seconds"], time.perf_counter()
        self._meter = Meter(self.config.train.batch_size, progress["sums"])

    def _seconds(self) -> float:
        return round(self._seconds_before + time.perf_counter() - self._began, 3)

    def _record(self, split: str, step: int, values: dict[str, Any]) -> dict[str, Any]:
        rate = self.rates[step - 1].item()
        line = metrics_line(split, step, self._timetable.steps_per_epoch, values, rate, self._seconds())
        self._log.write(line)
        return line

    def take(self, step: int, state: State, metrics: Metrics) -> None:
        """Take what a step has made."""
        self.state = state
        self._meter.add(step, metrics)

    def log(self, step: int) -> None:
        """Write a line of training metrics.

        Raises:
          NotFiniteError: the loss of a step is not finite.
        """
        self._record("train", step, self._meter.read())

    def validate(self, step: int, evaluate: Evaluate, images: Images) -> None:
        """Evaluate, write a line, and keep the state if there is none better.

        Raises:
          NotFiniteError: a loss is not finite.
        """
        with self._meter.paused() as sums:
            validation = evaluate(self.state, images)
            self.last_validation = self._record("validation", step, validation)
            if validation["accuracy"] >= self._best_accuracy:
                self._best_accuracy = validation["accuracy"]
                copy = _copy(self.state)
                self._kept, self._best = _Kept(copy, self._progress(sums), validation), (step, copy)

    def _progress(self, sums: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": self._seconds(), "sums": sums}

    def save(self, step: int) -> None:
        """Begin to write the best state, if it is not written yet, and this one.

        Raises:
          UserError: they cannot be written.
          NotFiniteError: a loss or a parameter is not finite.
        """
        with self._meter.paused() as sums:
            self._log.sync()
            validation = None
            if self._kept is not None:
                validation = self._kept.validation if self._best and self._best[0] == step else None
                if validation is None:
                    self._checkpoints.save(*self._kept)
                self._kept = None
            if validation is None and self.last_validation and self.last_validation["step"] == step:
                validation = self.last_validation
            self._checkpoints.save(self.state, self._progress(sums), validation)

    def give_up(self, error: NotFiniteError) -> str:
        """Write the best state, if it is not written yet, and return the line that says what has happened.

        Raises:
          UserError: it cannot be written.
        """
        if self._kept is not None:
            with contextlib.suppress(NotFiniteError):
                self._checkpoints.save(*self._kept)
            self._kept = None
            self._checkpoints.wait()  # nobody else will
        return diverged(error, self.config.schedule.learning_rate, self._checkpoints.latest(), self.state)

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
          UserError: it cannot be written.
        """
        self._checkpoints.wait()

    def finish(self, evaluate: Evaluate, data: Dataset, compile_seconds: float, mesh: Mesh) -> None:
        """Test the best state and write result.json.

        Raises:
          UserError: something cannot be written.
          NotFiniteError: the loss of the test is not finite.
        """
        self._checkpoints.complete()
        best = self._checkpoints.best()
        assert best is not None, "the last step is saved"
        if self._best and self._best[0] == best:
            chosen = self._best[1]
        elif best == self._timetable.total:
            chosen = self.state
        else:
            chosen = self.state._replace(**self._checkpoints.restore_network(best, network_of(self.state)))
        tested = {"test_split": data.test_split, "test": evaluate(chosen, data.test)}
        parameters = network.count_parameters(self.state.params)
        result = result_of(self.path, self._timetable.total, best, self._seconds(), parameters, compile_seconds, tested)
        # Seconds, and images/s, are those of a run among so many.
        self._folder.finish(result | {"together": self._together})
        if self.config.evaluate.report:
            from train.report import writing  # what draws is loaded by those alone who want a report

            writing.write(self._folder, load_network(self._folder, mesh), data, mesh)

    def __enter__(self) -> "Member":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


@jax.jit
def _copy(state: State) -> State:
    """The next step will be given the state itself, and write over it."""
    return jax.tree.map(jnp.copy, state)
