"""Figures measured side by side: A B A B, medians, so that what else the machine does meets both."""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train import devices, network, settings
from train.data import dataset
from train.data.order import batch_indices
from train.errors import UserError
from train.optimizer import make_optimizer, make_schedule
from train.run import METRICS, RESULT
from train.step import compile_train_step, init_state
from train.timetable import Timetable

Measurement = Callable[[], float]
# Starts scripts.train on the same config with these flags more.
Launch = Callable[[list[str]], subprocess.Popen[bytes]]


def bare_step(config: ConfigDict, compiler_options: dict[str, str] | None = None, seconds: float = 3.0) -> Measurement:
    """Compile the step of training and return a function that measures its images/s.

    It is the step of the loop, with its augmentation and with the host drawing batches; nothing is logged, evaluated
    or saved.

    Args:
      config: the experiment; it is completed in place.
      compiler_options: for XLA; by default those that training uses.
      seconds: how long one measurement takes at least.
    """
    settings.check(config)
    train_set = dataset.load(config.dataset).train
    count, batch_size = len(train_set.labels), config.train.batch_size
    graph, _, _ = network.describe(config)
    mesh = devices.make_mesh(config.mesh.data)
    timetable = Timetable(config, count)
    optimizer = make_optimizer(
        config.optimizer, make_schedule(config.schedule, timetable.steps_per_epoch, timetable.total)
    )
    everywhere = devices.replicated(mesh)
    state = jax.jit(partial(init_state, config, optimizer), out_shardings=everywhere)()
    examples = jax.device_put(train_set, everywhere)
    step = compile_train_step(graph, optimizer, config, mesh, state, examples, compiler_options)

    def measure() -> float:
        nonlocal state
        taken, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(config.log.every_steps):
                state, metrics = step(state, examples, batch_indices(count, batch_size, config.seed, taken))
                taken += 1
            jax.block_until_ready(metrics)
        return taken * batch_size / (time.perf_counter() - began)

    return measure


def _compiler(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {"bare step": bare_step(config.copy_and_resolve_references()), "XLA's defaults": bare_step(config, {})}


def _loop(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            _wait(launch([f"--workdir={run}", "--config.train.epochs=3", "--config.schedule.warmup_epochs=1"]))
            return json.loads((run / RESULT).read_text())["train"]["images_per_second"]

    return {"scripts.train": whole, "bare step": bare_step(config)}


def _start(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    def first_step(cache: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            began = time.perf_counter()
            process = launch([f"--compilation_cache={cache}", f"--workdir={run}", "--config.log.every_steps=1"])
            try:
                while not ((run / METRICS).exists() and (run / METRICS).stat().st_size):
                    if process.poll():
                        _wait(process)
                    time.sleep(0.005)
                return time.perf_counter() - began
            finally:
                process.kill()
                process.wait()

    cache = tempfile.mkdtemp(prefix="oldmasters-benchmark-")  # for all repetitions: the first, a warm-up, fills it
    return {"warm cache": partial(first_step, cache), "no cache": partial(first_step, "")}


def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise UserError(f"scripts.train has failed with status {process.returncode}; its message stands above")


# What each suite compares: its first figure over its second is the ratio.
SUITES: Mapping[str, tuple[str, Callable[[ConfigDict, Launch], dict[str, Measurement]]]] = {
    "compiler": ("images/s", _compiler),  # the bare step, compiled as training compiles it and as XLA does by itself
    "loop": ("images/s", _loop),  # all of scripts.train, and the bare step
    "start": ("s to the first step", _start),  # from the start of the process, with compiled programs kept or not
}


def measure(suite: str, config: ConfigDict, launch: Launch, repeats: int) -> dict[str, Any]:
    """Measure both sides of a suite in turns, after one turn that does not count.

    Returns:
      suite, unit, for each side its median, minimum and maximum, and the ratio of the medians.
    """
    unit, make = SUITES[suite]
    sides = make(config, launch)
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            figure = side()
            if turn:
                figures[name].append(figure)
    summary = {
        name: {"median": statistics.median(values), "minimum": min(values), "maximum": max(values)}
        for name, values in figures.items()
    }
    first, second = (row["median"] for row in summary.values())
    return {"suite": suite, "unit": unit, "sides": summary, "ratio": first / second}
