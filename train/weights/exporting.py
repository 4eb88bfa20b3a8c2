"""From a run folder to a file that others read, and a card beside it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export as jax_export
from ml_collections import ConfigDict

from models import Network
from models.layers import LocalResponseNorm
from train import devices
from train.checkpoints import load_network
from train.errors import UserError
from train.network import PyTree
from train.run import RunFolder
from train.weights import card, layout, metadata, names
from train.whole import whole_file

# PyTorch's names of what a layer has; those of a kernel and a scale are the same.
_TORCH = {"kernel": "weight", "bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_PLATFORMS = ("cpu", "cuda", "tpu")


class Trained(NamedTuple):
    """A run's network.

    Attributes:
      graph: with params and stats, the network.
      params: nested dict of arrays.
      stats: nested dict of arrays.
      config: of the run.
    """

    graph: nnx.GraphDef
    params: PyTree
    stats: PyTree
    config: ConfigDict

    @property
    def network(self) -> Network:
        """The network itself."""
        return nnx.merge(self.graph, self.params, self.stats)

    def arrays(self, *, channels_first: bool) -> list[tuple[layout.Slot, np.ndarray]]:
        """Return each array, as a format has it.

        Raises:
          UserError: the network has layers that no other format knows.
        """
        trees = {True: self.stats, False: self.params}
        return [
            (
                slot,
                layout.to_theirs(
                    np.asarray(trees[slot.leaf in ("mean", "var")][slot.layer][slot.leaf]), slot, channels_first
                ),
            )
            for slot in layout.slots(self.network)
        ]


def export(folder: RunFolder, kind: str, output: Path) -> None:
    """Write a run's best network as a file of another format, and `OUTPUT.md`, what one must know to use it.

    Args:
      folder: the run.
      kind: a key of `FORMATS`.
      output: the file; one that is there is replaced.

    Raises:
      UserError: the run has no checkpoint, or the format has no such layers.
      OSError: the file cannot be written.
    """
    trained = Trained(*load_network(folder, devices.make_mesh(1)), folder.config)
    with whole_file(output) as file:
        FORMATS[kind](trained, file)
    card.write(folder, kind, output)


def _named(trained: Trained, table: names.Table) -> dict[str, np.ndarray]:
    """Return the arrays under PyTorch's names; a batch normalisation there counts batches, which nobody reads."""
    found: dict[str, np.ndarray] = {}
    for slot, array in trained.arrays(channels_first=True):
        found[f"{table[slot.layer]}.{_TORCH[slot.leaf]}"] = array
        if slot.leaf == "var":
            found[f"{table[slot.layer]}.num_batches_tracked"] = np.zeros((), np.int64)
    return found


def _first_table(trained: Trained) -> names.Table:
    """Return torchvision's names, of networks that it has; else the papers'."""
    return next(iter(names.tables(trained.network).values()))(trained.network)


def _torch(trained: Trained, file: BinaryIO) -> None:
    from train.weights import torch_writer

    torch_writer.write(file, _named(trained, _first_table(trained)), metadata.of_run(trained.config))


def _safetensors(trained: Trained, file: BinaryIO) -> None:
    from safetensors.numpy import save

    file.write(save(_named(trained, _first_table(trained)), {metadata.RECORD: metadata.of_run(trained.config)}))


def _keras(trained: Trained, file: BinaryIO) -> None:
    from train.weights import keras_writer

    if any(isinstance(layer, LocalResponseNorm) for stage in trained.network.plan for layer in stage.layers):
        raise UserError("--format=keras: Keras has no local response normalisation; choose onnx, torch or stablehlo")
    known = names.tables(trained.network)
    table = known.get("Keras", names.stages)(trained.network)
    layers: dict[str, tuple[str, list[np.ndarray]]] = {}
    for slot, array in trained.arrays(channels_first=False):
        dimensions = len(slot.shape) - 2
        kind = {"convolution": f"conv{dimensions}d", "dense": "dense", "norm": "batch_normalization"}[slot.kind]
        name = table.get(slot.layer, slot.layer)
        layers.setdefault(name, (kind, []))[1].append(array)
    keras_writer.write(file, layers, metadata.of_run(trained.config))


def _onnx(trained: Trained, file: BinaryIO) -> None:
    from train.weights import onnx_writer
    from train.weights.operations import of_network

    of_network(trained.network)  # which refuses what no graph has
    arrays = _named(trained, names.stages(trained.network))
    onnx_writer.write(file, trained.network, arrays, metadata.of_run(trained.config))


def _stablehlo(trained: Trained, file: BinaryIO) -> None:
    def logits(images: jax.Array) -> jax.Array:
        return trained.network(images)

    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.network.input_shape), jnp.float32)
    with _without_locations():
        file.write(jax_export.export(jax.jit(logits), platforms=_PLATFORMS)(images).serialize())


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Leave out of programs which line of which file has made what: files go to others, and folders have names."""
    frames = "jax_traceback_in_locations_limit"
    usual = getattr(jax.config, frames)
    jax.config.update(frames, 0)
    try:
        yield
    finally:
        jax.config.update(frames, usual)


FORMATS: dict[str, Callable[[Trained, BinaryIO], Any]] = {
    "safetensors": _safetensors,
    "torch": _torch,
    "keras": _keras,
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}


def check(kind: str, output: Path) -> None:
    """Raise UserError where a file of that format cannot be written there, before the work."""
    package = {"safetensors": "safetensors", "keras": "h5py", "onnx": "onnx", "stablehlo": "flatbuffers"}.get(kind)
    if package:
        try:
            __import__(package)
        except ImportError as error:
            raise UserError(f"--format={kind}: takes the package {package}; pip install -e '.[weights]'") from error
    suffixes = {
        "safetensors": (".safetensors",),
        "torch": (".pth", ".pt"),
        "keras": (".weights.h5",),
        "onnx": (".onnx",),
        "stablehlo": (".stablehlo",),
    }[kind]
    if not output.name.endswith(suffixes):
        raise UserError(f"--output={output}: a file of --format={kind} ends in {' or '.join(suffixes)}")
