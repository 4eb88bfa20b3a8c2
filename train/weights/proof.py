"""Whether a network that has been brought here answers as it did where it came from."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from models.network import Network
from train.errors import UserError
from train.network import PyTree
from train.weights.file import reading

# The arrays that are no stage's. Inputs are what the network takes, that is, images that have been prepared for it.
INPUTS, LOGITS, PROBABILITIES = "inputs", "outputs", "probabilities"
# Of the largest value: float32 sums in another order differ by some 1e-6.
TOLERANCE = 1e-4
_BATCH = 32


class Difference(NamedTuple):
    """How far two networks' activations lie apart.

    Attributes:
      name: of the stage, or `outputs` or `probabilities`.
      absolute: the largest difference of two numbers.
      relative: that, over the largest number of the source's.
    """

    name: str
    absolute: float
    relative: float


def compare(
    graph: nnx.GraphDef, params: PyTree, stats: PyTree, path: Path, *, channels_first: bool
) -> tuple[list[Difference], int]:
    """Hold a network's activations against its source's.

    Args:
      graph: of the network, with `params` and `stats`.
      params: its parameters.
      stats: its batch statistics.
      path: a .npz file with `inputs` (images as the source takes them), and `outputs` (logits), `probabilities` or
        activations under the names of our stages, each behind its ReLU.
      channels_first: whether its images and maps are `[B, C, H, W]` or `[B, H, W, C]`.

    Returns:
      the differences, in the order of the stages, and how many images were looked at.

    Raises:
      UserError: the file cannot be read, has other names, or its shapes are not those of the network.
    """
    with reading(path, ".npz"), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    network = nnx.merge(graph, params, stats)
    order = [*(stage.name for stage in network.plan), LOGITS, PROBABILITIES]
    if INPUTS not in arrays or len(arrays) < 2:
        raise UserError(
            f"--verify={path}: takes {INPUTS} and at least one of {', '.join(order)}; it has {list(arrays)}"
        )
    if unknown := sorted(arrays.keys() - {INPUTS, *order}):
        raise UserError(f"--verify={path}: {', '.join(unknown)} are no stages; there are {', '.join(order)}")
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "fiu" or not array.size]:
        raise UserError(f"--verify={path}: {', '.join(wrong)} must be numbers, and some; write them again")
    inputs = _channels_last(arrays.pop(INPUTS), len(network.input_shape), channels_first).astype(np.float32)
    if inputs.shape[1:] != network.input_shape:
        raise UserError(f"--verify={path}: its inputs are {inputs.shape[1:]}, the network takes {network.input_shape}")
    run = jax.jit(lambda params, stats, images: _activations(nnx.merge(graph, params, stats), images, set(arrays)))
    largest: dict[str, list[float]] = {name: [0.0, 0.0] for name in order if name in arrays}
    for first in range(0, len(inputs), _BATCH):
        with jax.default_matmul_precision("highest"):  # TPUs and GPUs round float32 products to fewer digits otherwise
            ours = run(params, stats, inputs[first : first + _BATCH])
        for name, found in largest.items():
            there = arrays[name] if arrays[name].ndim else arrays[name][None]
            there = _channels_last(there, ours[name].ndim - 1, channels_first)
            if len(there) != len(inputs) or there[first : first + _BATCH].shape != ours[name].shape:
                made = (len(inputs), *ours[name].shape[1:])
                raise UserError(f"--verify={path}: {name} has {there.shape}, the network makes {made}")
            part = there[first : first + _BATCH].astype(np.float64)
            # NaN is not larger than anything: np.maximum keeps it.
            found[0] = float(np.maximum(found[0], np.abs(part - np.asarray(ours[name])).max(initial=0.0)))
            found[1] = float(np.maximum(found[1], np.abs(part).max(initial=0.0)))
    return [Difference(name, gap, gap / top if top else gap) for name, (gap, top) in largest.items()], len(inputs)


def _activations(network: Network, images: jax.Array, wanted: set[str]) -> dict[str, jax.Array]:
    found = dict(network.stages(images))
    *_, logits = found.values()
    found |= {LOGITS: logits, PROBABILITIES: jax.numpy.exp(network.log_probabilities(logits))}
    return {name: found[name] for name in wanted}


def _channels_last(array: np.ndarray, dimensions: int, channels_first: bool) -> np.ndarray:
    """Return `[B, *spatial, C]`; of an image without a batch, a batch of one."""
    if array.ndim == dimensions:
        array = array[np.newaxis]
    return np.moveaxis(array, 1, -1) if channels_first and array.ndim > 2 else array


def first_over(differences: list[Difference], tolerance: float) -> Difference | None:
    """Return the first that is over the tolerance, or is no number."""
    return next((each for each in differences if not each.relative <= tolerance), None)
