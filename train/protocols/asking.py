"""What a network answers to images that it is shown by a protocol."""

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from models.arithmetic import GeometryError
from models.fully_convolutional import logits_map, map_sizes
from models.network import NetworkError
from train import devices, network
from train.data.photos import Photos
from train.data.resize import scale
from train.data.roles import Read
from train.data.stream import stream
from train.data.transforms import normalise
from train.errors import UserError
from train.feed import AHEAD, batches_in_order
from train.network import Described, PyTree
from train.protocols.looks import Look

# Whole images are filled up with zeros to sides that are multiples of this, so that few programs are compiled.
_STEP = 64
# Images decoded at a time.
_CHUNK = 8


def as_prepared(described: Described, config: ConfigDict, mesh: Mesh, images: Read) -> np.ndarray:
    """Return the logarithm of what a network answers to each image as training prepares it, float32 `[N, classes]`.

    Args:
      described: the network, trained; its kernels may be narrowed.
      config: the completed config of the run.
      mesh: of devices, which share each batch.
      images: at the size that the network sees, or encoded.

    Raises:
      UserError: a photo cannot be read or decoded.
    """
    graph, params, stats = described

    def answer(params: PyTree, stats: PyTree, batch: jax.Array) -> jax.Array:
        module = nnx.merge(graph, params, stats)
        return module.log_probabilities(module(normalise(batch, config.dataset)).astype(jnp.float32))

    program, each = devices.jit(answer, config.precision, mesh), mesh.size
    size = -(-min(config.evaluate.batch_size, images.total) // each) * each
    parts: list[jax.Array] = []
    for batch, _ in batches_in_order(images, config, mesh, size):
        parts.append(program(params, stats, batch.images))
        jax.block_until_ready(parts[-AHEAD:][0])
    return np.concatenate(jax.device_get(parts))[: images.total]


def by_looks(described: Described, config: ConfigDict, mesh: Mesh, images: Read, looks: Sequence[Look]) -> np.ndarray:
    """Return the logarithm of the mean of what a network answers to the views of each image, float32 `[N, classes]`.

    The logits of a dense look are averaged over places before the softmax, and its views behind it, as are crops
    (Simonyan and Zisserman 2014, section 3.2; Krizhevsky et al. 2012, section 4.1).

    Args:
      described: the network, trained.
      config: the completed config of the run.
      mesh: of devices, which share each batch.
      images: as the source has them, of any size.
      looks: at each image.

    Raises:
      UserError: an image cannot be read, or the network cannot be shown it.
    """
    return mean([_of_look(described, config, mesh, images, look) for look in looks])


def mean(logarithms: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean of probabilities, of whose logarithms there are several arrays of one shape."""
    return functools.reduce(np.logaddexp, logarithms) - np.float32(np.log(len(logarithms)))


def _of_look(described: Described, config: ConfigDict, mesh: Mesh, images: Read, look: Look) -> np.ndarray:
    graph, params, stats = described
    whole = nnx.merge(*network.describe(config))
    size, each = config.dataset.image_size, mesh.size
    views = len(look.cut(np.zeros((look.shorter, look.shorter, 1), np.uint8), size))
    room = max(1, config.evaluate.batch_size // views)

    def answer(params: PyTree, stats: PyTree, batch: jax.Array, sizes: jax.Array) -> jax.Array:
        module = nnx.merge(graph, params, stats)
        seen = normalise(batch.reshape(-1, *batch.shape[2:]), config.dataset)  # [B * V, h, w, C]
        logits = logits_map(module, seen, jnp.repeat(sizes, views, axis=0)) if look.dense else module(seen)
        answers = module.log_probabilities(logits.astype(jnp.float32))
        answers = answers.reshape(-1, views, answers.shape[-1])
        return jax.nn.logsumexp(answers, axis=1) - jnp.log(views)

    program = devices.jit(answer, config.precision, mesh)
    found = np.empty((images.total, config.dataset.classes), np.float32)
    for indices, batch, shapes in _batches(images, config, look, room, each):
        sizes = _sizes(whole, shapes) if look.dense else np.zeros((len(batch), 1, 2), np.int32)
        placed = jax.device_put((batch, sizes), devices.by_batch(mesh))
        found[indices] = np.asarray(program(params, stats, *placed))[: len(indices)]
    return found


def _sizes(whole: Any, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return how large the maps of images are, `[B, stages + 2, 2]`."""
    try:
        return map_sizes(whole, shapes)
    except (GeometryError, NetworkError) as error:
        raise UserError(
            f"--protocol: the network cannot be shown whole images: {error}; "
            "--protocol=center shows images as training did"
        ) from error


def _batches(
    images: Read, config: ConfigDict, look: Look, room: int, each: int
) -> Iterator[tuple[list[int], np.ndarray, list[tuple[int, int]]]]:
    """Yield (indices of M images, views `[B, V, h, w, C]`, (height, width) of each).

    Views of one shape, filled up, share a batch; B is a multiple of `each`, and what is behind M fills it up, to the
    size of the batches of that shape before it, whose program has been compiled.
    """
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = defaultdict(list)
    sizes: dict[tuple[int, int], int] = {}

    def batch(shape: tuple[int, int]) -> tuple[list[int], np.ndarray, list[tuple[int, int]]]:
        indices, views = map(list, zip(*waiting.pop(shape), strict=True))
        shapes = [view.shape[1:3] for view in views]
        many = sizes.setdefault(shape, -(-len(views) // each) * each)
        filled = np.zeros((many, len(views[0]), *shape, views[0].shape[-1]), np.uint8)
        for place, view in enumerate(views):
            filled[place, :, : view.shape[1], : view.shape[2]] = view
        return indices, filled, shapes + shapes[-1:] * (len(filled) - len(views))

    size = config.dataset.image_size
    for index, image in enumerate(_scaled(images, config, look.shorter)):
        views = look.cut(image, size)
        height, width = views.shape[1:3]
        shape = (-(-height // _STEP) * _STEP, -(-width // _STEP) * _STEP) if look.dense else (height, width)
        waiting[shape].append((index, views))
        # As many pixels a batch as a batch of crops has.
        if len(waiting[shape]) >= max(1, room * size**2 // (shape[0] * shape[1])):
            yield batch(shape)
    for shape in list(waiting):
        yield batch(shape)


def _scaled(images: Read, config: ConfigDict, shorter: int) -> Iterator[np.ndarray]:
    """Yield every image, its shorter side scaled to so many pixels, uint8 `[H, W, C]`, decoded ahead."""
    method = config.dataset.resize

    def chunk(number: int) -> list[np.ndarray]:
        indices = np.arange(number * _CHUNK, min((number + 1) * _CHUNK, images.total))
        if isinstance(images, Photos):
            return images.scaled(indices, shorter, method)
        return [scale(image, shorter, method) for image in images.images[indices]]

    with stream(chunk, 0, -(-images.total // _CHUNK), 0) as chunks:
        for part in chunks:
            yield from part
