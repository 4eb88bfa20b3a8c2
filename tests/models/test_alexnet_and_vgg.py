"""AlexNet and VGG-16 against published counts; against torch.nn in test_torch.py."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import VGG16, AlexNet
from models.arithmetic import GeometryError
from models.layers import adaptive_average_pool


def parameters(make: Callable[..., nnx.Module], **options) -> int:
    module = nnx.eval_shape(lambda: make(**options, rngs=nnx.Rngs(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize(
    ("make", "options", "count"),
    [
        (AlexNet, {}, 61_100_840),  # torchvision's documentation
        (VGG16, {}, 138_357_544),  # torchvision's documentation
        (VGG16, {"batch_norm": True}, 138_365_992),  # torchvision's documentation
        (AlexNet, {"channels": 1, "classes": 10}, 61_100_840 - 2 * 121 * 64 - 990 * 4_097),
        (VGG16, {"channels": 4, "classes": 2, "image_size": 32}, 138_357_544 + 9 * 64 - 998 * 4_097),
    ],
    ids=["alexnet", "vgg16", "vgg16 with batch norm", "alexnet gray", "vgg16 with four channels"],
)
def test_parameters_are_the_published_ones(make: Callable[..., nnx.Module], options: dict, count: int) -> None:
    assert parameters(make, **options) == count


def shapes(make: Callable[..., nnx.Module], size: int) -> dict[str, tuple[int, ...]]:
    names: list[str] = []

    def stages(x: jax.Array) -> list[jax.Array]:
        found = dict(make(image_size=size, rngs=nnx.Rngs(0)).stages(x))
        names.extend(found)
        return list(found.values())

    activations = jax.eval_shape(stages, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return {name: activation.shape[1:] for name, activation in zip(names, activations, strict=True)}


def test_alexnets_stages() -> None:
    # Table of the paper's figure 2 with the widths of "one weird trick"; sizes of torchvision's at 224.
    assert shapes(AlexNet, 224) == {
        "conv1": (55, 55, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 256),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    }


def test_vggs_stages() -> None:
    stages = shapes(VGG16, 224)
    convolutions = [name for name in stages if name.startswith("conv")]
    assert convolutions == [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
        *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"),
    ]
    assert list(stages)[-4:] == ["pool5", "fc6", "fc7", "fc8"]
    assert [stages[f"pool{block}"] for block in range(1, 6)] == [
        *((112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512))
    ]


@pytest.mark.parametrize(
    ("make", "size", "message"),
    [
        (AlexNet, 62, "pool5: a 3x3 window does not fit a 2x2 map"),
        (AlexNet, 6, "conv1: a 11x11 window does not fit a 6x6 map padded by 2"),
        (VGG16, 31, "pool5: a 2x2 window does not fit a 1x1 map"),
    ],
    ids=["alexnet 62", "alexnet 6", "vgg16 31"],
)
def test_too_small_an_image_names_the_stage(make: Callable[..., nnx.Module], size: int, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        nnx.eval_shape(lambda: make(image_size=size, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(("make", "size", "last"), [(AlexNet, 63, (1, 1, 256)), (VGG16, 32, (1, 1, 512))])
def test_the_least_size_leaves_one_pixel(make: Callable[..., nnx.Module], size: int, last: tuple[int, ...]) -> None:
    assert shapes(make, size)["pool5"] == last


@pytest.mark.parametrize("sides", [(6, 6), (12, 18), (1, 1), (3, 2), (7, 13)], ids=str)
def test_adaptive_pooling_averages_what_torch_documents(sides: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    pooled = adaptive_average_pool(jnp.asarray(maps), 6)
    for row in range(6):
        for column in range(6):
            top, bottom = row * sides[0] // 6, int(np.ceil((row + 1) * sides[0] / 6))
            left, right = column * sides[1] // 6, int(np.ceil((column + 1) * sides[1] / 6))
            expected = maps[:, top:bottom, left:right].mean(axis=(1, 2))
            np.testing.assert_allclose(pooled[:, row, column], expected, atol=1e-5)


def test_maps_of_the_right_size_pass_unchanged() -> None:
    maps = jax.random.normal(jax.random.key(0), (1, 6, 6, 2))
    assert adaptive_average_pool(maps, 6) is maps


def test_batch_norm_normalises_a_training_batch_and_remembers_it() -> None:
    network = VGG16(image_size=32, classes=3, batch_norm=True, dropout=0.0, rngs=nnx.Rngs(0))
    x = 5 + 2 * jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    convolved = network.convolutions[0](x)
    stages = dict(network.stages(x, key=jax.random.key(2)))
    mean, variance = convolved.mean((0, 1, 2)), convolved.var((0, 1, 2))
    expected = jax.nn.relu((convolved - mean) / jnp.sqrt(variance + 1e-5))
    np.testing.assert_allclose(stages["conv1_1"], expected, atol=1e-4)
    np.testing.assert_allclose(network.norms[0].mean[...], 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(network.norms[0].var[...], 0.9 + 0.1 * variance, rtol=1e-4)
    # Without a key the running statistics count, so each image stands for itself.
    np.testing.assert_allclose(network(x)[:1], network(x[:1]), rtol=1e-4)
