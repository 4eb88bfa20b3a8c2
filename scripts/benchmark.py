"""Measure an experiment's speed, side by side with what it is to be compared with.

    python -m scripts.benchmark --config=configs/lenet5_mnist.py --config.dataset.source=idx:FOLDER --suite=loop,start

Suites: compiler (the training step with this project's compiler options, and with XLA's defaults), loop (the steps of
scripts.train, and the bare step), run (scripts.train with its evaluations and checkpoints, and the bare step), start
(from the start of the process to the first step, with a warm compilation cache and without one). Leave the machine
alone meanwhile.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.benchmark")

import os
import platform
import subprocess
import sys

import jax
from absl import flags

from scripts import command
from scripts.command_line import config_arguments
from train import benchmark
from train.errors import UserError

_SUITE = flags.DEFINE_list("suite", list(benchmark.SUITES), "What to measure.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each side.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")


def launch(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start scripts.train on the config of this command line."""
    line = [sys.executable, "-m", "scripts.train", *config_arguments(sys.argv), *arguments]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure, print, write."""
    if unknown := set(_SUITE.value) - benchmark.SUITES.keys():
        raise UserError(f"--suite={','.join(sorted(unknown))}: must be of {', '.join(benchmark.SUITES)}")
    machine = {"cpus": os.cpu_count(), "processor": platform.processor() or platform.machine(), "jax": jax.__version__}
    rows = []
    write = command.json_output(_OUTPUT.value)
    for suite in _SUITE.value:
        config = flags.FLAGS.config.copy_and_resolve_references()
        row = benchmark.measure(suite, config, launch, _REPEATS.value)
        rows.append({"model": config.model.name, "precision": config.precision, **row})
        unit, _ = benchmark.SUITES[suite]
        for prefix in ("", "peer_"):
            low, high = row[f"{prefix}spread"]
            figure = f"{row[prefix + unit]:9,.1f} {unit.replace('_', ' ')}  ({low:,.1f} to {high:,.1f})"
            print(f"{suite:9} {row[prefix + 'setting']:25} {figure}")
        print(f"{suite:9} {'ratio':25} {row['ratio']:9.2f}", flush=True)
    write({"machine": machine, "rows": rows})


if __name__ == "__main__":
    command.launch(main, config="lenet5_digits.py")
