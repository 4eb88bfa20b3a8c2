"""How good a network is: every image of a set counts once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices
from train.checkpoints import load_network
from train.data import dataset
from train.data.dataset import Images
from train.data.transforms import normalise
from train.feed import AHEAD, batches_in_order
from train.network import PyTree
from train.run import RunFolder

Evaluator = Callable[[PyTree, PyTree, Images], dict[str, Any]]


def make_eval_step(
    graph: nnx.GraphDef, config: ConfigDict, change: Callable[[jax.Array], jax.Array] | None = None
) -> Callable[..., dict[str, jax.Array]]:
    """Return `step(params, stats, images, labels, counted)`, which sums loss, accuracy and top5_accuracy over a batch.

    `counted` `[B]` says which images count. With fewer than five classes, top-5 looks at all of them. `change` is done
    to the images `[B, H, W, C]` first.
    """
    top = min(5, config.dataset.classes)

    def step(
        params: PyTree, stats: PyTree, images: jax.Array, labels: jax.Array, counted: jax.Array
    ) -> dict[str, jax.Array]:
        network = nnx.merge(graph, params, stats)
        logits = network(normalise(change(images) if change else images, config.dataset)).astype(jnp.float32)
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
    change: Callable[[jax.Array], jax.Array] | None = None,
) -> Evaluator:
    """Return `evaluate(params, stats, images)`: loss, accuracy, top5_accuracy (shares of 1) and count.

    Images go to the devices in batches of one size, or at once where there are fewer: the last is filled up, and what
    fills it is not counted. `change` is as in `make_eval_step`.
    """
    size = -(-config.evaluate.batch_size // mesh.shape["data"]) * mesh.shape["data"]
    step = make_eval_step(graph, config, change)
    compiled = jax.jit(step, compiler_options=devices.compiler_options(config.precision))

    def evaluate(params: PyTree, stats: PyTree, images: Images) -> dict[str, Any]:
        enough = -(-images.total // mesh.shape["data"]) * mesh.shape["data"]
        parts: list[dict[str, jax.Array]] = []
        for batch, counted in batches_in_order(images, config, mesh, min(size, enough)):
            parts.append(compiled(params, stats, *batch, counted))
            jax.block_until_ready(parts[-AHEAD:][0])
        total = jax.tree.map(lambda *parts: sum(part.item() for part in parts), *jax.device_get(parts))
        return {name: total[name] / images.total for name in ("loss", "accuracy", "top5_accuracy")} | {
            "count": images.total
        }

    return evaluate


def evaluate_run(folder: RunFolder, source: str) -> dict[str, Any]:
    """Evaluate the best checkpoint of a run on a source's test images (see `dataset.load_test`).

    Returns:
      split (which images: "test", "val" or "all"), what an evaluator returns, and skipped: how many files of the
      source were left out because they cannot be used.

    Raises:
      UserError: there is no checkpoint, or the source does not suit the network.
    """
    config = folder.config
    images, split, skipped = dataset.load_test(config.dataset, source, folder.environment["data"]["fingerprint"])
    mesh = devices.make_mesh(None)
    graph, params, stats = load_network(folder, mesh)
    figures = {"split": split} | make_evaluator(graph, config, mesh)(params, stats, images)
    return figures | {"skipped": len(skipped)}
