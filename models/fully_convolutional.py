"""A network on images of any size: its dense layers become convolutions, and there are logits for every place.

After Sermanet et al. 2013 (OverFeat, arXiv 1312.6229, section 3.5) and Simonyan and Zisserman 2014 (section 3.2), who
call it dense evaluation.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from models.geometry import Shape
from models.layers import ACTIVATIONS, Dense
from models.network import Network, NetworkError, Stage
from models.pooling import AdaptiveAveragePool


def map_sizes(network: Network, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return how large images are, their maps behind each convolutional stage, and that of the logits, `[N, maps, 2]`.

    Args:
      network: with two spatial dimensions.
      shapes: (height, width) of each image, in pixels.

    Raises:
      GeometryError: a stage cannot take an image; names the sizes.
      NetworkError: the network ends without the dense layers that could become convolutions, or an image is smaller
        than those that the network was made for.
    """
    convolutional, _ = _parts(network)
    least = network.input_shape
    found: dict[tuple[int, int], list[Shape]] = {}
    window = _behind(network, convolutional, least)[-1]
    for shape in set(shapes):
        if min(shape) < min(least[:2]):
            raise NetworkError(f"an image of {shape[0]}x{shape[1]} is smaller than the network's {least[0]}x{least[1]}")
        sizes = _behind(network, convolutional, (*shape, least[-1]))
        last = tuple(side - seen + 1 for side, seen in zip(sizes[-1], window, strict=True))
        found[shape] = [shape, *sizes, last]
    return np.array([found[shape] for shape in shapes], np.int32)


def logits_map(network: Network, images: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return the mean over all places of what the network answers there, `[B, classes]`.

    The answer at a place is that to a window of the size that the network was made for; where its last map would be
    averaged to a fixed size, that average is part of the first dense layer's kernel.

    Args:
      network: of `map_sizes`.
      images: `[B, H, W, C]`, each in the upper left corner; what lies behind it does not count.
      sizes: of `map_sizes`, for each, `[B, maps, 2]`.
    """
    convolutional, classifier = _parts(network)
    x = jnp.where(_inside(images, sizes[:, 0]), images, 0)
    for place, stage in enumerate(convolutional, start=1):
        for layer in network.layers_of(stage):
            x = layer(x)
        # What lies behind an image is padding to every layer, and padding is zero.
        x = jnp.where(_inside(x, sizes[:, place]), ACTIVATIONS[stage.activation](x), 0)
    window = _behind(network, convolutional, network.input_shape)[-1]
    for place, stage in enumerate(classifier):
        for layer in network.layers_of(stage):
            if isinstance(layer, AdaptiveAveragePool):
                pool = layer
            elif isinstance(layer, Dense):  # the others drop units, in training
                assert layer.bias is not None
                kernel = layer.kernel[...].astype(x.dtype)
                x = x @ kernel if place else _slid(kernel, x, window, pool)
                x += layer.bias[...].astype(x.dtype)
        x = ACTIVATIONS[stage.activation](x)
    counted = _inside(x, sizes[:, -1])
    return jnp.sum(x.astype(jnp.float32), (1, 2), where=counted) / jnp.sum(counted, (1, 2))


def _parts(network: Network) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Return the stages before the dense layers, and those."""
    for place, stage in enumerate(network.plan):
        if isinstance(network.layers_of(stage)[0], AdaptiveAveragePool):
            return network.plan[:place], network.plan[place:]
    raise NetworkError("its dense layers see one size alone; AlexNet's and VGG's can become convolutions")


def _behind(network: Network, stages: Sequence[Stage], shape: Shape) -> list[Shape]:
    """Return the sides of the map behind each of the stages."""
    sides = []
    for stage in stages:
        for layer in network.layers_of(stage):
            shape = layer.output(shape)
        sides.append(shape[:-1])
    return sides


def _inside(x: jax.Array, sizes: jax.Array) -> jax.Array:
    """Whether a place of maps `[B, H, W, C]` belongs to the image, `[B, H, W, 1]`."""
    rows, columns = jnp.arange(x.shape[1]) < sizes[:, :1], jnp.arange(x.shape[2]) < sizes[:, 1:]
    return (rows[:, :, np.newaxis] & columns[:, np.newaxis])[..., np.newaxis]


def _slid(kernel: jax.Array, x: jax.Array, window: Shape, pool: AdaptiveAveragePool) -> jax.Array:
    """Return the products of a dense layer's kernel with every window of maps `[B, H, W, C]`, averaged by `pool`."""
    kernel = kernel.reshape(pool.size, pool.size, x.shape[-1], -1)
    if window != (pool.size, pool.size):
        rows, columns = (jnp.asarray(pool.shares(side), x.dtype) for side in window)
        kernel = jnp.einsum("abco,ah,bw->hwco", kernel, rows, columns)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
