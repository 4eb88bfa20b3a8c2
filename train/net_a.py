"""Start a deep VGG with what its shallow relative has learnt (Simonyan and Zisserman 2014, section 3.1)."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from models.vgg import SHALLOW
from train.checkpoints import load_network
from train.errors import UserError
from train.run import RunFolder
from train.step import State


def begin_with(run: str, state: State, mesh: Mesh) -> State:
    """Return the state before the first step with the first four convolutions and the dense layers of a trained net A.

    Args:
      run: net A's run folder.
      state: of a VGG; it is not used any more afterwards.
      mesh: where it lies.

    Raises:
      UserError: that is no run of net A, or a layer has another shape.
    """
    folder = RunFolder(Path(run).expanduser())
    model = folder.config.model
    if not model.name.startswith("vgg") or model.variant != "A":
        what = " ".join(filter(None, (model.name, model.variant)))
        raise UserError(f"config.transfer.net_a={run}: is a run of {what}, not of VGG's net A")
    _, trained, _ = load_network(folder, mesh)
    params = dict(state.params)
    for layer in SHALLOW:
        shapes, here = (jax.tree.map(jnp.shape, tree[layer]) for tree in (trained, params))
        if shapes != here:
            raise UserError(
                f"config.transfer.net_a={run}: its {layer} has the shapes {shapes}, here they are {here}; "
                "train net A on the same classes and channels"
            )
        params[layer] = trained[layer]
    return state._replace(params=params, ema=jax.tree.map(jnp.copy, params) if state.ema else {})
