import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from scipy.signal import correlate

from models import LeNet5
from models.arithmetic import GeometryError, output_size
from models.layers import dropout, pool


def images(count: int = 2, size: int = 32, channels: int = 1) -> jax.Array:
    return jax.random.normal(jax.random.key(7), (count, size, size, channels))


@pytest.fixture
def network() -> LeNet5:
    return LeNet5(rngs=nnx.Rngs(0))


def test_parameters_are_those_of_the_lecture(network: LeNet5) -> None:
    def count(module: nnx.Module) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))

    layers = (network.c1, network.c3, network.c5, network.f6, network.output)
    assert [count(layer) for layer in layers] == [156, 2_416, 48_120, 10_164, 850]
    assert count(network) == 61_706


def test_stages_have_the_papers_names_and_sizes(network: LeNet5) -> None:
    stages = {name: activation.shape[1:] for name, activation in network.stages(images())}
    assert stages == {
        "C1": (28, 28, 6),
        "S2": (14, 14, 6),
        "C3": (10, 10, 16),
        "S4": (5, 5, 16),
        "C5": (120,),
        "F6": (84,),
        "output": (10,),
    }


def test_first_convolution_is_scipys(network: LeNet5) -> None:
    x = images(1)
    maps = dict(network.stages(x))["C1"]
    kernel, bias = np.asarray(network.c1.kernel[...]), np.asarray(network.c1.bias[...])
    for channel in range(6):
        expected = correlate(np.asarray(x[0, ..., 0]), kernel[..., 0, channel], mode="valid") + bias[channel]
        np.testing.assert_allclose(maps[0, ..., channel], np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("average", np.mean)])
def test_pooling_halves_the_yielded_maps(activation: str, pooling: str, reduce) -> None:
    # The network pools before it activates where that is the same; what it yields must not show it.
    stages = dict(LeNet5(activation=activation, pooling=pooling, rngs=nnx.Rngs(0)).stages(images()))
    for convolved, pooled in (("C1", "S2"), ("C3", "S4")):
        windows = np.lib.stride_tricks.sliding_window_view(stages[convolved], (2, 2), axis=(1, 2))[:, ::2, ::2]
        np.testing.assert_allclose(stages[pooled], reduce(windows, axis=(-2, -1)), atol=1e-6)


def test_convolution_moves_with_the_image(network: LeNet5) -> None:
    x = jnp.pad(images(1, 24), ((0, 0), (4, 4), (4, 4), (0, 0)))
    moved = jnp.roll(x, (2, 3), axis=(1, 2))
    there, here = dict(network.stages(moved))["C1"], dict(network.stages(x))["C1"]
    np.testing.assert_allclose(there[:, 2:, 3:], here[:, :-2, :-3], atol=1e-6)


@pytest.mark.parametrize(("size", "channels", "classes"), [(16, 3, 2), (17, 1, 100), (33, 4, 10)])
def test_any_size_channels_and_classes(size: int, channels: int, classes: int) -> None:
    network = LeNet5(image_size=size, channels=channels, classes=classes, rngs=nnx.Rngs(0))
    assert network(images(3, size, channels)).shape == (3, classes)


def test_bfloat16_computes_small_and_keeps_parameters_large() -> None:
    network = LeNet5(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))} == {jnp.dtype(jnp.float32)}
    logits = network(images())
    assert logits.dtype == jnp.bfloat16
    np.testing.assert_allclose(logits.astype(jnp.float32), LeNet5(rngs=nnx.Rngs(0))(images()), atol=0.05)


@pytest.mark.parametrize(
    ("size", "message"),
    [(4, "C1: a 5x5 window .* 4x4"), (11, "C3: a 5x5 window .* 3x3"), (15, "S4: a 2x2 window .* 1x1")],
)
def test_too_small_an_image_names_the_stage(size: int, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        LeNet5(image_size=size, rngs=nnx.Rngs(0))


def test_output_size_is_the_lectures() -> None:
    # The lecture: n - f + 1; n + 2p - f + 1; floor((n + 2p - f) / s) + 1.
    assert output_size("", 32, 5) == 28
    assert output_size("", 5, 3, padding=1) == 5
    assert output_size("", 5, 3, stride=2, padding=1) == 3
    assert output_size("", 6, 3, stride=2) == 2


def test_pool_drops_what_is_left_over() -> None:
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(pool(x, 2, "max")[0, ..., 0], [[6, 8], [16, 18]])
    np.testing.assert_array_equal(pool(x, 2, "average")[0, ..., 0], [[3, 5], [13, 15]])


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pool_gradient_is_the_finite_difference(kind: str) -> None:
    x = jax.random.permutation(jax.random.key(0), jnp.arange(72.0)).reshape(1, 6, 6, 2) / 10
    check_grads(lambda x: pool(x, 2, kind), (x,), order=1, modes=["rev"], eps=1e-2, atol=1e-2, rtol=1e-2)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    x = jnp.ones(20_000)
    dropped = dropout(x, 0.3, jax.random.key(0))
    assert float(jnp.mean(dropped == 0)) == pytest.approx(0.3, abs=0.02)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(dropout(x, 0.3, None), x)
