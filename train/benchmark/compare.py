"""Training step and inference of the three networks, beside a peer, and against the rate of matrix products."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.benchmark.process import Side
from train.benchmark.workloads import Workload
from train.errors import UserError

# Which module is the peer's process, and the package it takes.
PEERS = {"torch": ("torch_side", "torch")}
# Seconds of one measurement of a candidate setting, and of one that counts.
_TRIAL, _TURN = 1.0, 3.0
# The rate of products is measured for so long in each turn.
_PRODUCTS = 1.0


def measure(work: Workload, config: str, peer: str | None, repeats: int, threads: int) -> dict[str, Any]:
    """Measure a workload here, at the peer and as bare products, in turns, after one turn that does not count.

    Args:
      work: what.
      config: configs/base.py's config as JSON.
      peer: a key of `PEERS`, or None.
      repeats: turns that count.
      threads: of the peer; this project computes on all cores.

    Returns:
      A row: the workload, `images_per_second` (median) with `spread` ([minimum, maximum]), `fraction_of_limit`,
      `compile_seconds`, `first_step_seconds` (from the start of the process), `peak_bytes` (above the imports); the
      same with the prefix `peer_`, `peer` and `ratio` of the medians; and `limit_flops`, the median rate of products.

    Raises:
      UserError: a side has failed.
    """
    with contextlib.ExitStack() as stack:
        sides = {"": stack.enter_context(Side("jax_side", threads))}
        ready = {"": sides[""].ask("prepare", workload=work, config=config)}
        if peer:
            sides["peer_"], ready["peer_"] = stack.enter_context(_best_peer(work, peer, threads))
        limit = stack.enter_context(Side("jax_side", threads))
        answers: dict[str, list[dict[str, Any]]] = {prefix: [] for prefix in sides}
        rates = []
        for turn in range(repeats + 1):
            for prefix, side in sides.items():
                answer = side.ask("measure", seconds=_TURN)
                if turn:
                    answers[prefix].append(answer)
            rates.append(limit.ask("matrix_rate", precision=work.precision, seconds=_PRODUCTS)["flops"])
    row: dict[str, Any] = {"suite": work.suite, "model": work.model, "precision": work.precision}
    row |= {"batch_size": work.network.batch_size, "image_size": work.network.image_size}
    row["limit_flops"] = statistics.median(rates[1:])
    row["peer"] = peer
    for prefix, side_answers in answers.items():
        figures = [answer["images_per_second"] for answer in side_answers]
        row |= {
            f"{prefix}images_per_second": statistics.median(figures),
            f"{prefix}spread": [min(figures), max(figures)],
            f"{prefix}fraction_of_limit": statistics.median(figures) * work.flops / row["limit_flops"],
            f"{prefix}peak_bytes": max(answer["peak_bytes"] for answer in side_answers),
            **{f"{prefix}{name}": value for name, value in ready[prefix].items()},
        }
    if peer:
        row["ratio"] = row["images_per_second"] / row["peer_images_per_second"]
    return row


@contextlib.contextmanager
def _best_peer(work: Workload, peer: str, threads: int) -> Iterator[tuple[Side, dict[str, Any]]]:
    """Yield the peer's process in its fastest setting: the better layout, then compiled or not."""
    module, _ = PEERS[peer]

    def trial(setting: dict[str, bool]) -> float:
        with Side(module, threads) as side:
            side.ask("prepare", workload=work, **setting)
            return side.ask("measure", seconds=_TRIAL)["images_per_second"]

    best: dict[str, bool] = {"channels_last": False, "compiled": False}
    fastest = trial(best)
    for change in ("channels_last", "compiled"):
        try:
            figure = trial(best | {change: True})
        except UserError:
            if change == "compiled":  # takes a C++ compiler, which may not be there
                break
            raise
        if figure > fastest:
            best, fastest = best | {change: True}, figure
    with Side(module, threads) as side:
        yield side, side.ask("prepare", workload=work, **best)


def check(work: Workload, config: str, peer: str, threads: int) -> dict[str, Any]:
    """Compare logits and gradients of both sides on the same weights and images, without dropout.

    Returns:
      logits_error and gradient_error; see torch_side.py.
    """
    module, _ = PEERS[peer]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "ours.npz"))
        with Side("jax_side", threads) as ours:
            ours.ask("export", workload=work, config=config, path=path)
        with Side(module, threads) as theirs:
            return theirs.ask("compare", workload=work, path=path)
