"""Intervals against SciPy's and a published example."""

import numpy as np
import pytest
from scipy import stats

from train import intervals


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    mean, interval = intervals.of_mean(values.tolist())
    assert mean == pytest.approx(values.mean())
    assert interval == pytest.approx(stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values)))


def test_one_value_has_no_interval_and_none_leaves_the_shares() -> None:
    assert intervals.of_mean([0.5]) == (0.5, None)
    assert intervals.of_mean([0.99, 1.0, 0.98])[1][1] == 1.0
    assert intervals.of_mean([1.0, 1.0]) == (1.0, [1.0, 1.0])


def test_of_a_share_it_is_wilsons() -> None:
    # An example of Newcombe 1998, "Two-sided confidence intervals for the single proportion": 81 of 263.
    assert intervals.of_share(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
