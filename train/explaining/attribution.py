"""What in an image a score comes from, by four methods.

A score takes images, float `[B, H, W, C]` with pixels in 0..255, and returns `[B]`. It is a `jax.tree_util.Partial`
that holds the parameters, so that they are an argument of the compiled program and no constant in it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.arithmetic import Window

Score = Callable[[jax.Array], jax.Array]

# Images that are differentiated, and that are looked at, at once: of VGG-16, one takes some 0.2 GB on the way back.
_DIFFERENTIATED, _LOOKED_AT = 8, 16


class Integrated(NamedTuple):
    """Integrated gradients of an image, and how well they add up.

    Attributes:
      attributions: what each value of the image contributes, float32 `[H, W, C]`.
      steps: of the path at which the gradient was taken.
      total: the sum of the attributions.
      difference: the score of the image minus that of the black image, which the sum must be.
    """

    attributions: np.ndarray
    steps: int
    total: float
    difference: float

    @property
    def error(self) -> float:
        """How far the sum is from the difference, as a share of it."""
        return abs(self.total - self.difference) / max(abs(self.difference), 1e-12)


def _gradient(score: Score, x: jax.Array) -> jax.Array:
    # Images of a batch do not see each other, so the gradient of the sum is that of each score.
    return jax.grad(lambda x: score(x).sum())(x)


@jax.jit
def computed(function: Callable[[jax.Array], Any], images: jax.Array) -> Any:
    """Return what a function makes of images `[B, H, W, C]`, compiled as a whole."""
    return function(images)


@jax.jit
def saliency(score: Score, images: jax.Array) -> jax.Array:
    """Return how strongly the score changes with each pixel, `[B, H, W]`: the largest absolute gradient of a channel.

    Simonyan, Vedaldi and Zisserman 2014 (arXiv 1312.6034), section 3.1.
    """
    return jnp.abs(_gradient(score, images)).max(-1)


@jax.jit
def _along(score: Score, image: jax.Array, shares: jax.Array) -> jax.Array:
    return _gradient(score, shares[:, None, None, None] * image).sum(0)


def integrated_gradients(
    score: Score, image: np.ndarray, *, tolerance: float = 0.01, fewest: int = 32, most: int = 1024
) -> Integrated:
    """Return what each value of an image contributes to the score: its gradient, on average from black to the image.

    Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), section 3, with a black image as the baseline. The integral is
    taken by the midpoint rule, whose steps never touch the black image, where a network without biases has a kink. They
    are doubled until the attributions add up to the difference of the scores.

    Args:
      score: of images.
      image: `[H, W, C]`, pixels in 0..255.
      tolerance: how far the sum may be from the difference, as a share of it.
      fewest: steps to begin with.
      most: steps after which it is left as it is; a caller looks at `error`.
    """
    image = np.asarray(image, np.float32)
    given, black = jax.device_get(computed(score, np.stack([image, np.zeros_like(image)]))).tolist()
    steps = fewest
    while True:
        gradient = np.zeros(image.shape)  # float64: thousands of numbers are added
        for shares in np.split(_midpoints(steps), range(_DIFFERENTIATED, steps, _DIFFERENTIATED)):
            gradient += jax.device_get(_along(score, image, shares))
        attributions = image * gradient / steps
        found = Integrated(attributions.astype(np.float32), steps, float(attributions.sum()), given - black)
        if found.error <= tolerance or 2 * steps > most:
            return found
        steps *= 2


def _midpoints(steps: int) -> np.ndarray:
    """Return the middle of each of so many equal parts of 0..1, float32."""
    return (np.arange(steps, dtype=np.float32) + 0.5) / steps


@jax.jit
def grad_cam(score: Score, maps: jax.Array) -> jax.Array:
    """Return where maps speak for the score, `[B, h, w]`.

    Each map is weighted by its mean gradient; of the sum, what is positive counts. Selvaraju et al. 2017 (arXiv
    1610.02391), equations 1 and 2.

    Args:
      score: of the maps.
      maps: activations of a stage, `[B, h, w, K]`.
    """
    weights = _gradient(score, maps).mean((1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(-1))


@jax.jit
def _covered(score: Score, image: jax.Array, corners: jax.Array, size: jax.Array, fill: jax.Array) -> jax.Array:
    """Return the scores of the image with a window over it, whose upper left corners are `[batches, B, 2]`."""
    rows, columns = jnp.arange(image.shape[0])[:, None], jnp.arange(image.shape[1])

    def cover(corner: jax.Array) -> jax.Array:
        row, column = corner
        inside = (rows >= row) & (rows < row + size) & (columns >= column) & (columns < column + size)
        return jnp.where(inside[..., None], fill, image)

    return jax.lax.map(lambda some: score(jax.vmap(cover)(some)), corners)


def occlusion(score: Score, image: np.ndarray, window: Window, fill: np.ndarray) -> np.ndarray:
    """Return by how much the score falls when a window of one colour covers a part of the image, float32 `[h, w]`.

    Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2. Where hiding a part raises the score, it is negative.

    Args:
      score: of images.
      image: `[H, W, C]`, pixels in 0..255.
      window: along each dimension; its outputs are the places it is laid on.
      fill: its colour, `[C]`.
    """
    image = np.asarray(image, np.float32)
    firsts = [[window.places(place).start for place in range(window.outputs(side))] for side in image.shape[:2]]
    corners = np.stack(np.meshgrid(*firsts, indexing="ij"), -1)  # [h, w, 2]
    rest = -corners[..., 0].size % _LOOKED_AT  # the last batch is filled up, so that there is one program
    batches = np.concatenate([corners.reshape(-1, 2), np.zeros((rest, 2), corners.dtype)]).reshape(-1, _LOOKED_AT, 2)
    scores = jax.device_get(_covered(score, image, batches, window.size, np.asarray(fill, np.float32)))
    whole = jax.device_get(computed(score, image[np.newaxis]))
    return (whole - scores.reshape(-1)[: corners[..., 0].size]).reshape(corners.shape[:2])
