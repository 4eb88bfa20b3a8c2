"""What a run begins with or goes on with: images or their stored activations, layers that are given, frozen ones."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, network
from train.checkpoints import Checkpoints
from train.data import dataset
from train.data.activations import Activations, Store
from train.data.roles import Dataset, of_store
from train.data.sources import reachable
from train.errors import UserError
from train.features import extraction, freshness
from train.network import PyTree
from train.run import RunFolder
from train.step import State
from train.terminal import printable
from train.transfer import adopting, net_a
from train.transfer.weights import Weights, kept


def load_data(config: ConfigDict) -> Dataset:
    """Read the data of a resolved config; of a store whose images are out of reach, its activations alone.

    Raises:
      UserError: as `dataset.load`, or the store cannot be read.
    """
    if config.transfer.store and not reachable(config.dataset.source):
        store = Store(Path(config.transfer.store).expanduser())
        unseen = f"{config.dataset.source} is not there; whether its images are the same is not looked at"
        print(printable(f"{store.path}: {unseen}"))
        adopting.take_open(config, store)
        adopting.complete(config)
        return of_store(store, store.layer(config.transfer.frozen_until))
    return dataset.load(config.dataset)


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
    if config.transfer.mode == "scratch" and not config.transfer.net_a:
        return Beginning(data, None, {})
    was: dict[str, str] = folder.environment["transfer"]["sha256"]
    if not resumes:
        key = "net_a" if config.transfer.net_a else "weights"
        given = net_a.given_by(config, mesh) if config.transfer.net_a else kept(config, Weights(config))
        if network.digests(given["params"], given["stats"]) != was:
            raise UserError(
                f"config.transfer.{key}={config.transfer[key]}: are not the weights that {folder.path} was to begin "
                "with; choose another --workdir"
            )
    if config.transfer.net_a:
        return Beginning(data, None if resumes else given, {})
    frozen_part, _ = network.describe_parts(config)
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
        checkpoints.save_frozen(devices.put(frozen, devices.replicated(mesh)))
    if config.transfer.mode == "stored":
        path = Path(config.transfer.store).expanduser() if config.transfer.store else folder.path / "features"
        last = config.transfer.frozen_until
        if isinstance(data.train, Activations):
            freshness.check_weights(Store(path), frozen["params"], frozen["stats"])
        else:
            part, say = (graph, frozen["params"], frozen["stats"]), partial(print, flush=True)
            store = extraction.extract(part, (last,), config, data, path, mesh, say)
            data = of_store(store, last)
    return Beginning(data, given, {layer: was[layer] for layer in params.keys() | stats.keys()})


def check_frozen(config: ConfigDict, beginning: Beginning, state: State, checkpoints: Checkpoints, mesh: Mesh) -> None:
    """Make sure that nothing has changed what is frozen.

    Raises:
      UserError: something has.
    """
    if not beginning.frozen:
        return
    frozen = state.frozen or checkpoints.restore_frozen(config, mesh)
    frozen = devices.whole(frozen, mesh)
    now = network.digests(frozen["params"], frozen["stats"])
    if changed := [layer for layer, digest in sorted(beginning.frozen.items()) if now[layer] != digest]:
        raise UserError(
            f"the frozen layers {', '.join(changed)} are not what the run began with; memory or disk may be at fault: "
            "train again, in another --workdir"
        )
