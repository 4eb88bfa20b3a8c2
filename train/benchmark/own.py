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

from ml_collections import ConfigDict

from train.benchmark import maps, passes, sweeping, transfer
from train.benchmark.bare_step import Measurement, bare_step
from train.benchmark.launched import wait
from train.records import CONFIG, METRICS, RESULT

# Starts scripts.train on the same config with these flags more; with `script="sweep"`, scripts.sweep.
Launch = Callable[..., subprocess.Popen[bytes]]


def _compiler(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {
        "training's options": bare_step(config.copy_and_resolve_references()),
        "XLA's defaults": bare_step(config, tuned=False),
    }


def _loop(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {"scripts.train": partial(_launched, launch, "training"), "bare step": bare_step(config)}


def _run(config: ConfigDict, launch: Launch) -> dict[str, Measurement]:
    return {"scripts.train, all of it": partial(_launched, launch, "everything"), "bare step": bare_step(config)}


def _launched(launch: Launch, what: str) -> float:
    """Images/s of three epochs of scripts.train: over the time of its steps, or over all behind the compilation."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        short = ["--config.train.epochs=3", "--config.schedule.warmup_epochs=1", "--config.evaluate.report=False"]
        wait(launch([f"--workdir={run}", *short]))
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
                        wait(process)
                    time.sleep(0.005)
                return time.perf_counter() - began
            finally:
                process.kill()
                process.wait()

    cache = tempfile.TemporaryDirectory()  # for all turns: the first, which does not count, fills it
    return {"warm cache": lambda: first_step(cache.name), "no cache": partial(first_step, "")}


def _in_process(
    make: Callable[[ConfigDict], dict[str, Measurement]], config: ConfigDict, launch: Launch
) -> dict[str, Measurement]:
    return make(config)


# What each suite measures, and its two sides: the first figure over the second is the ratio.
SUITES: Mapping[str, tuple[str, Callable[[ConfigDict, Launch], dict[str, Measurement]]]] = {
    "compiler": ("images_per_second", _compiler),  # the step, as training compiles it and as XLA does by itself
    "loop": ("images_per_second", _loop),  # steps as scripts.train takes them, and the bare step
    "run": ("images_per_second", _run),  # the same with start, evaluations and checkpoints, and the bare step
    **{
        name: ("images_per_second", partial(_in_process, make))
        for name, make in (transfer.SUITES | passes.SUITES | maps.SUITES | {"sweep": sweeping.steps}).items()
    },
    "sweep_command": ("images_per_second", sweeping.commands),  # from the start of the first process to the last end
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
        # Each side comes first every other time: what comes second may find a warmer machine.
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            figure = side()
            if turn:
                figures[name].append(figure)
    row: dict[str, Any] = {"suite": suite, "peer": "oldmasters", "fraction_of_limit": None}
    for prefix, (name, values) in zip(("", "peer_"), figures.items(), strict=True):
        row |= {f"{prefix}setting": name, f"{prefix}{unit}": statistics.median(values)}
        row[f"{prefix}spread"] = [min(values), max(values)]
    return row | {"ratio": row[unit] / row[f"peer_{unit}"]}
