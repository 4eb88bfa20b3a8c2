"""How far a map can be trusted, and how well it parts the classes: numbers beside the pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Neighbours that are looked at, scikit-learn's number for trustworthiness.
NEIGHBOURS = 5


@dataclass(frozen=True)
class Quality:
    """Figures of a map and of the activations that it is of.

    Attributes:
      neighbours: how many of each point are looked at, k: 5, or with fewer than 11 points less than half of them.
      trustworthiness: 1 where the k neighbours of each point in the map are those in the activations; less, the farther
        those on the map are away there (Venna & Kaski 2001).
      knn_activations: share of points whose label most of its k neighbours have, among activations.
      knn_map: the same on the map.
      silhouette_activations: mean over points of how much nearer, on average, a point is to its own class than to the
        next one: 1 where classes are apart, 0 where they lie in each other (Rousseeuw 1987); None where there are not
        two classes, or no two points of one.
      silhouette_map: the same on the map.
    """

    neighbours: int
    trustworthiness: float
    knn_activations: float
    knn_map: float
    silhouette_activations: float | None
    silhouette_map: float | None


def measure(activations: np.ndarray, maps: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, Quality]:
    """Return the figures of maps `[N, 2]` of activations `[N, units]`, for labels `[N]`.

    Distances are Euclidean. They are computed once for all maps, some rows at a time. A neighbour on a map that is as
    far away in the activations as others counts as the first of those.
    """
    k = min(NEIGHBOURS, (len(labels) - 1) // 2)
    classes, targets = np.unique(labels, return_inverse=True)
    one_hot = np.eye(len(classes))[targets]
    there = {name: _look(points, one_hot, k) for name, points in maps.items()}
    original = _look(activations, one_hot, k, [space.nearest for space in there.values()])
    agreement = _agreement(original.nearest, one_hot)
    return {
        name: Quality(
            neighbours=k,
            trustworthiness=_trustworthiness(ranks, k),
            knn_activations=agreement,
            knn_map=_agreement(space.nearest, one_hot),
            silhouette_activations=original.silhouette,
            silhouette_map=space.silhouette,
        )
        for (name, space), ranks in zip(there.items(), original.ranks, strict=True)
    }


@dataclass(frozen=True)
class _Space:
    """What distances between points say.

    Attributes:
      nearest: indices of the k nearest of each point, `[N, k]`.
      silhouette: of `Quality`.
      ranks: for each array of neighbours that was asked about, the how-manieth nearest they are, from 1, `[N, k]`.
    """

    nearest: np.ndarray
    silhouette: float | None
    ranks: list[np.ndarray]


def _look(points: np.ndarray, one_hot: np.ndarray, k: int, others: list[np.ndarray] | None = None) -> _Space:
    """Look at points `[N, D]` of classes `[N, C]`, and at how near to each the `others`, `[N, k]` each, are."""
    from sklearn.metrics import pairwise_distances_chunked  # 1 s to import

    others = others or []
    sizes = one_hot.sum(0)

    def reduce(distances: np.ndarray, first: int) -> tuple[np.ndarray, ...]:
        rows = np.arange(len(distances))
        own = one_hot[first + rows].astype(bool)
        means = (distances @ one_hot) / np.maximum(sizes - own, 1)  # a point is at 0 from itself
        inside = means[own]
        outside = np.where(own, np.inf, means).min(1)
        distances[rows, first + rows] = np.inf
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        ranks = [_ranks(distances, other[first + rows]) for other in others]
        return nearest, inside, outside, *ranks

    parts = pairwise_distances_chunked(points, reduce_func=reduce, working_memory=256)
    nearest, inside, outside, *ranks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Space(nearest, _silhouette(inside, outside, sizes[one_hot.argmax(1)]), ranks)


def _ranks(distances: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the how-manieth smallest in its row `[B, N]` each distance is, of those at the indices `[B, k]`."""
    columns = (np.take_along_axis(distances, other[:, None], axis=1) for other in others.T)
    return 1 + np.stack([np.count_nonzero(distances < column, axis=1) for column in columns], axis=1)


def _trustworthiness(ranks: np.ndarray, k: int) -> float:
    """Return it as scikit-learn has it: 1 - 2 / (N k (2 N - 3 k - 1)) times the sum of what ranks are above k."""
    points = len(ranks)
    return 1 - 2 * float(np.maximum(ranks - k, 0).sum()) / (points * k * (2 * points - 3 * k - 1))


def _agreement(nearest: np.ndarray, one_hot: np.ndarray) -> float:
    """Return the share of points for whose class most of the nearest vote; of equal counts the first class wins."""
    votes = sum(one_hot[column] for column in nearest.T)
    return float(np.mean(votes.argmax(1) == one_hot.argmax(1)))


def _silhouette(inside: np.ndarray, outside: np.ndarray, sizes: np.ndarray) -> float | None:
    """Return the mean silhouette of points, of their mean distances to their own class, of that size, and the next."""
    if not (np.isfinite(outside).all() and sizes.max() > 1):
        return None
    widest = np.maximum(inside, outside)
    alone = (sizes == 1) | (widest == 0)
    return float(np.mean(np.where(alone, 0.0, (outside - inside) / np.where(alone, 1.0, widest))))
