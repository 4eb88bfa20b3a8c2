"""Begin with what another network has learnt: where its weights come from, which are kept, which learn."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from models import full_name
from train import devices, features, freshness, net_a, network, settings
from train.checkpoints import Checkpoints, load_network
from train.data import dataset
from train.data.activations import Activations, Store
from train.data.dataset import Dataset
from train.data.sources import reachable
from train.errors import UserError
from train.network import PyTree
from train.run import CONFIG, RunFolder, to_json
from train.step import State
from train.weights import importing

# What else belongs to weights than the network's own keys: how they are shown an image.
_PREPARATION = ("image_size", "channels", "mean", "std")
# Options of a network that make no difference to what its weights mean.
_FREE = ("dropout", "init")
# What `dataset.source` begins with where it is a store.
STORE = "features:"


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
            raise UserError(f"{self.name}: there is neither a run folder nor a file of weights")
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
            return load_network(self._run, devices.make_mesh(1))[1:]
        assert self._plan is not None
        return importing.read(self._plan)[1:]


def adopt(config: ConfigDict, workdir: Path, given: Collection[str] = ()) -> Weights | None:
    """Take from the weights what the config leaves open: variant and options of the network, preparation of images.

    Args:
      config: not resolved yet; completed in place.
      given: keys, dotted, that somebody has set with their own hands: of a store, they must be as they are there.
      workdir: the run folder. Where a run has begun there, its own config has all that, and the weights may be gone.

    Returns:
      the weights, or None where there are none or the run has begun.

    Raises:
      UserError: the weights cannot be read, or are another network's.
    """
    if config.dataset.source.startswith(STORE):
        _adopt_store(config, given)
    if not config.transfer.weights:
        return None
    begun = (workdir / CONFIG).is_file()
    weights = None if begun else Weights(config)
    theirs = RunFolder(workdir).config if weights is None else weights.config
    ours = config.model
    if ours.name != theirs.model.name or ours.variant not in (None, theirs.model.variant):
        there = full_name(theirs.model.name, theirs.model.variant)
        raise UserError(
            f"config.transfer.weights={config.transfer.weights}: is {there}, not {full_name(ours.name, ours.variant)}; "
            f"set --config.model.name={theirs.model.name}"
            + (f" --config.model.variant={theirs.model.variant}" if theirs.model.variant else "")
        )
    for key, value in theirs.model.items():
        if ours[key] is None:
            ours[key] = value
        elif ours[key] != value and key not in _FREE:
            raise UserError(
                f"config.model.{key}={ours[key]}: config.transfer.weights={config.transfer.weights} has {value}; leave "
                "the key out"
            )
    if weights is None or weights.states_preparation:
        for key in _PREPARATION:
            if config.dataset[key] is None:
                config.dataset[key] = theirs.dataset[key]
    config.dataset.channel_order = theirs.dataset.channel_order  # what the first kernel is for
    return weights


def _adopt_store(config: ConfigDict, given: Collection[str]) -> None:
    """Turn `features:DIR` into the source that the store was made of, and all else that made it."""
    path = config.dataset.source.removeprefix(STORE)
    if config.transfer.mode not in (None, "stored"):
        raise UserError(
            f"config.transfer.mode={config.transfer.mode}: {config.dataset.source} is of activations; take its photos"
        )
    store = Store(Path(path).expanduser())
    theirs = settings.from_json(to_json(store.manifest["config"]))
    adopted = ["precision", *(key for key, _ in settings.leaves(theirs) if key.startswith(("model.", "dataset.")))]
    adopted += ["transfer.dtype", "transfer.views"]
    if theirs.transfer.views:
        adopted += ["seed", *(f"augment.{key}" for key in theirs.augment)]
    here, there = dict(settings.leaves(config)), dict(settings.leaves(theirs))
    for key in adopted:
        if key in given and key != "dataset.source" and here[key] != there[key]:
            raise UserError(
                f"config.{key}={here[key]}: the activations in {path} are of {there[key]}; leave the key out, or "
                "extract again into another folder"
            )
        config.update_from_flattened_dict({key: there[key]})
    config.transfer.update(
        mode="stored",
        store=path,
        frozen_until=store.layer(config.transfer.frozen_until),
        weights=config.transfer.weights or theirs.transfer.weights,
    )


def load(config: ConfigDict) -> Dataset:
    """Read the data of a resolved config; of a store whose images are out of reach, its activations alone.

    Raises:
      UserError: as `dataset.load`, or the store cannot be read.
    """
    if config.transfer.store and not reachable(config.dataset.source):
        store = Store(Path(config.transfer.store).expanduser())
        print(f"{store.path}: {config.dataset.source} is not there; whether its images are the same is not looked at")
        return features.dataset_of(store, store.layer(config.transfer.frozen_until))
    return dataset.load(config.dataset)


def complete(config: ConfigDict) -> None:
    """Set `transfer.frozen_until` where it is open: all but the last stage is frozen.

    Args:
      config: resolved, and completed by the data.

    Raises:
      UserError: there is no such stage, or none behind it that could learn.
    """
    if config.transfer.mode in ("frozen", "stored"):
        if config.transfer.frozen_until is None:
            config.transfer.frozen_until = list(network.layers_by_stage(config))[-2]
        network.describe_parts(config)


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


class Beginning(NamedTuple):
    """What a run begins with, or goes on with.

    Attributes:
      data: what it is trained on: the images, or their stored activations.
      given: `params` and `stats` by layer, for the state before the first step.
      frozen: SHA-256 of each layer that is frozen.
    """

    data: Dataset
    given: PyTree
    frozen: dict[str, str]


def begin(config: ConfigDict, data: Dataset, folder: RunFolder, checkpoints: Checkpoints, mesh: Mesh) -> Beginning:
    """Find the weights that the first step needs, write what is frozen, and compute activations that are to be stored.

    Args:
      config: complete.
      data: the images.
      folder: of the run.
      checkpoints: of the run.
      mesh: of devices.

    Raises:
      UserError: something cannot be read or written, or the store is of something else.
    """
    resumes = checkpoints.latest() is not None
    if config.transfer.mode == "scratch":
        first_layers = net_a.given_by(config.transfer.net_a, mesh) if config.transfer.net_a and not resumes else None
        return Beginning(data, first_layers, {})
    frozen_part, _ = network.describe_parts(config)
    was: dict[str, str] = folder.environment["transfer"]["sha256"]
    if not resumes:
        given = kept(config, Weights(config))
        if network.digests(given["params"], given["stats"]) != was:
            raise UserError(
                f"config.transfer.weights={config.transfer.weights}: are not those that {folder.path} was to begin "
                "with; choose another --workdir"
            )
    if frozen_part is None:
        return Beginning(data, None if resumes else given, {})
    graph, params, stats = frozen_part
    if resumes:
        frozen = given = checkpoints.restore_frozen(config, mesh)
    else:
        frozen = {
            "params": {layer: given["params"][layer] for layer in params},
            "stats": {layer: given["stats"][layer] for layer in stats},
        }
        checkpoints.save_frozen(jax.device_put(frozen, devices.replicated(mesh)))
    if config.transfer.mode == "stored":
        path = Path(config.transfer.store).expanduser() if config.transfer.store else folder.path / "features"
        last = config.transfer.frozen_until
        if isinstance(data.train, Activations):
            freshness.check_weights(Store(path), frozen["params"], frozen["stats"])
        else:
            described = (graph, frozen["params"], frozen["stats"])
            store = features.extract(described, (last,), config, data, path, mesh, lambda line: print(line, flush=True))
            data = features.dataset_of(store, last)
    return Beginning(data, given, {layer: was[layer] for layer in params.keys() | stats.keys()})


def check_frozen(config: ConfigDict, beginning: Beginning, state: State, checkpoints: Checkpoints, mesh: Mesh) -> None:
    """Make sure that nothing has changed what is frozen.

    Raises:
      UserError: something has.
    """
    if not beginning.frozen:
        return
    frozen = state.frozen or checkpoints.restore_frozen(config, mesh)
    now = network.digests(frozen["params"], frozen["stats"])
    if changed := [layer for layer, digest in sorted(beginning.frozen.items()) if now[layer] != digest]:
        raise UserError(
            f"the frozen layers {', '.join(changed)} are not what the run began with; memory or disk may be at fault: "
            "train again, in another --workdir"
        )


def describe(config: ConfigDict, given: Collection[str]) -> list[tuple[str, int, str, str]]:
    """Return for each stage with parameters its name, their number, where they come from, and how they learn.

    Args:
      config: complete.
      given: the layers that the run begins with.
    """
    _, params, _ = network.describe(config)
    frozen_part, _ = network.describe_parts(config)
    rates = network.layer_rates(config)
    rows = []
    for stage, layers in network.layers_by_stage(config).items():
        if not layers:
            continue
        learns = "learns" if rates is None else f"learns at {rates[layers[0]]:.3g} of the rate"
        if frozen_part is not None and layers[0] in frozen_part[1]:
            learns = "frozen"
        number = sum(network.count_parameters(params[layer]) for layer in layers)
        rows.append((stage, number, "weights" if layers[0] in given else "new", learns))
    return rows


def print_table(rows: list[tuple[str, int, str, str]]) -> None:
    """Print what `describe` has returned."""
    table = Table(box=None)
    for heading in ("stage", "parameters", "begins with", "then"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for stage, number, origin, learns in rows:
        table.add_row(stage, f"{number:,}", origin, learns)
    frozen = sum(number for _, number, _, learns in rows if learns == "frozen")
    Console(width=None if Console().is_terminal else 100).print(table)
    print(f"{sum(row[1] for row in rows) - frozen:,} parameters learn, {frozen:,} are frozen", flush=True)
