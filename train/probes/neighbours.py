"""Nearest neighbours in cosine similarity, exact and compiled."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from train.probes.compiled import compiled

ROWS, OTHERS = 1024, 8192  # images looked at together, and those they are compared with: 32 MiB of similarities


def vote(features: np.ndarray, labels: np.ndarray, queries: np.ndarray, ks: Sequence[int]) -> dict[int, np.ndarray]:
    """Return for each k of `ks` the class of each query `[Q, units]`: the majority of its k nearest images'.

    Where classes have as many, their sums of similarities decide. Images `[N, units]` have `labels` `[N]`.
    """
    known, targets = np.unique(labels, return_inverse=True)
    answers: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for i in range(0, len(queries), ROWS):
        similarities, places = nearest(features, queries[i : i + ROWS], max(ks))
        size = len(places) * len(known)
        for k in ks:
            cells = (np.arange(len(places))[:, None] * len(known) + targets[places[:, :k]]).ravel()  # (query, class)
            votes = np.bincount(cells, minlength=size).reshape(-1, len(known))
            sums = np.bincount(cells, similarities[:, :k].ravel(), size).reshape(-1, len(known))
            winning = votes == votes.max(1, keepdims=True)
            answers[k].append(known[np.where(winning, sums, -np.inf).argmax(1)])
    return {k: np.concatenate(blocks) for k, blocks in answers.items()}


def nearest(features: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine similarities and indices `[Q, k]` of the k images `[N, units]` nearest to each query, best first.

    A vector of zeros is at similarity 0 from all. Memory is for Q queries and a block of images.
    """
    size = min(OTHERS, len(features))
    best = (jnp.full((len(queries), k), -jnp.inf), jnp.zeros((len(queries), k), jnp.int32))
    for new in range(0, len(features), size):
        first = min(new, len(features) - size)  # the last block reaches back, so that all have one size
        best = compiled(_nearer)(best, queries, features[first : first + size], first, new)
    return np.asarray(best[0], np.float64), np.asarray(best[1])


def _nearer(
    best: tuple[jax.Array, jax.Array], queries: jax.Array, images: jax.Array, first: jax.Array, new: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nearest of the best so far and of images whose indices begin at `first`, and are new from `new` on."""
    similarities = jnp.einsum("qu,bu->qb", _unit(queries), _unit(images), precision=Precision.HIGHEST)
    places = jnp.broadcast_to(first + jnp.arange(len(images)), similarities.shape)
    similarities = jnp.concatenate([best[0], jnp.where(places >= new, similarities, -jnp.inf)], axis=1)
    similarities, chosen = jax.lax.top_k(similarities, best[0].shape[1])  # of equals the earlier
    return similarities, jnp.take_along_axis(jnp.concatenate([best[1], places], axis=1), chosen, axis=1)


def _unit(vectors: jax.Array) -> jax.Array:
    """Return vectors `[N, units]` with length 1, or 0, however large or small they were."""
    root = jnp.sqrt(jnp.max(jnp.abs(vectors), axis=1, keepdims=True))
    vectors = jnp.where(root > 0, vectors / root / root, 0.0)  # XLA multiplies by 1 / root: 1 / root^2 may vanish
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1.0)
