"""Time to accuracy: all of a training, from the start of its process to the test figure, beside a peer's."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.benchmark.own import Launch
from train.errors import UserError
from train.records import RESULT

SUITE = "accuracy"
# The peer's process, and the layouts of memory that it is tried in.
_PEER, _LAYOUTS = "train.benchmark.torch_mnist", ("contiguous", "channels_last")
_FILES = "idx:"


def measure(config: ConfigDict, launch: Launch, repeats: int, threads: int) -> dict[str, Any]:
    """Train on both sides in turns, with seeds 1 to `repeats`, after a turn with seed 0 that does not count.

    In that turn our compilation cache is empty, and the peer takes the faster one of its layouts.

    Args:
      config: of LeNet-5 on a source "idx:FOLDER".
      launch: starts scripts.train on it.
      repeats: turns that count.
      threads: of the peer; this project computes on all cores.

    Returns:
      A row: `seconds_in_all` (median, of whole processes) with `spread` ([minimum, maximum]), `accuracy` (mean over
      the seeds, on the test images) with `accuracies`, and `first_seconds`, those of the turn without a cache; the same
      with the prefix `peer_`, but for the last; and the ratio of the medians.

    Raises:
      UserError: the source is another, or a side has failed.
    """
    source = config.dataset.source
    if config.model.name != "lenet5" or not source.startswith(_FILES):
        raise UserError(
            f"--suite={SUITE}: the peer trains LeNet-5 on idx:FOLDER, not {config.model.name} on {source}; take "
            "--config=configs/lenet5_mnist_fast.py --config.dataset.source=idx:FOLDER"
        )
    with tempfile.TemporaryDirectory() as cache:

        def ours(seed: int) -> tuple[float, float]:
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                arguments = [f"--compilation_cache={cache}", f"--workdir={run}", f"--config.seed={seed}"]
                seconds = _timed(lambda: launch(arguments))[0]
                return seconds, json.loads((run / RESULT).read_text())["test"]["accuracy"]

        def theirs(seed: int, layout: str) -> tuple[float, float]:
            line = [sys.executable, "-m", _PEER, source.removeprefix(_FILES), str(seed), str(threads), layout]
            seconds, said = _timed(lambda: subprocess.Popen(line, stdout=subprocess.PIPE))
            return seconds, json.loads(said)["accuracy"]

        first, _ = ours(0)
        layout = min(_LAYOUTS, key=lambda layout: theirs(0, layout)[0])
        sides: dict[str, Callable[[int], tuple[float, float]]] = {"": ours, "peer_": lambda seed: theirs(seed, layout)}
        figures: dict[str, list[tuple[float, float]]] = {prefix: [] for prefix in sides}
        for turn in range(1, repeats + 1):
            # Each side comes first every other time: what comes second may find a warmer machine.
            for prefix in list(sides)[:: 1 if turn % 2 else -1]:
                figures[prefix].append(sides[prefix](turn))
    row: dict[str, Any] = {"suite": SUITE, "setting": "scripts.train", "first_seconds": first}
    row |= {"peer": "torch", "peer_setting": layout, "fraction_of_limit": None}
    for prefix, pairs in figures.items():
        seconds, accuracies = zip(*pairs, strict=True)
        row |= {f"{prefix}seconds_in_all": statistics.median(seconds), f"{prefix}spread": [min(seconds), max(seconds)]}
        row |= {f"{prefix}accuracy": statistics.mean(accuracies), f"{prefix}accuracies": list(accuracies)}
    return row | {"ratio": row["seconds_in_all"] / row["peer_seconds_in_all"]}


def _timed(start: Callable[[], subprocess.Popen[bytes]]) -> tuple[float, bytes]:
    """Return how many seconds a process takes from its start to its end, and what it prints."""
    began = time.perf_counter()
    process = start()
    said, _ = process.communicate()
    if process.returncode:
        raise UserError(
            f"--suite={SUITE}: a side has failed with status {process.returncode}; its message stands above"
        )
    return time.perf_counter() - began, said
