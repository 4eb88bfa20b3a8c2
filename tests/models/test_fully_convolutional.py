"""Dense layers as convolutions, against a loop of the dense layers over every window of the last map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import NETWORKS
from models.fully_convolutional import logits_map, map_sizes
from models.network import Network, NetworkError


def network_of(name: str, variant: str, side: int) -> Network:
    return NETWORKS[name][variant](image_size=side, channels=3, classes=11, rngs=nnx.Rngs(0))


def by_a_loop(network: Network, image: np.ndarray, last: str, window: int, pooled: int) -> np.ndarray:
    """Return the mean of what fc6 to fc8 make of every window of the map of the stage `last`, `[classes]`."""
    dense = [
        (np.asarray(layer.kernel[...]), np.asarray(layer.bias[...]))
        for layer in (network.fc6, network.fc7, network.fc8)
    ]
    maps = next(np.asarray(value) for name, value in network.stages(image[np.newaxis]) if name == last)[0]
    height, width, channels = maps.shape
    answers = []
    for top in range(height - window + 1):
        for left in range(width - window + 1):
            seen = maps[top : top + window, left : left + window]
            # torch's adaptive average pooling to as many rows and columns as fc6 sees.
            ends = [(i * window // pooled, -(-(i + 1) * window // pooled)) for i in range(pooled)]
            seen = np.array([[seen[a:b, c:d].mean((0, 1)) for c, d in ends] for a, b in ends])
            answers.append(seen.reshape(pooled * pooled * channels))
    x = np.stack(answers)
    for kernel, bias in dense[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return (x @ dense[-1][0] + dense[-1][1]).mean(0)


@pytest.mark.parametrize(
    ("name", "variant", "side", "shape", "last", "window", "pooled"),
    [
        ("alexnet", "torchvision", 224, (288, 256), "pool5", 6, 6),
        ("alexnet", "2012", 227, (259, 291), "pool5", 6, 6),
        ("alexnet", "torchvision", 96, (128, 160), "pool5", 2, 6),
        pytest.param("vgg", "A", 224, (224, 288), "pool5", 7, 7, marks=pytest.mark.slow),
        ("vgg", "A", 64, (96, 128), "pool5", 2, 7),
    ],
)
def test_every_window_answers(
    name: str, variant: str, side: int, shape: tuple[int, int], last: str, window: int, pooled: int
) -> None:
    network = network_of(name, variant, side)
    image = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    sizes = map_sizes(network, [shape])
    assert sizes[0, -1].min() >= 1
    assert sizes[0, -1].max() > 1
    answer = logits_map(network, image[np.newaxis], jnp.asarray(sizes))
    expected = by_a_loop(network, image, last, window, pooled)
    np.testing.assert_allclose(answer[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("variant", "side", "options"), [("torchvision", 96, {}), ("2012", 99, {})])
def test_what_lies_behind_an_image_does_not_count(variant: str, side: int, options: dict) -> None:
    network = network_of("alexnet", variant, side)
    random = np.random.default_rng(0)
    shapes = [(96 + 32, 150), (140, 101)]
    images = [random.normal(size=(*shape, 3)).astype(np.float32) for shape in shapes]
    alone = [
        logits_map(network, image[np.newaxis], jnp.asarray(map_sizes(network, [image.shape[:2]]))) for image in images
    ]
    together = random.normal(size=(2, 192, 160, 3)).astype(np.float32)  # no zeros around them
    for place, image in enumerate(images):
        together[place, : image.shape[0], : image.shape[1]] = image
    both = logits_map(network, together, jnp.asarray(map_sizes(network, shapes)))
    np.testing.assert_allclose(both, np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_an_image_of_the_networks_size_has_the_networks_answer() -> None:
    network = NETWORKS["vgg"]["A"](image_size=64, channels=3, classes=11, batch_norm=True, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    sizes = map_sizes(network, [(64, 64)] * 2)
    assert sizes[0].tolist()[0] == [64, 64]
    assert sizes[0].tolist()[-1] == [1, 1]
    np.testing.assert_allclose(logits_map(network, images, sizes), network(images), rtol=1e-4, atol=1e-5)


def test_it_compiles_and_follows_the_precision() -> None:
    network = NETWORKS["alexnet"]["torchvision"](image_size=64, classes=11, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    sizes = jnp.asarray(map_sizes(network, [(96, 96)]))
    graph, state = nnx.split(network)
    answer = jax.jit(lambda state: logits_map(nnx.merge(graph, state), images, sizes))(state)
    assert answer.dtype == jnp.float32
    assert jnp.isfinite(answer).all()


def test_others_are_refused() -> None:
    lenet = NETWORKS["lenet5"]["modern"](image_size=32, channels=1, classes=10, rngs=nnx.Rngs(0))
    with pytest.raises(NetworkError, match="see one size alone"):
        map_sizes(lenet, [(40, 40)])
    with pytest.raises(NetworkError, match="90x200 is smaller than the network's 96x96"):
        map_sizes(network_of("alexnet", "torchvision", 96), [(90, 200)])
