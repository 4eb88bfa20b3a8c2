"""How good a network is: every image of a set counts once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices
from train.checkpoints import load_network
from train.data import dataset
from train.data.roles import Images
from train.data.transforms import normalise
from train.feed import AHEAD, batches_in_order
from train.integrity import check_answers
from train.network import PyTree, describe, describe_parts, narrowed
from train.run import RunFolder
from train.step import State

Evaluator = Callable[[PyTree, PyTree, Images], dict[str, Any]]


def make_eval_step(
    graph: nnx.GraphDef, config: ConfigDict, see: Callable[[jax.Array], jax.Array] | None = None
) -> Callable[..., dict[str, jax.Array]]:
    """Return `step(params, stats, images, labels, counted)`, which sums loss, accuracy and top5_accuracy over a batch.

    `counted` `[B]` says which images count. With fewer than five classes, top-5 looks at all of them. `see` makes of
    the images `[B, H, W, C]` what the network is shown; by default they are normalised.
    """
    top = min(5, config.dataset.classes)
    see = see or partial(normalise, config=config.dataset)

    def step(
        params: PyTree, stats: PyTree, images: jax.Array, labels: jax.Array, counted: jax.Array
    ) -> dict[str, jax.Array]:
        network = nnx.merge(graph, params, stats)
        logits = network(see(images)).astype(jnp.float32)
        losses = network.cross_entropy(logits, jax.nn.one_hot(labels, config.dataset.classes))
        _, ranked = jax.lax.top_k(logits, top)  # [B, top]
        hits = ranked == labels[:, None]
        return {
            "loss": jnp.sum(losses, where=counted),
            "accuracy": jnp.sum(hits[:, 0], where=counted),
            "top5_accuracy": jnp.sum(hits.any(-1), where=counted),
        }

    return step


def make_evaluator(
    graph: nnx.GraphDef,
    config: ConfigDict,
    mesh: Mesh,
    see: Callable[[jax.Array], jax.Array] | None = None,
) -> Evaluator:
    """Return `evaluate(params, stats, images)`: loss, accuracy, top5_accuracy (shares of 1) and count.

    Images go to the devices in batches of one size, or at once where there are fewer: the last is filled up, and what
    fills it is not counted. `see` is as in `make_eval_step`.
    """
    size = -(-config.evaluate.batch_size // mesh.size) * mesh.size
    step = make_eval_step(graph, config, see)
    names = ("loss", "accuracy", "top5_accuracy")

    def sums_of(*arguments: Any) -> jax.Array:
        sums = step(*arguments)
        return jnp.stack([sums[name].astype(jnp.float32) for name in names])  # one array is one wait

    compiled = devices.jit(sums_of, config.precision, mesh, out_shardings=devices.replicated(mesh))

    def evaluate(params: PyTree, stats: PyTree, images: Images) -> dict[str, Any]:
        enough = -(-images.total // mesh.size) * mesh.size
        params = narrowed(params, config.precision)
        parts: list[jax.Array] = []
        for batch, counted in batches_in_order(images, config, mesh, min(size, enough)):
            parts.append(compiled(params, stats, *batch, counted))
            jax.block_until_ready(parts[-AHEAD:][0])
        totals = np.stack(jax.device_get(parts)).sum(axis=0, dtype=np.float64)
        shares = (totals / images.total).tolist()
        return dict(zip(names, shares, strict=True)) | {"count": images.total}

    return evaluate


def make_run_evaluator(config: ConfigDict, mesh: Mesh) -> Callable[[State, Images], dict[str, Any]]:
    """Return `evaluate(state, images)` for a run: the moving average where there is one, with what is frozen.

    Where config.transfer.mode is "stored", the images are the activations of the last frozen stage.
    """
    if config.transfer.mode == "stored":
        _, (graph, _, _) = describe_parts(config)
        evaluate = make_evaluator(graph, config, mesh, lambda activations: activations.astype(jnp.float32))
    else:
        evaluate = make_evaluator(describe(config)[0], config, mesh)

    def of_state(state: State, images: Images) -> dict[str, Any]:
        params, stats = state.ema or state.params, state.stats
        if state.frozen:
            params, stats = state.frozen["params"] | params, state.frozen["stats"] | stats
        return evaluate(params, stats, images)

    return of_state


def evaluate_run(folder: RunFolder, source: str) -> dict[str, Any]:
    """Evaluate the best checkpoint of a run on a source's test images (see `dataset.load_test`).

    Returns:
      split (which images: "test", "val" or "all"), what an evaluator returns, and skipped: how many files of the
      source were left out because they cannot be used.

    Raises:
      UserError: there is no checkpoint, the source does not suit the network, or its answers are not finite.
    """
    config = folder.config
    images, split, skipped, _ = dataset.load_test(config.dataset, source, folder.environment["data"]["fingerprint"])
    mesh = devices.make_mesh(None)
    graph, params, stats = load_network(folder, mesh)
    figures = {"split": split} | make_evaluator(graph, config, mesh)(params, stats, images)
    check_answers(np.array([[figures["loss"]]]), folder.path, [f"the images of {source}"])
    return figures | {"skipped": len(skipped)}
