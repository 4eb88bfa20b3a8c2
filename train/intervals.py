"""Intervals of 95 % around accuracies: of a share of images, and of a mean over runs or draws."""

import math
import statistics
from collections.abc import Sequence

_LEVEL = 0.95


def of_share(hits: int, count: int) -> list[float]:
    """Return the ends of the interval around hits / count (Wilson 1927)."""
    from scipy.stats import binomtest  # 0.5 s to import

    ends = binomtest(hits, count).proportion_ci(_LEVEL, method="wilson")
    return [float(ends.low), float(ends.high)]


def of_mean(values: Sequence[float]) -> tuple[float, list[float] | None]:
    """Return the mean of accuracies, and the ends of its interval by Student's t, within 0 to 1; None of one value."""
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    quantile = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean, [max(mean - half, 0.0), min(mean + half, 1.0)]
