"""What a network answers to every image of a set, and what it makes of them on the way."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from models.summary import rows
from train import devices, network
from train.data.roles import Read
from train.data.transforms import normalise
from train.errors import UserError, nearest
from train.feed import AHEAD, batches_in_order
from train.integrity import check_answers
from train.network import PyTree

# What comes before the first stage: the image as the network sees it.
PIXELS = "pixels"
# All activations that are kept may take so many bytes. Where they would take more, those of a stage are folded onto as
# many numbers as AlexNet's pool5 has, 256 maps of 6x6, if they are more.
_MOST_BYTES, _FOLDED = 2**31, 9_216


@dataclass(frozen=True)
class Answers:
    """Answers to N images, in their order.

    Attributes:
      labels: of the images, int32 `[N]`.
      probabilities: float32 `[N, classes]`.
      activations: of each stage that was asked for, float32 `[N, units]`.
      folded: stages with so many units, for so many images, that 9,216 sums of some with random signs stand for them,
        which keep distances and products in expectation (Charikar et al. 2002, the count sketch).
      extremes: of each stage, in the order of the network, the smallest and the largest activation of each unit (of
        maps: of each channel, at any place) over all images, float32 `[2, units]`.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    activations: dict[str, np.ndarray]
    folded: tuple[str, ...]
    extremes: dict[str, np.ndarray]

    @property
    def taken_for(self) -> np.ndarray:
        """The most probable class of each image, int32 `[N]`; of equally probable ones the first."""
        return self.probabilities.argmax(-1).astype(np.int32)

    @property
    def right(self) -> np.ndarray:
        """Whether that is the label, `[N]`."""
        return self.taken_for == self.labels


def chosen_stages(config: ConfigDict, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return names of stages in the order of the network, each once.

    Args:
      config: the completed config of a run.
      wanted: stages, "pixels" for what they begin with, "all" for everything; by default the last hidden stage.

    Raises:
      UserError: there is no such stage; lists those that there are.
    """
    names = (PIXELS, *(row.name for row in rows(nnx.merge(*network.describe(config)))))
    if not wanted:
        return (names[-2],)
    for name in wanted:
        if name not in (*names, "all"):
            raise UserError(
                f"{config.model.name} has no stage {name!r}{nearest(name, names)}; it has {', '.join(names)} (or all)"
            )
    return names if "all" in wanted else tuple(name for name in names if name in wanted)


def make_answerer(
    graph: nnx.GraphDef, config: ConfigDict, mesh: Mesh, stages: Sequence[str]
) -> Callable[[PyTree, PyTree, Read], Answers]:
    """Return `answer(params, stats, images)`: each image is shown once, prepared as in an evaluation.

    It raises UserError where a photo cannot be read or decoded, or an answer is not finite, and names it.

    Args:
      graph: of the network.
      config: the completed config of the run.
      mesh: of devices, which share each batch.
      stages: whose activations are kept, see `chosen_stages`.
    """

    def step(params: PyTree, stats: PyTree, batch: jax.Array, counted: jax.Array, folded: tuple[str, ...]) -> tuple:
        whole = nnx.merge(graph, params, stats)
        seen = normalise(batch, config.dataset)
        yielded = [(PIXELS, seen), *whole.stages(seen)]
        probabilities = jnp.exp(whole.log_probabilities(yielded[-1][1].astype(jnp.float32)))
        flat = {name: value.reshape(len(batch), -1).astype(jnp.float32) for name, value in yielded if name in stages}
        kept = {name: _folded(value) if name in folded else value for name, value in flat.items()}
        extremes = [_extremes(value.astype(jnp.float32), counted) for _, value in yielded[1:]]
        return probabilities, kept, extremes

    module = nnx.merge(*network.describe(config))
    units = {PIXELS: math.prod(module.input_shape)} | {row.name: row.activations for row in rows(module)}

    @functools.cache
    def program(folded: tuple[str, ...]) -> Callable[..., tuple]:
        return devices.jit(functools.partial(step, folded=folded), config.precision, mesh)

    each = mesh.size

    def answer(params: PyTree, stats: PyTree, images: Read) -> Answers:
        size = -(-min(config.evaluate.batch_size, images.total) // each) * each  # as many for each device
        params = network.narrowed(params, config.precision)
        most = max(_FOLDED, _MOST_BYTES // (4 * images.total * max(1, len(stages))))
        folded = tuple(name for name in stages if units[name] > most)

        def parts() -> Iterator[tuple]:
            waiting: list[tuple] = []
            for batch, counted in batches_in_order(images, config, mesh, size):
                waiting.append(program(folded)(params, stats, batch.images, counted))
                if len(waiting) == AHEAD:
                    yield jax.device_get(waiting.pop(0))
            yield from jax.device_get(waiting)

        probabilities, activations, extremes = zip(*parts(), strict=True)
        shares = np.concatenate(probabilities)[: images.total]
        check_answers(shares, config.model.name)
        return Answers(
            images.labels,
            shares,
            {name: np.concatenate([part[name] for part in activations])[: images.total] for name in stages},
            folded,
            {stage.name: _widest(each) for stage, each in zip(module.plan, zip(*extremes, strict=True), strict=True)},
        )

    return answer


def _extremes(activation: jax.Array, counted: jax.Array) -> jax.Array:
    """Return the smallest and the largest value of each unit, `[2, C]`, of the images of a batch that count `[B]`."""
    some = counted.reshape(-1, *(1,) * (activation.ndim - 1))
    over = tuple(range(activation.ndim - 1))
    least = jnp.min(activation, over, where=some, initial=jnp.inf)
    return jnp.stack([least, jnp.max(activation, over, where=some, initial=-jnp.inf)])


def _widest(extremes: Sequence[np.ndarray]) -> np.ndarray:
    least, most = np.min(extremes, axis=0)[0], np.max(extremes, axis=0)[1]
    return np.stack([least, most])


def _folded(activations: jax.Array) -> jax.Array:
    """Return a count sketch of activations `[B, units]`, `[B, 9216]`."""
    units = activations.shape[1]
    where, sign = jax.random.split(jax.random.key(0))
    place = jax.random.randint(where, (units,), 0, _FOLDED)
    signed = activations * jax.random.rademacher(sign, (units,), activations.dtype)
    return jax.ops.segment_sum(signed.T, place, _FOLDED).T
