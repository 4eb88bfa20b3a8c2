"""Runs that train together, beside the same runs one by one: their steps alone, and the whole commands."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from train import settings
from train.benchmark.bare_step import Measurement, bare_step
from train.benchmark.launched import wait
from train.data import dataset
from train.sweep import traced
from train.sweep.together import Entrant, Programs, batches
from train.timetable import Timetable

# Runs of which steps are taken, and of whole commands, which take so many times as long.
_RUNS, _COMMANDS = 32, 8
# A measurement takes at least so many seconds.
_SECONDS = 3.0


def steps(config: ConfigDict) -> dict[str, Measurement]:
    """Return the steps of runs with other seeds in one program, and the bare step of one; images/s of all runs."""
    alone = bare_step(config.copy_and_resolve_references())
    settings.resolve(config)
    data = dataset.load(config.dataset)
    entrants = []
    for seed in range(_RUNS):
        own = config.copy_and_resolve_references()
        own.seed = seed
        entrants.append(Entrant(str(seed), own, Path()))
    keys = traced.traceable(config, ("optimizer.weight_decay",), data.train.total)
    programs = Programs(entrants, keys, data)
    timetable = Timetable(config, data.train.total)
    rates, values = traced.rates(config, timetable), programs.values(config)
    states = [programs.begin(entrant.config, rates) for entrant in entrants]

    def take(indices: Mapping[int, np.ndarray]) -> jax.Array:
        for part in programs.parts(_RUNS):
            own = tuple(indices[entrant.config.seed] for entrant in entrants[part])
            count = len(own)
            states[part], metrics = programs.step(tuple(states[part]), (values,) * count, (rates,) * count, own)
        return metrics

    def together() -> float:
        drawn = batches(data.train.total, config.train.batch_size, {str(seed): seed for seed in range(_RUNS)}, 0, 10**9)
        jax.block_until_ready(take(next(drawn)))
        taken, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            jax.block_until_ready(take(next(drawn)))
            taken += 1
        return taken * _RUNS * config.train.batch_size / (time.perf_counter() - began)

    return {f"{_RUNS} runs together": together, "bare step of one": alone}


def commands(config: ConfigDict, launch: Callable[..., subprocess.Popen[bytes]]) -> dict[str, Measurement]:
    """Return scripts.sweep over seeds, and scripts.train for each of them; images/s from start to end of all."""
    settings.resolve(config)
    images = config.train.epochs * dataset.load(config.dataset).train.total * _COMMANDS
    return {
        f"scripts.sweep, {_COMMANDS} runs": partial(_timed, partial(_sweep, launch), images),
        "scripts.train one by one": partial(_timed, partial(_one_by_one, launch), images),
    }


def _timed(work: Callable[[Path], None], images: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        work(Path(folder))
        return images / (time.perf_counter() - began)


def _sweep(launch: Callable[..., subprocess.Popen[bytes]], folder: Path) -> None:
    ranges = folder / "ranges.toml"
    ranges.write_text(f"[grid]\nseed = {list(range(_COMMANDS))}\n")
    wait(launch([f"--sweep={ranges}", f"--workdir={folder / 'sweep'}"], script="sweep"))


def _one_by_one(launch: Callable[..., subprocess.Popen[bytes]], folder: Path) -> None:
    for seed in range(_COMMANDS):
        wait(launch([f"--config.seed={seed}", "--config.evaluate.report=False", f"--workdir={folder / str(seed)}"]))
