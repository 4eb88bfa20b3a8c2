"""Training step and inference of the three networks, beside a peer, and against the rate of matrix products."""

import contextlib
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax import nnx

from models import NETWORKS
from models.summary import rows
from train.benchmark.process import Side
from train.benchmark.workloads import Workload
from train.errors import UserError

# Which module is the peer's process, and the package it takes.
PEERS = {"torch": ("torch_side", "torch")}
_NO_PEER = dict.fromkeys(("peer_setting", "peer_images_per_second", "ratio"))
# Differences that rounding explains, of logits and of gradients: more, and the two sides do not compute the same.
# Where rounding carries a unit over zero or makes another pixel the maximum of its window, gradients change by a step:
# from its own float64, torch's float32 was 4e-3 of a layer's norm away in AlexNet (10 such decisions of 37 million)
# and 7e-3 in VGG-16 (31 of 120 million), ours 5e-4 and 3e-3. Layers behind the last of them agreed to 4e-6.
TOLERANCES = {"float32": (1e-4, 2e-2), "bfloat16": (0.1, 0.5)}
# Seconds of one measurement of a candidate setting, and of one that counts.
_TRIAL, _TURN = 0.5, 3.0
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
      same with the prefix `peer_` (and `peer_tried`: images/s by setting), `peer` and `ratio` of the medians, which are
      None without a peer; and `limit_flops`, the median rate of the faster side's products.

    Raises:
      UserError: a side has failed.
    """
    with contextlib.ExitStack() as stack:
        sides = {"": stack.enter_context(Side("jax_side", threads))}
        ready = {"": sides[""].ask("prepare", workload=work, config=config)}
        if peer:
            sides["peer_"], ready["peer_"] = stack.enter_context(_best_peer(work, peer, threads))
        # Whose products are the faster ones is no matter of ours: the machine can do the better of both.
        modules = ("jax_side", PEERS[peer][0]) if peer else ("jax_side",)
        limits = [stack.enter_context(Side(module, threads)) for module in modules]
        answers: dict[str, list[dict[str, Any]]] = {prefix: [] for prefix in sides}
        rates = []
        for turn in range(repeats + 1):
            for prefix, side in sides.items():
                answer = side.ask("measure", seconds=_TURN)
                if turn:
                    answers[prefix].append(answer)
            products = [side.ask("matrix_rate", precision=work.precision, seconds=_PRODUCTS) for side in limits]
            rates.append(max(product["flops"] for product in products))
    row: dict[str, Any] = {"suite": work.suite, "model": work.model, "precision": work.precision}
    row |= {"batch_size": work.network.batch_size, "image_size": work.network.image_size}
    row["limit_flops"] = statistics.median(rates[1:])
    row["peer"] = peer
    for prefix, side_answers in answers.items():
        figures = [answer["images_per_second"] for answer in side_answers]
        row |= {
            f"{prefix}images_per_second": statistics.median(figures),
            f"{prefix}spread": [min(figures), max(figures)],
            f"{prefix}fraction_of_limit": statistics.median(figures) * flops(work) / row["limit_flops"],
            f"{prefix}peak_bytes": max(answer["peak_bytes"] for answer in side_answers),
            **{f"{prefix}{name}": value for name, value in ready[prefix].items()},
        }
    row |= {"ratio": row["images_per_second"] / row["peer_images_per_second"]} if peer else _NO_PEER
    return row


def flops(work: Workload) -> int:
    """Return the floating-point operations of an image: two a multiply-accumulate, by the formula (padding counts).

    Training takes three passes; but the input of the first layer takes no gradient.
    """
    measured, make = work.network, next(iter(NETWORKS[work.model].values()))
    sizes = {"image_size": measured.image_size, "channels": measured.channels, "classes": measured.classes}
    macs = [row.macs for row in rows(nnx.eval_shape(lambda: make(**sizes, rngs=nnx.Rngs(0))))]
    return 2 * (3 * sum(macs) - macs[0] if work.suite == "train" else sum(macs))


@contextlib.contextmanager
def _best_peer(work: Workload, peer: str, threads: int) -> Iterator[tuple[Side, dict[str, Any]]]:
    """Yield the peer's process in the fastest of its settings, and what it says, with `tried`: images/s of all."""
    module, _ = PEERS[peer]
    tried: dict[str, float | str] = {}
    figures: dict[tuple[bool, bool, bool], float] = {}
    narrow = (False, True) if (work.suite, work.precision) == ("infer", "bfloat16") else (False,)

    def prepared(side: Side, chosen: tuple[bool, bool, bool]) -> dict[str, Any]:
        return side.ask(
            "prepare", workload=work, **dict(zip(("channels_last", "compiled", "narrow"), chosen, strict=True))
        )

    for chosen in itertools.product((False, True), (False, True), narrow):
        with Side(module, threads) as side:
            try:
                ready = prepared(side, chosen)
            except UserError as error:
                if not chosen[1]:
                    raise
                tried["compiled"] = str(error)  # it takes a C++ compiler
                continue
            trials = [side.ask("measure", seconds=_TRIAL)["images_per_second"] for _ in range(2)]
        tried[ready["setting"]] = figures[chosen] = max(trials)
    chosen = max(figures, key=figures.__getitem__)
    with Side(module, threads) as side:
        yield side, prepared(side, chosen) | {"tried": tried}


def check(work: Workload, config: str, peer: str, threads: int) -> dict[str, Any]:
    """Compare logits and gradients of both sides on the same weights and images, without dropout.

    Returns:
      logits_error and gradient_error; see torch_side.py.

    Raises:
      UserError: they differ by more than `TOLERANCES`.
    """
    module, _ = PEERS[peer]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "ours.npz"))
        with Side("jax_side", threads) as ours:
            ours.ask("export", workload=work, config=config, path=path)
        with Side(module, threads) as theirs:
            errors = theirs.ask("compare", workload=work, path=path)
    for name, tolerance in zip(("logits_error", "gradient_error"), TOLERANCES[work.precision], strict=True):
        if not errors[name] <= tolerance:
            raise UserError(
                f"--check: {work.model} in {work.precision}: {name} is {errors[name]:.1e}, more than {tolerance:.0e}; "
                f"this project and {peer} do not compute the same"
            )
    return errors
