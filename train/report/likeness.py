"""How alike two images are that may be one photo, saved again: smaller, brighter, cropped a little, or mirrored.

Compared are the edges of two small gray images, wherever their middles fit together best. Brightness and contrast
do not count, nor what lies at the border, such as a frame. Every edge counts with the square root of its strength:
linearly, the one outline of a dark thing on a light ground decides, and things of one shape are taken for one photo.

Photos of different things rarely exceed 0.5; a photo and its copy rarely fall below 0.85 (figures in `duplicates.py`).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Side of the images that are compared, and of the middle of the one that is looked for in the other.
SIDE, _MIDDLE = 32, 24
# Where it is looked for: as it is, and enlarged and reduced by 10 %; moved by up to an eighth of the image either way;
# then closer around the best. Edges at this size no longer match when they are off by more than half a pixel.
_SCALES, _FINER_SCALES = 1.1 ** np.arange(-1.0, 2), 1.025 ** np.arange(-2.0, 3)
_SHIFTS, _FINER_SHIFTS = np.arange(-4.0, 5), np.arange(-2, 3) / 3
# Edges weaker than one level of gray are what encoding leaves.
_NOISE = 1.0
# The side of the even smaller images whose correlation chooses which pairs are compared at all.
_LAYOUT = 8
# Pairs at a time: the search holds 1.5 MB for each.
_BATCH = 16
# Numbers in a block of products, 64 MB.
_BLOCK = 2**24


def likeness(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how alike each image is to the other in its place, float32 `[N]` from -1 to 1.

    It is the correlation of edges, at the best place of one's middle in the other. 1 is also returned for equal images
    without any edge.

    Args:
      some: uint8 `[N, 32, 32]`; the middle three quarters of these are looked for.
      others: uint8 `[N, 32, 32]`; in these.
    """
    if not len(some):
        return np.zeros(0, np.float32)
    filled = -(-len(some) // _BATCH) * _BATCH  # so that few programs are compiled
    pairs = [np.concatenate([array, np.zeros((filled - len(array), SIDE, SIDE), np.uint8)]) for array in (some, others)]
    found = np.asarray(_compare(*pairs))[: len(some)]
    return np.where((some == others).all((1, 2)), np.float32(1), found)


@jax.jit
def _compare(some: jax.Array, others: jax.Array) -> jax.Array:
    return jax.lax.map(_best, (some.astype(jnp.float32), others.astype(jnp.float32)), batch_size=_BATCH)


def _best(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Search for the middle of the first `[S, S]` in the second, on a grid and then around its best place."""
    one, other = pair
    at_rest = jnp.array([1.0]), jnp.array([0.0])
    wanted = _edges(_windows(one, *at_rest, at_rest[1]))[0, 0, :, 0]  # [P, P, 2]
    scales, shifts = jnp.asarray(_SCALES), jnp.asarray(_SHIFTS)
    grid = _correlations(wanted, other, scales, shifts, shifts)
    scale, down, right = jnp.unravel_index(grid.argmax(), grid.shape)
    around = scales[scale] * _FINER_SCALES, shifts[down] + _FINER_SHIFTS, shifts[right] + _FINER_SHIFTS
    finer = _correlations(wanted, other, *around)
    return jnp.maximum(grid.max(), finer.max())


def _correlations(
    wanted: jax.Array, image: jax.Array, scales: jax.Array, down: jax.Array, right: jax.Array
) -> jax.Array:
    """Return the correlation with each window `[scales, down, right]`."""
    edges = _edges(_windows(image, scales, down, right))
    product = jnp.einsum("kipjqe,pqe->kij", edges, wanted)
    length = jnp.sqrt(jnp.einsum("kipjqe,kipjqe->kij", edges, edges) * jnp.square(wanted).sum())
    return product / jnp.maximum(length, 1e-3)


def _windows(image: jax.Array, scales: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
    """Cut windows of `_MIDDLE + 1` points out by linear interpolation: `[scales, down, P, right, P]`."""
    points = jnp.arange(_MIDDLE + 1) - _MIDDLE / 2

    def weights(shifts: jax.Array) -> jax.Array:
        """Of each pixel for each point: `[scales, shifts, P, S]`."""
        at = (SIDE - 1) / 2 + jnp.asarray(scales)[:, None, None] * points + jnp.asarray(shifts)[:, None]
        return jnp.maximum(0, 1 - jnp.abs(jnp.clip(at, 0, SIDE - 1)[..., None] - jnp.arange(SIDE)))

    rows = jnp.einsum("kipy,yx->kipx", weights(down), image)
    return jnp.einsum("kipx,kjqx->kipjq", rows, weights(right))


def _edges(windows: jax.Array) -> jax.Array:
    """Return differences to the right and downwards over the root of their length: `[..., P - 1, right, P - 1, 2]`."""
    corner = windows[..., :-1, :, :-1]
    edges = jnp.stack([windows[..., :-1, :, 1:] - corner, windows[..., 1:, :, :-1] - corner], -1)
    return edges / jnp.sqrt(jnp.linalg.norm(edges, axis=-1, keepdims=True) + _NOISE)


def layouts(images: np.ndarray) -> np.ndarray:
    """Return where images uint8 `[N, 32, 32]` are bright and dark: float32 `[N, 64]` of mean 0 and length 1 (or 0)."""
    part = SIDE // _LAYOUT
    means = images.reshape(len(images), _LAYOUT, part, _LAYOUT, part).mean((2, 4), dtype=np.float32)
    return unit(means.reshape(len(images), -1) - means.mean((1, 2))[:, None])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors `[N, D]` with a length of 1; those without one stay 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


Allowed = Callable[[np.ndarray], np.ndarray]


def nearest(
    queries: np.ndarray, references: np.ndarray, count: int, allowed: Allowed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the references of the largest products with each query, and these products, `[Q, count]`, exactly.

    Args:
      queries: float32 `[Q, D]`.
      references: float32 `[R, D]`, R being `count` or more.
      count: how many for each query.
      allowed: from the places of some queries `[B]` to whether each reference counts for them `[B, R]`; those that do
        not come last, with a product of -inf.
    """
    block = max(1, min(len(queries), _BLOCK // len(references)))
    find = _nearest_of(count)
    parts = []
    for start in range(0, len(queries), block):
        places = np.minimum(np.arange(start, start + block), len(queries) - 1)  # each block is as large
        may = True if allowed is None else allowed(places)
        parts.append(jax.device_get(find(queries[places], references, may)))
    products, indices = (np.concatenate(part)[: len(queries)] for part in zip(*parts, strict=True))
    return indices, products


@functools.cache
def _nearest_of(count: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def find(queries: jax.Array, references: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
        products = jnp.matmul(queries, references.T, precision="highest")
        return jax.lax.top_k(jnp.where(allowed, products, -jnp.inf), count)

    return jax.jit(find)
