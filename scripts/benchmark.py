"""Measure speed, side by side with what it is to be compared with.

    python -m scripts.benchmark --suite=train,infer --peer=torch --check
    python -m scripts.benchmark --suite=loop,start --config=configs/lenet5_mnist.py --config.dataset.source=idx:FOLDER

train and infer time the step and the forward pass of each network on a batch that lies on the device, as a fraction of
the rate of matrix products; --peer=torch times the same work in PyTorch, in its fastest setting, and --check compares
both sides' logits and gradients on the same weights first. The other suites compare an experiment with itself:
compiler (the training step with this project's compiler options, and with XLA's defaults), loop (the steps of
scripts.train, and the bare step), run (scripts.train with its evaluations and checkpoints, and the bare step), start
(from the start of the process to the first step, with a warm compilation cache and without one), frozen (a step with
all convolutions frozen, and one that fine-tunes), stored (training on stored activations of the last hidden stage, and
with that stage frozen), extraction (storing these, and inference alone), evaluation (of all training images, and its
step alone); the last four on random weights. sweep (steps of 32 runs together, and of one) and sweep_command
(scripts.sweep over 8 seeds, and scripts.train for each). tsne (maps of the test images' pixels, and openTSNE called
directly). accuracy (--peer=torch, and lenet5_mnist_fast) trains LeNet-5 on MNIST from the start of the process to the
test figure, beside a PyTorch script. input (--peer=torch or tensorflow, and a config of photos) reads 1,000 photos into
batches of random crops, from files and decoded before, beside a DataLoader or tf.data. Leave the machine alone.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.benchmark")

import importlib.util
import subprocess
import sys
from typing import Any

from absl import flags

from configs import base
from scripts import command, outputs
from scripts.command_line import config_arguments
from train import settings
from train.benchmark import accuracy, compare, own, process, report, workloads
from train.benchmark import input as reading
from train.errors import UserError

# The package that each peer takes, and the suites that have a peer.
_PEERS = {"torch": "torch", "tensorflow": "tensorflow"}
_WITH_PEER = {**dict.fromkeys((*workloads.SUITES, accuracy.SUITE), ("torch",)), reading.SUITE: tuple(reading.PEERS)}
_SUITES = (*workloads.SUITES, *own.SUITES, accuracy.SUITE, reading.SUITE)
_SUITE = flags.DEFINE_list("suite", list(workloads.SUITES), f"What to measure, of {', '.join(_SUITES)}.")
_MODEL = flags.DEFINE_list("model", list(workloads.NETWORKS), "train, infer: the networks.")
_PRECISION = flags.DEFINE_list("precision", list(workloads.PRECISIONS), "train, infer: what they compute in.")
_PEER = flags.DEFINE_enum("peer", None, list(_PEERS), "Who does the same work; tensorflow does input alone.")
_CHECK = flags.DEFINE_boolean("check", False, "train: compare logits and gradients with the peer's.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each side.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")


def launch(arguments: list[str], script: str = "train") -> subprocess.Popen[bytes]:
    """Start scripts.train, or another, on the config of this command line."""
    line = [sys.executable, "-m", f"scripts.{script}", *config_arguments(sys.argv), *arguments]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure, print, write."""
    for flag, choices in ((_SUITE, _SUITES), (_MODEL, workloads.NETWORKS), (_PRECISION, workloads.PRECISIONS)):
        if unknown := set(flag.value) - set(choices):
            raise UserError(f"--{flag.name}={','.join(sorted(unknown))}: must be of {', '.join(choices)}")
    if _CHECK.value and not (_PEER.value and "train" in _SUITE.value):
        raise UserError("--check: needs --peer, whom to compare with, and --suite=train")
    for suite in _SUITE.value:
        allowed = (*_WITH_PEER.get(suite, _PEERS), *([] if suite in (accuracy.SUITE, reading.SUITE) else [None]))
        if _PEER.value not in allowed:
            raise UserError(f"--suite={suite}: needs --peer={' or '.join(filter(None, allowed))}, whom to compare with")
    package = _PEERS[_PEER.value] if _PEER.value else "jaxlib"
    if importlib.util.find_spec(package) is None:
        extra = "prepare" if package == "tensorflow" else "bench"
        raise UserError(f'--peer={_PEER.value}: is not installed; pip install -e ".[{extra}]"')
    machine, rows = process.machine("jax", package), list[dict[str, Any]]()
    threads, write = machine["cpus"], outputs.json_output(_OUTPUT.value)
    for suite in _SUITE.value:
        if suite not in workloads.SUITES:
            config, unit = flags.FLAGS.config.copy_and_resolve_references(), "images_per_second"
            if suite == accuracy.SUITE:
                row, unit = accuracy.measure(config, launch, _REPEATS.value, threads), "seconds_in_all"
            elif suite == reading.SUITE:
                row = reading.measure(config, str(_PEER.value), _REPEATS.value, threads)
            else:
                row, unit = own.measure(suite, config, launch, _REPEATS.value), own.SUITES[suite][0]
            rows.append({"model": config.model.name, "precision": config.precision, **row})
            print(report.own_row(row, unit), flush=True)
            continue
        config_text = settings.to_json(base.get_config())
        for work in (workloads.Workload(suite, model, to) for model in _MODEL.value for to in _PRECISION.value):
            checked = {}
            if _CHECK.value and _PEER.value and suite == "train":
                checked = compare.check(work, config_text, _PEER.value, threads)
            rows.append(compare.measure(work, config_text, _PEER.value, _REPEATS.value, threads) | checked)
            print(report.one_line(rows[-1]), flush=True)
    if table := [row for row in rows if row["suite"] in workloads.SUITES]:
        report.print_table(table)
    write({"machine": machine, "rows": rows})


if __name__ == "__main__":
    command.launch(main, config="lenet5_digits.py")
