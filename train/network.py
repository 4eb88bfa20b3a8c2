"""From a completed config to a network."""

from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from models import NETWORKS, Network
from models.arithmetic import GeometryError
from models.network import NetworkError
from train.errors import UserError

PyTree = Any


def build(config: ConfigDict, key: jax.Array) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """Return the network as (graph, parameters, batch statistics); the latter two are nested dicts of arrays.

    Raises:
      UserError: the network cannot take images of config.dataset.image_size, or answer with config.dataset.classes.
    """
    return _split(_module(config, key))


def describe(config: ConfigDict) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """Return what `build` does, with shapes in the place of arrays: nothing is computed.

    Raises:
      UserError: as `build`.
    """
    return _split(nnx.eval_shape(lambda: _module(config, jax.random.key(0))))


def _module(config: ConfigDict, key: jax.Array) -> Network:
    network = NETWORKS[config.model.name][config.model.variant]
    chosen = ("name", "variant")
    options = {name: value for name, value in config.model.items() if name not in chosen and value is not None}
    size = config.dataset.image_size
    try:
        return network(
            image_size=size,
            channels=config.dataset.channels,
            classes=config.dataset.classes,
            dtype=config.precision,
            rngs=nnx.Rngs(key),
            **options,
        )
    except GeometryError as error:
        raise UserError(f"config.dataset.image_size={size}: too small for {config.model.name}: {error}") from error
    except NetworkError as error:
        raise UserError(f"config.model: {error}") from error


def _split(module: nnx.Module) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    graph, *states = nnx.split(module, nnx.Param, nnx.BatchStat)
    params, stats = map(nnx.to_pure_dict, states)
    return graph, params, stats


def count_parameters(params: PyTree) -> int:
    """Return how many numbers the parameters hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
