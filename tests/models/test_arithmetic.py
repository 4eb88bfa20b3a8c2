"""Sizes, uses and receptive fields along one dimension, against the lecture, the guide and XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given
from hypothesis import strategies as st

from models.arithmetic import GeometryError, ReceptiveField, Window, sizes_until_none_fits
from models.geometry import windows
from models.layers import Convolution
from models.pooling import MaxPool


@pytest.mark.parametrize(
    ("length", "window", "outputs"),
    [
        # The lecture: n - f + 1; n + 2p - f + 1; floor((n + 2p - f) / s) + 1; "same" is p = (f - 1) / 2.
        (32, Window(5), 28),
        (5, Window(3, padding=(1, 1)), 5),
        (5, Window(3, stride=2, padding=(1, 1)), 3),
        (6, Window(3, stride=2), 2),
        (28, Window.same(28, 5), 28),
        # Dumoulin and Visin's section 4.2: i = 5, k = 3, s = 2, p = 1; relationship 15 (dilation): i = 7, k = 3, d = 2.
        (6, Window(3, stride=2, padding=(1, 1)), 3),
        (7, Window(3, dilation=2), 3),
        # AlexNet's conv1 from 227 without padding, and torchvision's from 224.
        (227, Window(11, stride=4), 55),
        (224, Window(11, stride=4, padding=(2, 2)), 55),
        # Caffe's pooling of CaffeNet's and of VGG's odd maps rounds up; but no window begins in the padding behind.
        (56, Window(3, stride=2, ceil=True), 28),
        (55, Window(3, stride=2, ceil=True), 27),
        (2, Window(1, stride=2, ceil=True), 1),
        (3, Window(3, stride=2, padding=(2, 2), ceil=True), 3),
        (2, Window(3, stride=2, ceil=True), 1),
        (2, Window(5, stride=2, ceil=True), 0),
        # TensorFlow's "SAME": ceil(n / s).
        (224, Window.same(224, 7, stride=2), 112),
        (10, Window.same(10, 3, stride=4), 3),
        (4, Window(5), 0),
        (1, Window(1), 1),
    ],
)
def test_outputs(length: int, window: Window, outputs: int) -> None:
    assert window.outputs(length) == outputs


def test_same_puts_the_odd_pixel_behind_or_before() -> None:
    assert Window.same(32, 2).padding == (0, 1)
    assert Window.same(32, 2, lower=True).padding == (1, 0)
    assert Window.same(32, 5).padding == (2, 2)


WINDOWS = st.builds(
    Window,
    size=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 3),
)


@given(length=st.integers(1, 20), window=WINDOWS)
def test_outputs_counts_and_uses_are_those_of_xlas_convolution(length: int, window: Window) -> None:
    assume(window.outputs(length))

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, [window.stride], [window.padding], rhs_dilation=[window.dilation]
        )

    ones, kernel = jnp.ones((1, 1, length)), jnp.ones((1, 1, window.size))
    counts = convolve(ones, kernel)[0, 0]
    np.testing.assert_array_equal(window.counts(length), counts)
    np.testing.assert_array_equal(window.uses(length), jax.grad(lambda x: convolve(x, kernel).sum())(ones)[0, 0])
    assert window.outputs(length) == len(counts)


def test_the_corner_is_used_once_and_the_middle_nine_times() -> None:
    # The lecture: a 3x3 filter on 5x5 pixels.
    uses = np.multiply.outer(Window(3).uses(5), Window(3).uses(5))
    np.testing.assert_array_equal(uses[0], [1, 2, 3, 2, 1])
    assert uses[2, 2] == 9


def test_seven_convolutions_fit_into_32_pixels() -> None:
    # The lecture asks when 1x1 is left: never, for 4x4 is, and no 5x5 filter fits.
    assert sizes_until_none_fits(32, Window(5)) == [32, 28, 24, 20, 16, 12, 8, 4]
    assert sizes_until_none_fits(32, Window(2, stride=2)) == [32, 16, 8, 4, 2, 1]
    with pytest.raises(GeometryError, match="3 makes 32 of 32 pixels: it always fits"):
        sizes_until_none_fits(32, Window.same(32, 3))


def test_receptive_fields_of_two_3x3_are_one_5x5() -> None:
    # Simonyan and Zisserman, section 2.3: two 3x3 convolutions see 5x5, three 7x7.
    twice = ReceptiveField().behind(Window(3)).behind(Window(3))
    assert twice == ReceptiveField(5, 1, 0)
    assert twice.behind(Window(3)) == ReceptiveField(7, 1, 0)
    assert ReceptiveField().behind(Window(3, stride=2, padding=(1, 1), dilation=2)) == ReceptiveField(5, 2, -1)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_one_to_three_dimensions(dimensions: int) -> None:
    sides = (9, 8, 7)[:dimensions]
    convolution = Convolution(2, 4, windows(3, 2, 1, dimensions=dimensions), groups=2, rngs=nnx.Rngs(0))
    pool = MaxPool(windows(3, stride=2, dimensions=dimensions))
    maps = convolution(jnp.ones((1, *sides, 2)))
    assert maps.shape[1:] == convolution.output((*sides, 2)) == (*(5, 4, 4)[:dimensions], 4)
    assert pool(maps).shape[1:] == pool.output(maps.shape[1:]) == (*(2, 1, 1)[:dimensions], 4)
    assert convolution.macs((*sides, 2)) == 4 * 3**dimensions * np.prod(maps.shape[1:-1])


@pytest.mark.parametrize(
    ("channels", "width", "message"),
    [(3, 4, "2 groups do not divide the 3 channels that come in"), (4, 5, "2 groups do not divide the 5 channels")],
)
def test_groups_that_do_not_divide_name_both_numbers(channels: int, width: int, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Convolution(channels, width, windows(3), groups=2, rngs=nnx.Rngs(0))


def test_a_window_that_does_not_fit_names_the_sizes_on_both_sides() -> None:
    with pytest.raises(GeometryError, match="a 5x5 window makes 0x0 of a 4x4 map"):
        MaxPool(windows(5)).output((4, 4, 1))
    with pytest.raises(GeometryError, match=r"a 9x9 window makes 0x0 of a 4x4 map padded by 2\+2"):
        MaxPool(windows(9, padding=2)).output((4, 4, 1))
    with pytest.raises(GeometryError, match="a 5x1 window makes 0x4 of a 4x4 map"):
        MaxPool((Window(5), Window(1))).output((4, 4, 1))
