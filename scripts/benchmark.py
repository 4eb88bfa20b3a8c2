"""Measure an experiment's speed, side by side with what it is to be compared with.

    python -m scripts.benchmark --config=configs/lenet5_mnist.py --config.dataset.source=idx:FOLDER

Suites: compiler (the training step with this project's compiler options, and with XLA's defaults), loop (all of
scripts.train, and the bare step), start (from the start of the process to the first step, with a warm compilation cache
and without one). Leave the machine alone meanwhile.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.benchmark")

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
from absl import flags

from scripts import command
from train import benchmark
from train.run import to_json, write_whole

_SUITE = flags.DEFINE_multi_enum(
    "suite", list(benchmark.SUITES), list(benchmark.SUITES), "What to measure; repeatable."
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each side.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")


def launch(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start scripts.train on the config of this command line."""
    config = [argument for argument in sys.argv[1:] if argument.startswith(("--config=", "--config."))]
    return subprocess.Popen([sys.executable, "-m", "scripts.train", *config, *arguments], stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure, print, write."""
    machine = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine(), "jax": jax.__version__}
    rows = []
    for suite in _SUITE.value:
        config = flags.FLAGS.config.copy_and_resolve_references()
        row = benchmark.measure(suite, config, launch, _REPEATS.value)
        rows.append({"model": config.model.name, "precision": config.precision, **row})
        for side, figures in row["sides"].items():
            low, high = figures["minimum"], figures["maximum"]
            print(f"{suite:9} {side:15} {figures['median']:9,.1f} {row['unit']}  ({low:,.1f} to {high:,.1f})")
        print(f"{suite:9} {'ratio':15} {row['ratio']:9.2f}", flush=True)
    if _OUTPUT.value:
        write_whole(Path(_OUTPUT.value), to_json({"machine": machine, "rows": rows}))


if __name__ == "__main__":
    command.launch(main, config="lenet5_digits.py")
