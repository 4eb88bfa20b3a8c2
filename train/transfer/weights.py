"""Weights that a run begins with: of a run folder or a file; all but a head for other classes are kept."""

from functools import cached_property
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train import devices, network
from train.checkpoints import load_network
from train.errors import UserError
from train.network import PyTree
from train.run import RunFolder
from train.weights import importing


class Weights:
    """A trained network that others begin with.

    Args:
      config: of the run that begins with it: config.transfer.weights is a run folder or a file; of a file that does not
        say which network it is of, config.model does.

    Raises:
      UserError: there is neither, or it cannot be read.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.name = f"config.transfer.weights={config.transfer.weights}"
        path = Path(config.transfer.weights).expanduser()
        if not path.exists():
            raise UserError(f"{self.name}: there is neither a run folder nor a file of weights; name where they lie")
        self._run = RunFolder(path) if path.is_dir() else None
        self._plan = None if self._run else importing.plan_to_begin_with(config, path)
        if self._run is not None and self._run.result is None:
            raise UserError(f"{self.name}: is not finished; run its command again")

    @property
    def config(self) -> ConfigDict:
        """The complete config of that network."""
        if self._run is not None:
            return self._run.config
        assert self._plan is not None
        return self._plan.config

    @property
    def states_preparation(self) -> bool:
        """Whether it is known how images were prepared."""
        return self._plan is None or self._plan.preparation_is_known

    @cached_property
    def arrays(self) -> tuple[PyTree, PyTree]:
        """Parameters and batch statistics, by layer."""
        if self._run is not None:
            return load_network(self._run, devices.local_mesh(1))[1:]
        assert self._plan is not None
        return importing.read(self._plan)[1:]


def kept(config: ConfigDict, weights: Weights) -> PyTree:
    """Return `params` and `stats` that a run begins with, by layer: all but a head for other classes.

    Raises:
      UserError: a layer that is kept has other shapes here; names them.
    """
    _, ours, our_stats = network.describe(config)
    params, stats = weights.arrays
    new = _head(config) if _other_classes(config, weights.config) else frozenset()
    params = {layer: params[layer] for layer in params if layer not in new}
    for layer, leaf, there, here in _differences(params, ours):
        raise UserError(
            f"{weights.name}: {layer}'s {leaf} is {there} there and {here} here; images must have the size and the "
            f"channels of its own: --config.dataset.image_size={weights.config.dataset.image_size} "
            f"--config.dataset.channels={weights.config.dataset.channels}"
        )
    assert our_stats.keys() == stats.keys(), "the networks are the same"
    return {"params": params, "stats": stats}


def digests(config: ConfigDict, weights: Weights) -> dict[str, str]:
    """Return a SHA-256 of each layer that a run begins with.

    Raises:
      UserError: as `kept`.
    """
    given = kept(config, weights)
    return network.digests(given["params"], given["stats"])


def _other_classes(ours: ConfigDict, theirs: ConfigDict) -> bool:
    """Whether the head cannot be kept; where nobody has names for classes, their number decides."""
    here, there = ours.dataset, theirs.dataset
    named = here.class_names is not None and there.class_names is not None
    same_names = not named or here.class_names in (there.class_names, there.class_ids)
    return here.classes != there.classes or not same_names


def _head(config: ConfigDict) -> frozenset[str]:
    """Return the layers of the last stage."""
    return frozenset(list(network.layers_by_stage(config).values())[-1])


def _differences(theirs: PyTree, ours: PyTree) -> list[tuple[str, str, Any, Any]]:
    return [
        (layer, leaf, theirs[layer][leaf].shape, ours[layer][leaf].shape)
        for layer in theirs
        for leaf in theirs[layer]
        if theirs[layer][leaf].shape != ours[layer][leaf].shape
    ]
