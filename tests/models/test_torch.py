"""Networks and layers against torch.nn on the same weights, moved by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import NETWORKS, Network
from models.arithmetic import Window
from models.pooling import AdaptiveAveragePool, MaxPool

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


def alexnet_2012() -> Any:
    """Return the paper's AlexNet; torch divides alpha by the size of the norm."""
    nn = torch.nn
    norm = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.AdaptiveAvgPool2d(6), nn.Flatten()),
        *(nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
        nn.Linear(4096, 1000),
    )


def torch_network(name: str, ours: nnx.Module) -> Any:
    from train.benchmark.torch_networks import NETWORKS as TORCH_NETWORKS

    theirs = alexnet_2012() if name == "alexnet 2012" else TORCH_NETWORKS[name](3, 1000, 0.5)
    assign_all(ours, theirs)
    return theirs.eval()


def with_parameters(ours: Network) -> list[Any]:
    """Return the convolutions and dense layers in order."""
    return [getattr(ours, stage.name) for stage in ours.plan if hasattr(ours, stage.name)]


def assign_all(ours: Network, theirs: Any) -> None:
    """Copy every kernel and bias."""
    layers = [module for module in theirs.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    for mine, layer, before in zip(with_parameters(ours), layers, [None, *layers], strict=False):
        flattened = isinstance(layer, torch.nn.Linear) and isinstance(before, torch.nn.Conv2d)
        assign(mine, layer, before.out_channels if flattened else None)
    assert len(with_parameters(ours)) == len(layers)


def make(name: str, **options) -> Network:
    name, _, variant = name.partition(" ")
    variants = NETWORKS[name]
    return variants[variant or next(iter(variants))](**options)


@pytest.mark.parametrize(
    ("name", "sizes"), [("alexnet", (224, 128, 63)), ("alexnet 2012", (227, 67)), ("vgg16", (224, 96, 32))]
)
def test_logits_are_torchs(name: str, sizes: tuple[int, ...]) -> None:
    ours = make(name, rngs=nnx.Rngs(3))
    theirs = torch_network(name, ours)
    call = jax.jit(lambda network, x: network(x))
    for size in sizes:  # the weights do not depend on it
        x = np.random.default_rng(size).normal(size=(2, size, size, 3)).astype(np.float32)
        with torch.inference_mode():
            expected = theirs(hwc(x)).numpy()
        difference = np.abs(np.asarray(call(ours, x)) - expected).max()
        assert difference < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "size"), [("alexnet", 127), ("alexnet 2012", 127), ("vgg16", 64)])
def test_gradients_are_torchs(name: str, size: int) -> None:
    # In float64: in float32 rounding carries a unit over zero on one side alone, which moves gradients by 1e-3.
    with jax.enable_x64(True):
        ours = make(name, dtype=jnp.float64, rngs=nnx.Rngs(3))
        theirs = torch_network(name, ours).double()
        random = np.random.default_rng(size)
        x, labels = random.normal(size=(2, size, size, 3)), random.integers(0, 1000, 2)
        torch.nn.functional.cross_entropy(theirs(hwc(x)), torch.from_numpy(labels)).backward()
        graph, params = nnx.split(ours, nnx.Param)

        def loss(params: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, params)(x), labels).mean()

        gradients = nnx.merge(graph, jax.jit(jax.grad(loss))(jax.tree.map(lambda a: a.astype(jnp.float64), params)))
    expected = [module for module in theirs.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    maps = [None] * (len(expected) - 3) + [expected[-4].out_channels, None, None]
    for ours_layer, layer, seen in zip(with_parameters(gradients), expected, maps, strict=True):
        kernel = theirs_layout(np.asarray(ours_layer.kernel[...]), seen)
        for mine, other in ((kernel, layer.weight.grad), (np.asarray(ours_layer.bias[...]), layer.bias.grad)):
            assert mine.dtype == np.float64
            assert np.linalg.norm(mine - other.numpy()) < 1e-10 * np.linalg.norm(other.numpy())


def test_batch_norm_is_torchs_in_training_and_after() -> None:
    from train.benchmark.torch_networks import vgg16

    ours = make("vgg16", image_size=32, classes=10, batch_norm=True, dropout=0.0, rngs=nnx.Rngs(0))
    theirs = vgg16(3, 10, 0.0, batch_norm=True)
    assign_all(ours, theirs)
    # At 64 pixels, so that the last blocks see more than one value a channel and image.
    x = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
    trained = theirs.train()(hwc(x)).detach().numpy()
    np.testing.assert_allclose(ours(jnp.asarray(x), key=jax.random.key(0)), trained, atol=2e-3 * np.abs(trained).max())
    norms = [module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    np.testing.assert_allclose(ours.conv1_1_norm.mean[...], norms[0].running_mean, atol=1e-5)
    # torch records the unbiased variance; of 8 * 64 * 64 values a channel that is nearly the same.
    np.testing.assert_allclose(ours.conv1_1_norm.var[...], norms[0].running_var, rtol=1e-4)


@pytest.mark.parametrize("sides", [(6, 6), (13, 9), (2, 3), (1, 1)], ids=str)
def test_adaptive_average_pooling_is_torchs(sides: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    expected = torch.nn.AdaptiveAvgPool2d(7)(hwc(x)).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(AdaptiveAveragePool(7)(jnp.asarray(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "window",
    [Window(3, 2), Window(3, 2, ceil=True), Window(3, 1, (1, 1)), Window(2, 2), Window(2, 3, dilation=2)],
    ids=str,
)
def test_gradient_of_max_pooling_is_torchs(window: Window) -> None:
    x = np.random.default_rng(0).permutation(2 * 13 * 12 * 3).reshape(2, 13, 12, 3).astype(np.float32)
    theirs = hwc(x).requires_grad_()
    padding, size = window.padding[0], window.size
    pooled = torch.nn.MaxPool2d(size, window.stride, padding, window.dilation, ceil_mode=window.ceil)(theirs)
    (pooled**2).sum().backward()
    pool = MaxPool((window, window))
    np.testing.assert_array_equal(pool(jnp.asarray(x)), pooled.detach().numpy().transpose(0, 2, 3, 1))
    gradient = jax.grad(lambda x: (pool(x) ** 2).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, theirs.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-6)
