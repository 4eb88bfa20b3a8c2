import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.signal import correlate

from models import LeNet5
from models.arithmetic import GeometryError
from models.network import NetworkError


def images(count: int = 2, size: int = 32, channels: int = 1) -> jax.Array:
    return jax.random.normal(jax.random.key(7), (count, size, size, channels))


@pytest.fixture
def network() -> LeNet5:
    return LeNet5(rngs=nnx.Rngs(0))


def test_initial_kernels_are_as_chosen() -> None:
    deviations = {"lecun": 1, "he": 2**0.5, "torch": 3**-0.5}  # times the root of the inputs' number; test_published.py
    for init, deviation in deviations.items():
        kernel = LeNet5(init=init, rngs=nnx.Rngs(0)).C5.kernel[...]
        assert kernel.std() * 400**0.5 == pytest.approx(deviation, rel=0.02)


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
    kernel, bias = np.asarray(network.C1.kernel[...]), np.asarray(network.C1.bias[...])
    for channel in range(6):
        expected = correlate(np.asarray(x[0, ..., 0]), kernel[..., 0, channel], mode="valid") + bias[channel]
        np.testing.assert_allclose(maps[0, ..., channel], np.maximum(expected, 0), atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "scaled_tanh"])
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


def test_bfloat16_is_nearly_float32() -> None:
    logits = LeNet5(dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(images())
    assert logits.dtype == jnp.bfloat16
    np.testing.assert_allclose(logits.astype(jnp.float32), LeNet5(rngs=nnx.Rngs(0))(images()), atol=0.05)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (4, "stage C1: a 5x5 window makes 0x0 of a 4x4 map"),
        (11, "stage C3: a 5x5 window makes 0x0 of a 3x3 map"),
        (15, "stage S4: a 2x2 window makes 0x0 of a 1x1 map"),
    ],
)
def test_too_small_an_image_names_the_stage_and_both_sizes(size: int, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        LeNet5(image_size=size, rngs=nnx.Rngs(0))


def test_a_series_is_read_row_by_row() -> None:
    network = LeNet5(dimensions=1, image_size=8, rngs=nnx.Rngs(0))
    x = images(1, 8)
    stages = dict(network.stages(x))
    assert {name: stage.shape[1:] for name, stage in stages.items() if stage.ndim == 3} == {
        "C1": (60, 6),
        "S2": (30, 6),
        "C3": (26, 16),
        "S4": (13, 16),
    }
    series = np.asarray(x).reshape(64)
    kernel, bias = np.asarray(network.C1.kernel[...]), np.asarray(network.C1.bias[...])
    for channel in range(6):
        expected = correlate(series, kernel[:, 0, channel], mode="valid") + bias[channel]
        np.testing.assert_allclose(stages["C1"][0, :, channel], np.maximum(expected, 0), atol=1e-5)
    with pytest.raises(GeometryError, match="stage C3: a 5 window makes 0 of a 2 map"):
        LeNet5(dimensions=1, image_size=3, rngs=nnx.Rngs(0))


def test_other_sizes_make_the_nets_that_people_train_on_digits() -> None:
    """Those of PyTorch's basic MNIST example: 3x3 convolutions, one pooling, 128 units, 1,199,882 parameters."""
    network = LeNet5(
        image_size=28,
        widths=(32, 64),
        kernels=(3, 3),
        padding=(0, 0),
        pools=(1, 2),
        hidden=(128,),
        rngs=nnx.Rngs(0),
    )
    assert {name: activation.shape[1:] for name, activation in network.stages(images(size=28))} == {
        "C1": (26, 26, 32),
        "C2": (24, 24, 64),
        "S3": (12, 12, 64),
        "C4": (128,),
        "output": (10,),
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))) == 1_199_882


def test_padding_keeps_the_size_and_no_hidden_layer_is_a_linear_head() -> None:
    network = LeNet5(image_size=28, widths=(8,), kernels=(5,), padding=(2,), pools=(2,), hidden=(), rngs=nnx.Rngs(0))
    stages = {name: activation.shape[1:] for name, activation in network.stages(images(size=28))}
    assert stages == {"C1": (28, 28, 8), "S2": (14, 14, 8), "output": (10,)}


def test_each_convolution_takes_one_of_each_size() -> None:
    with pytest.raises(NetworkError, match=r"widths=\(6, 16\), kernels=\(5,\), .*: must have one entry for each"):
        LeNet5(kernels=(5,), rngs=nnx.Rngs(0))
