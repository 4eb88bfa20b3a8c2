"""From a completed config to a network."""

import functools
import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from models import NETWORKS, Network
from models.arithmetic import GeometryError
from models.layers import Dense
from models.network import NetworkError
from train.errors import UserError

PyTree = Any
# Graph, parameters and batch statistics; the latter two are nested dicts, of arrays or of their shapes.
Described = tuple[nnx.GraphDef, PyTree, PyTree]


class _Choice(NamedTuple):
    """What of a config makes a network."""

    name: str
    variant: str
    options: tuple[tuple[str, Any], ...]
    image_size: int
    channels: int
    classes: int
    precision: str


def _choice(config: ConfigDict) -> _Choice:
    model, dataset = config.model, config.dataset
    chosen = ("name", "variant")
    options = tuple((name, value) for name, value in model.items() if name not in chosen and value is not None)
    sizes = (dataset.image_size, dataset.channels, dataset.classes)
    return _Choice(model.name, model.variant, options, *sizes, config.precision)


def build(config: ConfigDict, key: jax.Array) -> Described:
    """Return the network as (graph, parameters, batch statistics); the latter two are nested dicts of arrays.

    Raises:
      UserError: the network cannot take images of config.dataset.image_size, or answer with config.dataset.classes.
    """
    return split(_module(_choice(config), key))


def describe(config: ConfigDict) -> Described:
    """Return what `build` does, with shapes in the place of arrays: nothing is computed.

    Raises:
      UserError: as `build`.
    """
    return jax.tree.map(lambda leaf: leaf, _described(_choice(config)))  # in dicts of its own


@functools.lru_cache(maxsize=8)  # a launch asks several times, at 0.05 s each for LeNet-5
def _described(choice: _Choice) -> Described:
    return split(nnx.eval_shape(lambda: _module(choice, jax.random.key(0))))


def _module(choice: _Choice, key: jax.Array) -> Network:
    try:
        return NETWORKS[choice.name][choice.variant](
            image_size=choice.image_size,
            channels=choice.channels,
            classes=choice.classes,
            dtype=choice.precision,
            rngs=nnx.Rngs(key),
            **dict(choice.options),
        )
    except GeometryError as error:
        where = f"config.dataset.image_size={choice.image_size}: too small for {choice.name}"
        raise UserError(f"{where}: {error}; choose a larger one") from error
    except NetworkError as error:
        raise UserError(f"config.model: {error}") from error


def split(module: nnx.Module) -> Described:
    """Return a network as (graph, parameters, batch statistics)."""
    graph, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
    params, stats = map(nnx.to_pure_dict, states)
    return graph, params, stats


def describe_parts(config: ConfigDict) -> tuple[Described | None, Described]:
    """Return what is frozen and what learns, each as `describe` returns a network; all learns where nothing is frozen.

    Raises:
      UserError: as `build`, or there is no stage `transfer.frozen_until` before the last.
    """
    whole = describe(config)
    last = config.transfer.frozen_until
    if last is None:
        return None, whole
    frozen, learning = divide(whole, last)
    return split(frozen), split(learning)


def divide(described: Described, last: str) -> tuple[Network, Network]:
    """Return the stages up to the one named `last`, and those behind it.

    Args:
      described: (graph, parameters, batch statistics), of shapes or of arrays.
      last: of config.transfer.frozen_until.

    Raises:
      UserError: there is no such stage, or none behind it.
    """
    try:
        return nnx.merge(*described).divided(last)
    except NetworkError as error:
        raise UserError(f"config.transfer.frozen_until={last}: {str(error).partition(': ')[2]}") from error


def layers_by_stage(config: ConfigDict) -> dict[str, list[str]]:
    """Return the names of each stage's layers that have parameters, in the order of the network."""
    described = describe(config)
    plan = nnx.merge(*described).plan
    return {stage.name: [layer for layer in stage.layers if layer in described[1]] for stage in plan}


def dense_layers(config: ConfigDict) -> list[str]:
    """Return the names of the dense layers, in the order of the network."""
    whole = nnx.merge(*describe(config))
    layers = {layer: getattr(whole, layer) for stage in whole.plan for layer in stage.layers if isinstance(layer, str)}
    return [name for name, layer in layers.items() if isinstance(layer, Dense)]


def layer_rates(config: ConfigDict) -> dict[str, float] | None:
    """Return by what the learning rate of each layer is multiplied, or None where all learn alike.

    That of the last stage is 1; of a stage with parameters before another, `transfer.layer_decay` times that one's.
    Clark et al. 2020 (arXiv 2003.10555, appendix B) call it layer-wise learning-rate decay.
    """
    if config.transfer.layer_decay == 1:
        return None
    with_parameters = [layers for layers in layers_by_stage(config).values() if layers]
    rates: dict[str, float] = {}
    for distance, layers in enumerate(reversed(with_parameters)):
        rates |= dict.fromkeys(layers, config.transfer.layer_decay**distance)
    return rates


def digests(params: PyTree, stats: PyTree) -> dict[str, str]:
    """Return a SHA-256 of each layer: of the names, shapes and bytes of its arrays."""
    found: dict[str, str] = {}
    for layer in sorted(params.keys() | stats.keys()):
        digest = hashlib.sha256()
        for tree in (params, stats):
            for leaf, array in sorted(tree.get(layer, {}).items()):
                digest.update(f"{leaf} {array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(jax.device_get(array)).data)
        found[layer] = digest.hexdigest()
    return found


def narrowed(params: PyTree, precision: str) -> PyTree:
    """Return parameters whose kernels are in what layers compute in, so that this is not done anew for each batch.

    Biases and what normalisation multiplies by stay float32: they are few.
    """
    if precision == "float32":
        return params

    def narrow(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf.astype(precision) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(narrow, params)


def count_parameters(params: PyTree) -> int:
    """Return how many numbers the parameters hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
