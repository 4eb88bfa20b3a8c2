"""Figures measured side by side: A B A B, medians, so that what else the machine does meets both."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from train import devices, settings
from train.data import dataset
from train.errors import UserError
from train.feed import training_batches
from train.prepare import prepare
from train.run import CONFIG, METRICS, RESULT

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
    settings.resolve(config)
    train_set = dataset.load(config.dataset).train
    mesh = devices.make_mesh(config.mesh.data)
    prepared = prepare(config, train_set.total, mesh, compiler_options)
    state, step = prepared.state, prepared.train_step

    def measure() -> float:
        nonlocal state
        with training_batches(train_set, config, mesh, 0, sys.maxsize) as batches:
            state, metrics = step(state, next(batches))  # compiles what draws batches, or fills the stream
            jax.block_until_ready(metrics)
            taken, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                for batch in itertools.islice(batches, config.log.every_steps):
                    state, metrics = step(state, batch)
                    taken += 1
                jax.block_until_ready(metrics)
            return taken * config.train.batch_size / (time.perf_counter() - began)

    return measure


def _compiler(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {
        "training's options": bare_step(config.copy_and_resolve_references()),
        "XLA's defaults": bare_step(config, {}),
    }


def _loop(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {"scripts.train": partial(_launched, launch, "training"), "bare step": bare_step(config)}


def _run(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {"scripts.train, all of it": partial(_launched, launch, "everything"), "bare step": bare_step(config)}


def _launched(launch: Launch, what: str) -> float:
    """Images/s of three epochs of scripts.train: over the time of its steps, or over all behind the compilation."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        _wait(launch([f"--workdir={run}", "--config.train.epochs=3", "--config.schedule.warmup_epochs=1"]))
        result = json.loads((run / RESULT).read_text())
        if what == "training":
            return result["train"]["images_per_second"]
        images = result["step"] * json.loads((run / CONFIG).read_text())["train"]["batch_size"]
        return images / (result["seconds"] - result["compile_seconds"])


def _start(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    def first_step(cache: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            began = time.perf_counter()
            process = launch([f"--compilation_cache={cache}", f"--workdir={run}", "--config.log.every_steps=1"])
            try:
                while not ((run / METRICS).exists() and (run / METRICS).stat().st_size):
                    if process.poll() is not None:
                        _wait(process)
                    time.sleep(0.005)
                return time.perf_counter() - began
            finally:
                process.kill()
                process.wait()

    cache = tempfile.TemporaryDirectory()  # for all turns: the first, which does not count, fills it
    return {"warm cache": lambda: first_step(cache.name), "no cache": partial(first_step, "")}


def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise UserError(f"scripts.train has failed with status {process.returncode}; its message stands above")


# What each suite measures, and its two sides: the first figure over the second is the ratio.
SUITES: Mapping[str, tuple[str, Callable[[ConfigDict, Launch], dict[str, Measurement]]]] = {
    "compiler": ("images_per_second", _compiler),  # the step, as training compiles it and as XLA does by itself
    "loop": ("images_per_second", _loop),  # steps as scripts.train takes them, and the bare step
    "run": ("images_per_second", _run),  # the same with start, evaluations and checkpoints, and the bare step
    "start": ("seconds_to_first_step", _start),  # from the start of the process, compiled programs kept or not
}


def measure(suite: str, config: ConfigDict, launch: Launch, repeats: int) -> dict[str, Any]:
    """Measure both sides of a suite in turns, after one turn that does not count.

    Returns:
      A row: suite, setting, UNIT (median), spread ([minimum, maximum]), peer_setting, peer_UNIT, peer_spread, and the
      ratio of the medians; UNIT is images_per_second or seconds_to_first_step.
    """
    unit, make = SUITES[suite]
    sides = make(config, launch)
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            figure = side()
            if turn:
                figures[name].append(figure)
    row: dict[str, Any] = {"suite": suite, "peer": "oldmasters", "fraction_of_limit": None}
    for prefix, (name, values) in zip(("", "peer_"), figures.items(), strict=True):
        row |= {f"{prefix}setting": name, f"{prefix}{unit}": statistics.median(values)}
        row[f"{prefix}spread"] = [min(values), max(values)]
    return row | {"ratio": row[unit] / row[f"peer_{unit}"]}
