"""What each stage of a network costs and sees, read off the stages themselves; and how much memory that takes."""

import itertools
import math
from typing import NamedTuple

import jax
from flax import nnx

from models.arithmetic import ReceptiveField
from models.geometry import Shape
from models.network import Network

# Bytes of a float32 number, which parameters and activations are counted in.
_FLOAT = 4


class Row(NamedTuple):
    """A stage of a network, for one example.

    Attributes:
      name: of the stage.
      shape: of its activation, `(*spatial, C)`.
      parameters: trainable numbers.
      macs: multiply-accumulates by the formula, in which padding counts.
      connections: inputs of its units, biases among them, as LeCun et al. 1998 count them.
      fields: receptive field of its outputs along each dimension of the image (of lenet1d: along the series).
    """

    name: str
    shape: Shape
    parameters: int
    macs: int
    connections: int
    fields: tuple[ReceptiveField, ...]

    @property
    def activations(self) -> int:
        """Numbers that it yields."""
        return math.prod(self.shape)


def rows(network: Network) -> list[Row]:
    """Return a row for each stage; the parameters may be shapes alone (nnx.eval_shape)."""
    found, shape = [], network.input_shape
    fields = (ReceptiveField(),) * (len(shape) - 1)
    for stage in network.plan:
        parameters = macs = connections = 0
        for layer in network.layers_of(stage):
            if isinstance(layer, nnx.Module):
                parameters += sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)))
            macs += layer.macs(shape)
            connections += layer.connections(shape)
            fields, shape = layer.fields(shape, fields), layer.output(shape)
        found.append(Row(stage.name, shape, parameters, macs, connections, fields))
    return found


class Memory(NamedTuple):
    """Bytes in float32: those that are there whatever the batch is, and those of each image in it."""

    fixed: int
    image: int

    def of(self, batch_size: int) -> int:
        """Return the bytes of a batch."""
        return self.fixed + batch_size * self.image

    def largest_batch(self, available: int) -> int:
        """Return how many images fit into so many bytes; 0 where the fixed part does not."""
        return max(0, (available - self.fixed) // self.image)


def training_memory(network: Network, moments: int = 1) -> Memory:
    """Predict what a training step holds at its fullest.

    Fixed are the parameters, as many gradients, and the optimizer's moments. An image takes its pixels, the activation
    of each stage, which the way back needs, and three times the largest of them: its gradient as it comes and as it
    goes on, and a copy in the order that the gradient of the kernels is computed in.

    Args:
      network: whose parameters may be shapes alone.
      moments: numbers that the optimizer keeps for each parameter: 1 with momentum, 2 with Adam.
    """
    found = rows(network)
    kept = math.prod(network.input_shape) + sum(row.activations for row in found)
    return Memory(
        fixed=_FLOAT * (2 + moments) * sum(row.parameters for row in found),
        image=_FLOAT * (kept + 3 * max(row.activations for row in found)),
    )


def inference_memory(network: Network) -> Memory:
    """Predict what inference holds at its fullest: the parameters, and a stage's input and output."""
    found = rows(network)
    sizes = [math.prod(network.input_shape), *(row.activations for row in found)]
    return Memory(
        fixed=_FLOAT * sum(row.parameters for row in found),
        image=_FLOAT * max(map(sum, itertools.pairwise(sizes))),
    )
