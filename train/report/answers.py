"""What a network answers to every image of a set."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices
from train.data.roles import Read
from train.data.transforms import normalise
from train.feed import AHEAD, batches_in_order
from train.network import PyTree


@dataclass(frozen=True)
class Answers:
    """Answers to N images, in their order.

    Attributes:
      labels: of the images, int32 `[N]`.
      probabilities: float32 `[N, classes]`.
      features: activations of the stage before the logits, float32 `[N, units]`.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray

    @property
    def taken_for(self) -> np.ndarray:
        """The most probable class of each image, int32 `[N]`; of equally probable ones the first."""
        return self.probabilities.argmax(-1).astype(np.int32)

    @property
    def right(self) -> np.ndarray:
        """Whether that is the label, `[N]`."""
        return self.taken_for == self.labels


def make_answerer(graph: nnx.GraphDef, config: ConfigDict, mesh: Mesh) -> Callable[[PyTree, PyTree, Read], Answers]:
    """Return `answer(params, stats, images)`: each image is shown once, prepared as in an evaluation.

    It raises UserError where a photo cannot be read or decoded, and names it.

    Args:
      graph: of the network, which has two stages or more.
      config: the completed config of the run.
      mesh: of devices, which share each batch.
    """

    def step(params: PyTree, stats: PyTree, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        network = nnx.merge(graph, params, stats)
        *_, (_, hidden), (_, logits) = network.stages(normalise(batch, config.dataset))
        probabilities = jnp.exp(network.log_probabilities(logits.astype(jnp.float32)))
        return probabilities, hidden.reshape(len(batch), -1).astype(jnp.float32)

    compiled = jax.jit(step, compiler_options=devices.compiler_options(config.precision))
    each = mesh.shape["data"]

    def answer(params: PyTree, stats: PyTree, images: Read) -> Answers:
        size = -(-min(config.evaluate.batch_size, images.total) // each) * each  # as many for each device
        waiting: list[tuple[jax.Array, jax.Array]] = []
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for batch, _ in batches_in_order(images, config, mesh, size):
            waiting.append(compiled(params, stats, batch.images))
            if len(waiting) == AHEAD:
                parts.append(jax.device_get(waiting.pop(0)))
        parts += jax.device_get(waiting)
        probabilities, features = (np.concatenate(part)[: images.total] for part in zip(*parts, strict=True))
        return Answers(images.labels, probabilities, features)

    return answer
