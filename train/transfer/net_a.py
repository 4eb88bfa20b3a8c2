"""Start a deep VGG with what its shallow relative has learnt (Simonyan and Zisserman 2014, section 3.1)."""

from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from models import full_name
from models.vgg import SHALLOW
from train import network
from train.checkpoints import load_network
from train.errors import UserError
from train.network import PyTree
from train.run import RunFolder


def check(config: ConfigDict) -> None:
    """Make sure that a run of net A suits.

    Args:
      config: completed by the data; its transfer.net_a is a run folder.

    Raises:
      UserError: that is no finished run of net A, or it does not suit.
    """
    run = config.transfer.net_a
    folder = RunFolder(Path(run).expanduser())
    model = folder.config.model
    if not model.name.startswith("vgg") or model.variant != "A":
        what = full_name(model.name, model.variant)
        raise UserError(f"config.transfer.net_a={run}: is a run of {what}, not of VGG's net A; name one that is")
    if folder.result is None:
        raise UserError(f"config.transfer.net_a={run}: is not finished; run its command again")
    if model.batch_norm or config.model.batch_norm:
        raise UserError(
            f"config.transfer.net_a={run}: starts nets without batch normalisation, and is one itself; "
            "with it a deep net needs no such start"
        )
    (_, theirs, _), (_, ours, _) = network.describe(folder.config), network.describe(config)
    for layer in SHALLOW:
        there, here = ({name: leaf.shape for name, leaf in tree[layer].items()} for tree in (theirs, ours))
        if there != here:
            raise UserError(
                f"config.transfer.net_a={run}: its {layer} has the shapes {there}, here they are {here}; "
                "train net A on the same classes, channels and image size"
            )


def given_by(config: ConfigDict, mesh: Mesh) -> PyTree:
    """Return the first four convolutions and the dense layers of a trained net A, as a run begins with them.

    Args:
      config: as of `check`.
      mesh: where they shall lie.

    Raises:
      UserError: as `check`, or the run's checkpoint cannot be read.
    """
    check(config)
    _, trained, _ = load_network(RunFolder(Path(config.transfer.net_a).expanduser()), mesh)
    return {"params": {layer: trained[layer] for layer in SHALLOW}, "stats": {}}


def digests(config: ConfigDict, mesh: Mesh) -> dict[str, str]:
    """Return a SHA-256 of each layer that a run begins with.

    Raises:
      UserError: as `given_by`.
    """
    given = given_by(config, mesh)
    return network.digests(given["params"], given["stats"])
