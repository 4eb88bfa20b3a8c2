"""What is measured between two lines of metrics.jsonl."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax

from train.errors import NotFiniteError
from train.feed import AHEAD
from train.step import Metrics


class Meter:
    """Sums up batches. Results stay on the device until somebody asks, so that the host runs ahead of it.

    Args:
      batch_size: images a step.
      sums: what `fetch` returned when the state was saved that this run resumes from.
    """

    def __init__(self, batch_size: int, sums: dict[str, Any] | None = None) -> None:
        self._batch_size = batch_size
        self._pending: list[tuple[int, Metrics]] = []
        self._begin(sums)

    def _begin(self, sums: dict[str, Any] | None) -> None:
        self._sums: dict[str, Any] = sums or {"loss": 0.0, "correct": 0, "steps": 0}
        self._steps_taken = 0  # by this process: resumed sums hold steps of another one
        self._seconds = 0.0
        self._since = time.perf_counter()

    def add(self, step: int, metrics: Metrics) -> None:
        """Take what a step returned, and wait where the host is too far ahead."""
        self._pending.append((step, metrics))
        if len(self._pending) > AHEAD:
            jax.block_until_ready(self._pending[-1 - AHEAD][1])

    def fetch(self) -> dict[str, Any]:
        """Wait for the device and return the sums.

        Raises:
          NotFiniteError: names the first step whose loss is not finite.
        """
        pending, self._pending = jax.device_get(self._pending), []
        for step, metrics in pending:
            if not math.isfinite(metrics.loss):
                raise NotFiniteError(f"the loss of step {step:,} is {metrics.loss.item()}")
            self._sums["loss"] += metrics.loss.item()
            self._sums["correct"] += metrics.correct.item()
        self._sums["steps"] += len(pending)
        self._steps_taken += len(pending)
        return dict(self._sums)

    @contextlib.contextmanager
    def paused(self) -> Iterator[dict[str, Any]]:
        """Wait for the device, and stop the clock over what is no training; yields what `fetch` returns."""
        sums = self.fetch()
        self._seconds += time.perf_counter() - self._since
        yield sums
        self._since = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Return loss and accuracy (means) and images_per_second, and begin anew."""
        sums = self.fetch()
        seconds = self._seconds + time.perf_counter() - self._since
        images_per_second = self._steps_taken * self._batch_size / seconds
        self._begin(None)
        return {
            "loss": sums["loss"] / sums["steps"],
            "accuracy": sums["correct"] / (sums["steps"] * self._batch_size),
            "images_per_second": round(images_per_second, 1),
        }
