"""Training several runs that differ in numbers alone, step by step, in one compiled program."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from train import devices, environment, settings
from train.data.examples import Examples
from train.data.order import batch_indices
from train.data.roles import Dataset
from train.errors import AGAIN, NotFiniteError, UserError
from train.evaluate import make_run_evaluator
from train.prepare import check_batch
from train.progress import Display
from train.signals import Signals
from train.step import init_state, seed_of
from train.sweep import traced
from train.sweep.member import Member
from train.timetable import Timetable

# Runs that stand in one program on a CPU. More compile for longer, and their states fill its caches.
_SIDE_BY_SIDE = 4
# Steps whose batches are drawn up at once, run by run: the order of an epoch is made once then.
_AHEAD = 64
# Seconds after which an evaluation saves all runs, which is what a killed sweep loses.
_PAUSE = 60.0


class Entrant(NamedTuple):
    """A run that is to be trained.

    Attributes:
      name: of its trial.
      config: complete.
      path: the run folder.
    """

    name: str
    config: ConfigDict
    path: Path


class Programs:
    """The step of so many runs, compiled when it is first wanted.

    Args:
      entrants: which runs, one or more: what is traced of their configs may differ, nothing else.
      keys: what is traced, besides seed and schedule.
      data: what they are trained on.
      vectorised: see `traced.program`; by default as the backend wants it.

    Attributes:
      timetable: of all of them.
      compile_seconds: how long it has taken so far.
    """

    def __init__(
        self, entrants: Sequence[Entrant], keys: Sequence[str], data: Dataset, vectorised: bool | None = None
    ) -> None:
        self.config, self._keys = entrants[0].config, keys
        self.mesh = devices.make_mesh(1)
        check_batch(self.config, data.train.total, self.mesh)
        self.vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self.timetable = Timetable(self.config, data.train.total)
        self.compile_seconds = 0.0
        self._resident = jax.device_put(data.train, devices.replicated(self.mesh))
        self._step = traced.program(self.config, self.mesh, vectorised=self.vectorised)
        self._compiled: dict[int, jax.stages.Compiled] = {}
        self._begin = jax.jit(
            lambda seed, by_step: init_state(self.config, traced.optimizer_of(self.config, by_step), seed),
            out_shardings=devices.replicated(self.mesh),
        )

    def begin(self, config: ConfigDict, by_step: np.ndarray) -> Any:
        """Return the state of a run before its first step."""
        return self._begin(seed_of(config), by_step)

    def values(self, config: ConfigDict) -> dict[str, np.ndarray]:
        """Return what is traced of a run's config."""
        every = dict(settings.leaves(config))
        return {key: np.asarray(every[key], np.float32) for key in self._keys}

    def parts(self, count: int) -> list[slice]:
        """Return how so many runs are divided among calls of the program, as evenly as can be."""
        calls = 1 if self.vectorised else -(-count // _SIDE_BY_SIDE)
        edges = [round(count * call / calls) for call in range(calls + 1)]
        return [slice(first, last) for first, last in itertools.pairwise(edges)]

    def step(self, states: Any, values: Any, by_step: Any, indices: Any) -> Any:
        """Take a step of some runs; the states given are used up."""
        arguments = (states, values, by_step, indices, self._resident)
        if len(states) not in self._compiled:
            began = time.perf_counter()
            self._compiled[len(states)] = self._step.lower(*arguments).compile()
            self.compile_seconds = round(self.compile_seconds + time.perf_counter() - began, 3)
        return self._compiled[len(states)](*arguments)


def train(
    entrants: Sequence[Entrant],
    keys: Sequence[str],
    data: Dataset,
    failed: Callable[[str, str], None],
    vectorised: bool | None = None,
) -> int:
    """Train runs to their ends. All of them begin, or go on, at the same step.

    Args:
      entrants: the runs.
      keys: what is traced of their configs, besides seed and schedule.
      data: what they are trained on, pixels in memory.
      failed: is told the name of a run that cannot go on, and why; the others do.
      vectorised: see `traced.program`.

    Returns:
      The number of a signal that has come, with all states saved; 0 where all is done.

    Raises:
      UserError: their config and data do not go together, or a folder cannot be written.
    """
    programs = Programs(entrants, keys, data, vectorised)
    timetable, config = programs.timetable, programs.config
    about = environment.describe(config.dataset.source, data)
    evaluate = make_run_evaluator(config, programs.mesh)
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        members: dict[str, Member] = {}
        tables: dict[str, np.ndarray] = {}
        for entrant in entrants:
            schedule = str(entrant.config.schedule)
            if schedule not in tables:
                tables[schedule] = traced.rates(entrant.config, timetable)
            by_step = tables[schedule]
            try:
                member = stack.enter_context(
                    Member(entrant.path, entrant.config, about, timetable, by_step, len(entrants))
                )
                if member.first != next(iter(members.values()), member).first:
                    raise UserError(f"{entrant.path}: another process has trained it meanwhile; {AGAIN}")
                member.begin(programs.begin(entrant.config, by_step))
                members[entrant.name] = member
            except UserError as error:  # of this one alone
                failed(entrant.name, str(error))
        if not members:
            return signals.number
        first = next(iter(members.values())).first
        display = stack.enter_context(Display(first, timetable.total, config.train.epochs))
        values = {name: jax.device_put(programs.values(member.config)) for name, member in members.items()}
        by_steps = {name: jnp.asarray(member.rates) for name, member in members.items()}
        seeds = {name: int(member.config.seed) for name, member in members.items()}

        def each(work: Callable[..., object], *arguments: Any) -> None:
            """Do it with every run; one that fails leaves the others."""
            for name, member in list(members.items()):
                try:
                    work(member, *arguments)
                except NotFiniteError as error:
                    del members[name]
                    failed(name, member.give_up(error))

        saved = time.monotonic()
        drawn = batches(data.train.total, config.train.batch_size, seeds, first, timetable.total)
        for step, indices in enumerate(drawn, start=first + 1):
            names = list(members)
            if not names:
                break
            for part in programs.parts(len(names)):
                runs = names[part]
                states, metrics = programs.step(
                    tuple(members[name].state for name in runs),
                    tuple(values[name] for name in runs),
                    tuple(by_steps[name] for name in runs),
                    tuple(indices[seeds[name]] for name in runs),
                )
                for name, state, measured in zip(runs, states, metrics, strict=True):
                    members[name].take(step, state, measured)
            display.advance(step)
            last = step == timetable.total
            if timetable.logs(step):
                each(Member.log, step)
            if timetable.evaluates(step) and data.validation is not None:
                each(Member.validate, step, evaluate, data.validation)
                _show(display, list(members.values()))
            # Who asks for more checkpoints than the last and the best gets them when scripts.train would write them.
            wanted = config.checkpoint.keep > 1 or config.checkpoint.every_steps > 0
            pause = time.monotonic() - saved >= _PAUSE
            number = signals.asked(step)  # once: a signal that comes behind this waits for the next step
            if last or number or (timetable.saves(step) and (wanted or pause)):
                each(Member.save, step)
                saved = time.monotonic()
            if number:
                each(Member.wait)
                return number
        each(Member.finish, evaluate, data, programs.compile_seconds, programs.mesh)
        return signals.number


def batches(
    count: int, batch_size: int, seeds: dict[str, int], first: int, last: int
) -> Iterator[dict[int, np.ndarray]]:
    """Yield which images make the batch of each step, by seed: `batch_indices` of every run."""
    for start in range(first, last, _AHEAD):
        steps = range(start, min(start + _AHEAD, last))
        drawn = {
            seed: [batch_indices(count, batch_size, seed, step) for step in steps]
            for seed in sorted(set(seeds.values()))
        }
        for place in range(len(steps)):
            yield {seed: indices[place] for seed, indices in drawn.items()}


def _show(display: Display, members: Sequence[Member]) -> None:
    """Tell of the run that is best at this step."""
    records = [member.last_validation for member in members if member.last_validation is not None]
    if records:
        best = max(records, key=lambda line: line["accuracy"])
        display.validation(best, f"best of {len(records)} runs on validation:")


def check(config: ConfigDict) -> None:
    """Refuse what runs cannot do together.

    Raises:
      UserError: names the key.
    """
    why = "runs that train together share images in memory and begin from scratch; try --by=processes"
    if config.transfer.mode != "scratch" or config.transfer.net_a:
        key = "transfer.net_a" if config.transfer.net_a else "transfer.mode"
        raise UserError(f"config.{key}={dict(settings.leaves(config))[key]}: {why}")


def check_images(config: ConfigDict, data: Dataset) -> None:
    """Refuse data that are not in memory.

    Raises:
      UserError: they are not.
    """
    if not isinstance(data.train, Examples):
        raise UserError(f"{config.dataset.source}: is read from disk batch by batch; try --by=processes")
