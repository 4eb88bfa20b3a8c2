"""From activations to points in the plane, and from one map to another that lies as the first does."""

import math
from typing import Any

import numpy as np

from train.errors import UserError

METHODS = ("pca", "tsne")
# t-SNE looks at so many principal components (van der Maaten & Hinton 2008, section 4.2, take 30; openTSNE's guide 50).
COMPONENTS = 50
# It takes 3 neighbours of each point for each unit of perplexity, in openTSNE and in scikit-learn.
_NEIGHBOURS = 3
LEAST_PERPLEXITY = 2.0
# With fewer points Barnes-Hut is the faster; it is deterministic with one job, and interpolation with any number.
_BARNES_HUT = 5_000
# How far apart points may be before the first step, as standard deviations: of all, and of those in one place.
_SPREAD, _JITTER = 1e-4, 1e-6


def pca(activations: np.ndarray, components: int = 2) -> np.ndarray:
    """Return the first principal components of activations `[N, units]`, float32 `[N, components]`.

    Where there are fewer than that, the others are 0.
    """
    from sklearn.decomposition import PCA  # 1 s to import

    there = min(components, *activations.shape)
    with np.errstate(invalid="ignore"):  # a share of no variance at all, where all images give the same
        found = PCA(there, random_state=0).fit_transform(activations)
    return np.pad(found, ((0, 0), (0, components - there))).astype(np.float32)


def tsne(activations: np.ndarray, perplexity: float, seed: int = 0, init: np.ndarray | None = None) -> np.ndarray:
    """Return a t-SNE map of the first 50 principal components of activations `[N, units]`, float32 `[N, 2]`.

    The same arguments give the same map. openTSNE makes it, or where that is not installed, scikit-learn.

    Args:
      activations: of images.
      perplexity: as `checked_perplexity` returns it.
      seed: of what breaks ties.
      init: the map `[N, 2]` that this one begins as, in any unit; by default the first two principal components, which
        keep what is far apart so (Kobak & Berens 2019).
    """
    units = activations.shape[1]
    reduced = pca(activations, COMPONENTS) if units > COMPONENTS else activations
    start = _start(pca(reduced) if init is None else init, seed)
    try:
        from openTSNE import TSNE
    except ImportError:
        from sklearn.manifold import TSNE as SklearnTSNE

        start = start.astype(np.float32)
        return SklearnTSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced)
    options = method_for(len(reduced))
    fitted = TSNE(perplexity=perplexity, initialization=start, random_state=seed, **options).fit(reduced)
    return np.asarray(fitted, np.float32)


def method_for(points: int) -> dict[str, Any]:
    """Return openTSNE's options for the way that so many points repel each other."""
    if points < _BARNES_HUT:
        return {"negative_gradient_method": "bh", "n_jobs": 1}
    return {"negative_gradient_method": "fft", "n_jobs": -1}


def _start(positions: np.ndarray, seed: int) -> np.ndarray:
    """Return positions `[N, 2]` so near to each other that every point can go anywhere, and no two in one place."""
    centred = positions - positions.mean(0, dtype=np.float64)
    largest = centred.std(0).max()
    scaled = centred * (_SPREAD / largest) if largest > 0 else centred
    return scaled + np.random.default_rng(seed).normal(0, _JITTER, scaled.shape)


def align(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Return a map `[N, 2]` turned, mirrored and moved so that it lies as nearly as it can as another one.

    Distances stay what they are. This is the orthogonal Procrustes problem (Schönemann 1966).
    """
    from scipy.linalg import orthogonal_procrustes

    centred = points - points.mean(0, dtype=np.float64)
    turn, _ = orthogonal_procrustes(centred, onto - onto.mean(0, dtype=np.float64))
    return (centred @ turn).astype(np.float32)


def checked_perplexity(points: int, perplexity: float, *, lower: bool = False) -> float:
    """Return the perplexity that a map of so many points has.

    Args:
      points: how many.
      perplexity: wanted: of how many neighbours each point takes account.
      lower: take the largest that is possible where the one that is wanted is not.

    Raises:
      UserError: it takes more points, and may not be lower.
    """
    if not math.isfinite(perplexity):
        raise UserError(f"--perplexity={perplexity}: must be finite")
    largest = math.floor((points - 1) / _NEIGHBOURS)
    least = math.ceil(_NEIGHBOURS * LEAST_PERPLEXITY) + 1
    if points < least:
        raise UserError(f"t-SNE takes {least} points or more, and there are {points}; --method=pca takes 3")
    if perplexity <= largest:
        return perplexity
    if lower:
        return float(largest)
    raise UserError(
        f"--perplexity={perplexity:g} takes {math.ceil(_NEIGHBOURS * perplexity) + 1:,} points or more, and there are "
        f"{points:,}; --perplexity={largest} is possible, and --lower_perplexity takes it"
    )
