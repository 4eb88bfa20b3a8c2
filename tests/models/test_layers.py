"""Layers by themselves, against SciPy, NumPy and finite differences; against torch in test_torch.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from scipy.signal import correlate

from models.arithmetic import Window
from models.geometry import windows
from models.layers import ACTIVATIONS, Convolution, Dropout, LocalResponseNorm, PartialConvolution, RadialBasis
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool, Subsampling


def maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_groups_see_their_own_channels_alone() -> None:
    layer = Convolution(4, 6, windows(3, padding=1), groups=2, rngs=nnx.Rngs(0))
    assert layer.kernel.shape == (3, 3, 2, 6)
    x, kernel = maps(1, 5, 5, 4), np.asarray(layer.kernel[...])
    for out in range(6):
        seen = slice(0, 2) if out < 3 else slice(2, 4)
        expected = sum(
            correlate(np.pad(x[0, ..., seen][..., place], 1), kernel[..., place, out], mode="valid")
            for place in range(2)
        )
        np.testing.assert_allclose(layer(x)[0, ..., out], expected, atol=1e-5)


def test_a_partial_convolution_is_a_full_one_without_the_pairs_that_the_table_lacks() -> None:
    table = ((0, 1), (2,), (0, 2))
    layer = PartialConvolution(
        table, 3, windows(2), dtype=jnp.float32, kernel_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0)
    )
    assert layer.kernel.shape == (2, 2, 5)
    x, kernels = maps(1, 4, 4, 3), np.moveaxis(np.asarray(layer.kernel[...]), -1, 0)
    pairs = iter(kernels)
    for out, seen in enumerate(table):
        expected = sum(correlate(x[0, ..., place], next(pairs), mode="valid") for place in seen)
        np.testing.assert_allclose(layer(x)[0, ..., out], expected, atol=1e-5)
    assert layer.macs((4, 4, 3)) == 9 * 4 * 5
    assert layer.connections((4, 4, 3)) == 9 * (4 * 5 + 3)


def test_subsampling_is_a_coefficient_times_the_sum_plus_a_bias() -> None:
    layer = Subsampling(
        3, windows(2, stride=2), dtype=jnp.float32, coefficient_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0)
    )
    layer.bias[...] = jnp.array([1.0, 2.0, 3.0])
    x = maps(2, 4, 6, 3)
    sums = x.reshape(2, 2, 2, 3, 2, 3).sum((2, 4))
    np.testing.assert_allclose(layer(x), sums * np.asarray(layer.coefficient[...]) + [1, 2, 3], atol=1e-5)


def test_the_nearest_code_has_the_largest_logit() -> None:
    layer = RadialBasis(((1, -1, 1), (-1, -1, -1)))
    np.testing.assert_allclose(layer(jnp.array([[1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])), [[-1, -5], [-8, 0]])


def test_scaled_tanh_is_the_papers() -> None:
    # LeCun et al. 1998, appendix A: f(1) = 1, f(-1) = -1, and the slope at 0 is 1.7159 * 2/3.
    squash = ACTIVATIONS["scaled_tanh"]
    np.testing.assert_allclose(squash(jnp.array([1.0, -1.0])), [1, -1], atol=1e-4)
    assert float(jax.grad(squash)(0.0)) == pytest.approx(1.7159 * 2 / 3)


@pytest.mark.parametrize("size", [5, 3, 4])
def test_local_response_norm_is_the_papers_formula(size: int) -> None:
    norm = LocalResponseNorm(size=size, alpha=0.3, beta=0.75, k=2.0)
    x = maps(2, 3, 3, 8)
    for channel in range(8):
        neighbours = x[..., max(0, channel - (size - 1) // 2) : channel + size // 2 + 1]
        expected = x[..., channel] / (2.0 + 0.3 * np.square(neighbours).sum(-1)) ** 0.75
        np.testing.assert_allclose(norm(x)[..., channel], expected, rtol=1e-5)
    check_grads(norm, (x[:1, :1],), order=1, modes=["rev"], eps=1e-2, atol=1e-2, rtol=1e-2)


def test_alexnets_norm_is_that_of_the_paper() -> None:
    assert LocalResponseNorm() == LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2.0)  # section 3.3


def test_pooling_drops_what_is_left_over() -> None:
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    two = windows(2, stride=2)
    np.testing.assert_array_equal(MaxPool(two)(x)[0, ..., 0], [[6, 8], [16, 18]])
    np.testing.assert_array_equal(AveragePool(two)(x)[0, ..., 0], [[3, 5], [13, 15]])


POOLED = {
    "touching": windows(2, stride=2),
    "overlapping": windows(3, stride=2),
    "padded": windows(3, 1, 1),
    "rounded up": windows(2, 3, ceil=True),
    "larger than the map, rounded up": windows(8, 3, ceil=True),
    "dilated, of two kinds": (Window(2, 1, (0, 1), 2), Window(3, 2, (1, 0))),
}


@pytest.mark.parametrize("pool", [MaxPool, AveragePool])
@pytest.mark.parametrize("window", POOLED.values(), ids=POOLED.keys())
def test_gradient_of_pooling_is_the_finite_difference(pool: type, window: tuple[Window, ...]) -> None:
    # Values far apart, so that a step of the difference moves no maximum.
    x = jax.random.permutation(jax.random.key(0), jnp.arange(98.0)).reshape(1, 7, 7, 2) / 10
    assert pool(window)(x).shape[1:] == pool(window).output((7, 7, 2))
    check_grads(pool(window), (x,), order=1, modes=["rev"], eps=1e-2, atol=1e-2, rtol=1e-2)


def test_several_largest_share_the_gradient() -> None:
    for window in (windows(2, stride=2), windows(2, stride=1)):
        gradient = jax.grad(lambda x, pool: pool(x).sum())(jnp.ones((1, 2, 2, 1)), MaxPool(window))
        np.testing.assert_array_equal(gradient, jnp.full((1, 2, 2, 1), 0.25))


def test_padding_never_wins_nor_counts() -> None:
    x = -jnp.ones((1, 3, 3, 1))
    np.testing.assert_array_equal(MaxPool(windows(3, 1, 1))(x), x)
    np.testing.assert_allclose(AveragePool(windows(3, 1, 1))(x), x, rtol=1e-6)
    with_padding = AveragePool(windows(3, 1, 1), count_padding=True)(x)[0, ..., 0]
    np.testing.assert_allclose(with_padding, -np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9, rtol=1e-6)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    x = jnp.ones(20_000)
    dropped = Dropout(0.3)(x, jax.random.key(0))
    assert float(jnp.mean(dropped == 0)) == pytest.approx(0.3, abs=0.02)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(Dropout(0.3)(x), x)


@pytest.mark.parametrize("sides", [(6, 6), (12, 18), (1, 1), (3, 2), (7, 13)], ids=str)
def test_adaptive_pooling_averages_what_torch_documents(sides: tuple[int, int]) -> None:
    x = maps(2, *sides, 3)
    pooled = AdaptiveAveragePool(6)(jnp.asarray(x))
    for row in range(6):
        for column in range(6):
            top, bottom = row * sides[0] // 6, int(np.ceil((row + 1) * sides[0] / 6))
            left, right = column * sides[1] // 6, int(np.ceil((column + 1) * sides[1] / 6))
            expected = x[:, top:bottom, left:right].mean(axis=(1, 2))
            np.testing.assert_allclose(pooled[:, row, column], expected, atol=1e-5)


def test_maps_of_the_right_size_pass_unchanged() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 2))
    assert AdaptiveAveragePool(6)(x) is x
