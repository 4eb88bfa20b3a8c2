"""A trained network as functions of pixels: what it says of images, one class's score, and the way there by a stage."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial
from ml_collections import ConfigDict

from models import summary
from models.layers import Convolution, PartialConvolution
from models.summary import Row
from train import network, settings
from train.data.transforms import normalise
from train.errors import UserError, nearest
from train.explaining.attribution import Score, computed
from train.network import Described, PyTree

# Maps with fewer places a side say little about where.
_FINE = 4


class Halves(NamedTuple):
    """A network cut behind a stage.

    Attributes:
      maps: from images `[B, H, W, C]` to the stage's activations `[B, h, w, K]`.
      of_class: makes of a class's index its score, of those activations.
    """

    maps: Score
    of_class: Callable[[int], Score]


class Scores:
    """A trained network that is asked about images, float `[B, H, W, C]` with pixels in 0..255.

    A class's score is its logit. Behind the softmax a score could also rise because others fall (Simonyan et al. 2014,
    section 2), and where the network is sure, its gradient vanishes. Of LeNet-5 of 1998 the logit is minus the squared
    distance of F6 to the digit's picture (models/layers.py, RadialBasis): the paper's penalty with its sign turned,
    which is where the logits of other networks are, before `log_probabilities`. So there, too, more speaks for the
    class, and what is explained is how near the picture is.

    Args:
      described: the trained network as (graph, parameters, batch statistics). In whatever precision it computes
        elsewhere, here it is float32: differences of scores are small beside the scores.
      config: the completed config of the run.

    Attributes:
      classes: their names, or their numbers where the run has no names.
      maps: the stages whose activations are maps of the image, by name, in order.
      without_maps: why there are none, or nothing.
    """

    def __init__(self, described: Described, config: ConfigDict) -> None:
        precise = config.copy_and_resolve_references()
        precise.precision = "float32"
        self._graph, self._params, self._stats = (network.describe(precise)[0], *described[1:])
        self._dataset = config.dataset
        self.classes = settings.class_names(config.dataset)
        module = nnx.merge(self._graph, self._params, self._stats)
        self.maps = {row.name: row for row in summary.rows(module) if len(row.shape) == len(module.input_shape)}
        self.without_maps = "" if self.maps else "the network has no maps of two dimensions"
        if config.dataset.permutation is not None:
            self.maps = {}
            self.without_maps = "the network sees its pixels in another order (config.dataset.permutation)"
        convolutions = (Convolution, PartialConvolution)
        self._convolutional = [
            stage.name
            for stage in module.plan
            if any(isinstance(layer, convolutions) for layer in module.layers_of(stage))
        ]

        def score(params: PyTree, stats: PyTree, index: int, images: jax.Array) -> jax.Array:
            return self._logits(params, stats, images)[:, index]

        def answer(params: PyTree, stats: PyTree, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = self._logits(params, stats, images)
            return logits, jnp.exp(nnx.merge(self._graph, params, stats).log_probabilities(logits))

        # Made once: two Partials of one function are one program.
        self._score, self._answer = score, Partial(answer, self._params, self._stats)

    def _logits(self, params: PyTree, stats: PyTree, images: jax.Array) -> jax.Array:
        network = nnx.merge(self._graph, params, stats)
        return network(normalise(images, self._dataset)).astype(jnp.float32)

    def say(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and probabilities of the classes, `[classes]` each, of one image `[H, W, C]`."""
        logits, probabilities = jax.device_get(computed(self._answer, image[np.newaxis]))
        return logits[0], probabilities[0]

    def of_class(self, index: int) -> Score:
        """Return the score of a class, of images."""
        return Partial(self._score, self._params, self._stats, index)

    def row(self, stage: str | None) -> Row | None:
        """Return the stage that is called so; by default the last convolution with maps that are not too coarse.

        Returns:
          The stage; None where the network has no maps and none is asked for.

        Raises:
          UserError: there is no such stage, or it has no maps; names those that have.
        """
        if stage is None:
            found = [self.maps[name] for name in self._convolutional if name in self.maps]
            # Of those that are fine enough, and else of the finest, the last.
            return max(reversed(found), key=lambda row: min(row.shape[0], _FINE), default=None)
        if not self.maps:
            raise UserError(f"--stage={stage}: {self.without_maps}; leave --stage out")
        if stage not in self.maps:
            raise UserError(
                f"--stage={stage}: the stages with maps are {', '.join(self.maps)}{nearest(stage, self.maps)}"
            )
        return self.maps[stage]

    def divided(self, stage: str) -> Halves:
        """Return the way to a stage with maps, and the way on from there to the classes."""
        whole = (self._graph, self._params, self._stats)
        (front, *of_front), (behind, *of_behind) = map(network.split, network.divide(whole, stage))

        def maps(params: PyTree, stats: PyTree, images: jax.Array) -> jax.Array:
            return nnx.merge(front, params, stats)(normalise(images, self._dataset))

        def score(params: PyTree, stats: PyTree, index: int, maps: jax.Array) -> jax.Array:
            return nnx.merge(behind, params, stats)(maps).astype(jnp.float32)[:, index]

        return Halves(Partial(maps, *of_front), lambda index: Partial(score, *of_behind, index))
