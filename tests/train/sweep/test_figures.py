import numpy as np
import pytest
from scipy import stats

from train.sweep.figures import mean_and_interval


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    mean, interval = mean_and_interval(values.tolist())
    assert mean == pytest.approx(values.mean())
    assert interval == pytest.approx(stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values)))


def test_one_value_has_no_interval_and_none_leaves_the_shares() -> None:
    assert mean_and_interval([0.5]) == (0.5, None)
    assert mean_and_interval([0.99, 1.0, 0.98])[1][1] == 1.0
    assert mean_and_interval([1.0, 1.0]) == (1.0, [1.0, 1.0])
