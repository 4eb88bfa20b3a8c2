"""AlexNet and VGG-16 against torch.nn on the same weights, moved by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import NETWORKS
from models.layers import adaptive_average_pool

pytestmark = pytest.mark.peer
torch: Any = None  # imported where these tests run, which is not everywhere where they are collected


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    global torch
    torch = pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')


def hwc(array: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(array).transpose(0, 3, 1, 2)))


def theirs_layout(kernel: np.ndarray, maps: int | None) -> np.ndarray:
    """Transpose a kernel; `maps` is how many maps a dense layer sees flattened (ours H, W, C; torch's C, H, W)."""
    if kernel.ndim == 4:
        return np.einsum("hwio->oihw", kernel)
    if maps:
        side = round((len(kernel) // maps) ** 0.5)
        return np.einsum("hwco->ochw", kernel.reshape(side, side, maps, -1)).reshape(kernel.shape[1], -1)
    return kernel.T


def assign(ours: nnx.Module, theirs: Any, maps: int | None = None) -> None:
    """Copy kernel and bias."""
    kernel, bias = theirs_layout(np.asarray(ours.kernel[...]), maps), np.array(ours.bias[...])
    assert theirs.weight.shape == kernel.shape
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        theirs.bias.copy_(torch.from_numpy(bias))


def torch_network(name: str, ours: nnx.Module) -> Any:
    from train.benchmark.torch_networks import NETWORKS as TORCH_NETWORKS

    theirs = TORCH_NETWORKS[name](3, 1000, 0.5)
    published = {"alexnet": 61_100_840, "vgg16": 138_357_544}
    assert sum(parameter.numel() for parameter in theirs.parameters()) == published[name]
    convolutions = [module for module in theirs.modules() if isinstance(module, torch.nn.Conv2d)]
    dense = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)]
    for mine, layer in zip(ours.convolutions, convolutions, strict=True):
        assign(mine, layer)
    maps = (convolutions[-1].out_channels, None, None)
    for mine, layer, seen in zip((ours.fc6, ours.fc7, ours.fc8), dense, maps, strict=True):
        assign(mine, layer, seen)
    return theirs.eval()


@pytest.mark.parametrize(("name", "sizes"), [("alexnet", (224, 128, 63)), ("vgg16", (224, 96, 32))])
def test_logits_are_torchs(name: str, sizes: tuple[int, ...]) -> None:
    ours = NETWORKS[name](rngs=nnx.Rngs(3))
    theirs = torch_network(name, ours)
    call = jax.jit(lambda network, x: network(x))
    for size in sizes:  # the weights do not depend on it
        x = np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(np.float32)
        with torch.inference_mode():
            expected = theirs(hwc(x)).numpy()
        difference = np.abs(np.asarray(call(ours, x)) - expected).max()
        assert difference < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "size"), [("alexnet", 127), ("vgg16", 64)])
def test_gradients_are_torchs(name: str, size: int) -> None:
    # In float64: in float32 rounding carries a unit over zero on one side alone, which moves gradients by 1e-3.
    with jax.enable_x64(True):
        ours = NETWORKS[name](dtype=jnp.float64, rngs=nnx.Rngs(3))
        theirs = torch_network(name, ours).double()
        random = np.random.default_rng(size)
        x, labels = random.normal(size=(2, size, size, 3)), random.integers(0, 1000, 2)
        torch.nn.functional.cross_entropy(theirs(hwc(x)), torch.from_numpy(labels)).backward()
        graph, params = nnx.split(ours, nnx.Param)

        def loss(params: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, params)(x), labels).mean()

        gradients = nnx.merge(graph, jax.jit(jax.grad(loss))(jax.tree.map(lambda a: a.astype(jnp.float64), params)))
    expected = [module for module in theirs.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    maps = [None] * len(gradients.convolutions) + [expected[len(gradients.convolutions) - 1].out_channels, None, None]
    layers = [*gradients.convolutions, gradients.fc6, gradients.fc7, gradients.fc8]
    for ours_layer, layer, seen in zip(layers, expected, maps, strict=True):
        kernel = theirs_layout(np.asarray(ours_layer.kernel[...]), seen)
        for mine, other in ((kernel, layer.weight.grad), (np.asarray(ours_layer.bias[...]), layer.bias.grad)):
            assert mine.dtype == np.float64
            assert np.linalg.norm(mine - other.numpy()) < 1e-10 * np.linalg.norm(other.numpy())


def test_batch_norm_is_torchs_in_training_and_after() -> None:
    from train.benchmark.torch_networks import vgg16

    ours = NETWORKS["vgg16"](image_size=32, classes=10, batch_norm=True, dropout=0.0, rngs=nnx.Rngs(0))
    theirs = vgg16(3, 10, 0.0, batch_norm=True)
    convolutions = [module for module in theirs.modules() if isinstance(module, torch.nn.Conv2d)]
    for mine, layer in zip(ours.convolutions, convolutions, strict=True):
        assign(mine, layer)
    dense = [module for module in theirs.modules() if isinstance(module, torch.nn.Linear)]
    for mine, layer, maps in zip((ours.fc6, ours.fc7, ours.fc8), dense, (512, None, None), strict=True):
        assign(mine, layer, maps)
    # At 64 pixels, so that the last blocks see more than one value a channel and image.
    x = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
    trained = theirs.train()(hwc(x)).detach().numpy()
    np.testing.assert_allclose(ours(jnp.asarray(x), key=jax.random.key(0)), trained, atol=2e-3 * np.abs(trained).max())
    norms = [module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    np.testing.assert_allclose(ours.norms[0].mean[...], norms[0].running_mean, atol=1e-5)
    # torch records the unbiased variance; of 8 * 64 * 64 values a channel that is nearly the same.
    np.testing.assert_allclose(ours.norms[0].var[...], norms[0].running_var, rtol=1e-4)


@pytest.mark.parametrize("sides", [(6, 6), (13, 9), (2, 3), (1, 1)], ids=str)
def test_adaptive_average_pooling_is_torchs(sides: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    expected = torch.nn.AdaptiveAvgPool2d(7)(hwc(x)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(adaptive_average_pool(jnp.asarray(x), 7), expected, atol=1e-5)
