import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.data.order import batch_indices


@given(count=st.integers(1, 40), batch_size=st.integers(1, 70), seed=st.integers(0, 9), epochs=st.integers(1, 3))
def test_each_image_comes_once_an_epoch(count: int, batch_size: int, seed: int, epochs: int) -> None:
    steps = -(-epochs * count // batch_size)
    stream = np.concatenate([batch_indices(count, batch_size, seed, step) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    later = batch_indices(1000, 64, 3, 40)
    batch_indices(1000, 64, 3, 0)
    np.testing.assert_array_equal(batch_indices(1000, 64, 3, 40), later)
    assert not np.array_equal(batch_indices(1000, 64, 4, 40), later)
    assert later.dtype == np.int32


def test_epochs_have_other_orders() -> None:
    assert not np.array_equal(batch_indices(50, 50, 0, 0), batch_indices(50, 50, 0, 1))
