"""One step: augment, normalise, gradient, update. Plain functions over pytrees, jitted once by the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from train.data.examples import Examples
from train.data.transforms import augment, mix, normalise
from train.network import PyTree, build, describe_parts


class State(NamedTuple):
    """All that a step changes.

    Attributes:
      step: how many steps have been taken, int32.
      seed: config.seed, int32, from which with the step's number all follows that is random. It is an argument and no
        constant, so that one program serves runs with any seed.
      params: parameters that learn, float32.
      stats: batch statistics of their layers.
      frozen: parameters and batch statistics (`params`, `stats`) that stay as they are; empty where there are none.
      ema: moving average of the parameters that learn; empty where config.train.ema is 0.
      optimizer: optax's state.
    """

    step: jax.Array
    seed: jax.Array
    params: PyTree
    stats: PyTree
    frozen: PyTree
    ema: PyTree
    optimizer: PyTree


class Metrics(NamedTuple):
    """Of one batch: mean loss, and how many images are classified rightly; of mixed ones, as what is most of them."""

    loss: jax.Array
    correct: jax.Array


def init_state(
    config: ConfigDict, optimizer: optax.GradientTransformation, seed: jax.Array, given: PyTree | None = None
) -> State:
    """Return the state before the first step.

    Args:
      config: completed by the data.
      optimizer: optax's.
      seed: see `seed_of`.
      given: `params` and `stats` by layer, which a run begins with; the initial values of the others come from the
        seed.
    """
    _, params, stats = build(config, jax.random.key(seed))
    if given is not None:
        params, stats = params | given["params"], stats | given["stats"]
    frozen_part, (_, learning, learning_stats) = describe_parts(config)
    frozen: PyTree = {}
    if frozen_part is not None and config.transfer.mode != "stored":  # then the frozen part has done its work
        frozen = {"params": _only(params, frozen_part[1]), "stats": _only(stats, frozen_part[2])}
    params, stats = _only(params, learning), _only(stats, learning_stats)
    ema = jax.tree.map(jnp.copy, params) if config.train.ema else {}
    return State(jnp.zeros((), jnp.int32), seed, params, stats, frozen, ema, optimizer.init(params))


def seed_of(config: ConfigDict) -> np.ndarray:
    """Return config.seed as an array: its lower 32 bits, as `jax.random.key` takes them of a number."""
    return np.asarray(config.seed, np.int64).astype(np.int32)


def _only(tree: PyTree, like: PyTree) -> PyTree:
    return {layer: tree[layer] for layer in like}


def make_train_step(
    config: ConfigDict, optimizer: optax.GradientTransformation
) -> Callable[[State, Examples], tuple[State, Metrics]]:
    """Return `train_step(state, batch)`.

    The batch's images are uint8 `[B, H, W, C]`; where config.transfer.mode is "stored", the activations of the last
    frozen stage, `[B, ...]`.
    """
    frozen_part, (graph, _, _) = describe_parts(config)
    stored = config.transfer.mode == "stored"

    def see(images: jax.Array, frozen: PyTree) -> jax.Array:
        """Return what the part that learns is shown. No derivative is asked of what happens here, so none is made."""
        if stored or frozen_part is None:
            return images
        return nnx.merge(frozen_part[0], frozen["params"], frozen["stats"])(images)

    def loss_of(
        params: PyTree, stats: PyTree, frozen: PyTree, images: jax.Array, targets: jax.Array, key: jax.Array
    ) -> Any:
        network = nnx.merge(graph, params, stats)
        logits = network(see(images, frozen), key=key).astype(jnp.float32)  # [B, classes]
        loss = network.cross_entropy(logits, targets).mean()
        correct = jnp.sum(logits.argmax(-1) == targets.argmax(-1))
        return loss, (correct, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)))

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def gradients(state: State, images: jax.Array, targets: jax.Array, key: jax.Array) -> Any:
        params, stats, frozen, parts = state.params, state.stats, state.frozen, config.train.accumulate
        if parts == 1:
            return gradient_of(params, stats, frozen, images, targets, key)

        def add_part(sums: Any, part: Any) -> Any:
            (loss, (correct, stats)), grads = sums
            images, targets, key = part
            (part_loss, (part_correct, stats)), part_grads = gradient_of(params, stats, frozen, images, targets, key)
            return ((loss + part_loss, (correct + part_correct, stats)), jax.tree.map(jnp.add, grads, part_grads)), None

        # Each part takes every parts-th image, so that it lies on all the devices that share the batch.
        split = [x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for x in (images, targets)]
        zeros = jax.tree.map(jnp.zeros_like, params)
        start = ((jnp.zeros(()), (jnp.zeros((), jnp.int32), stats)), zeros)
        sums, _ = jax.lax.scan(add_part, start, (*split, jax.random.split(key, parts)))
        (loss, (correct, stats)), grads = sums
        return (loss / parts, (correct, stats)), jax.tree.map(lambda grad: grad / parts, grads)

    def train_step(state: State, batch: Examples) -> tuple[State, Metrics]:
        # Everything random in a step follows from the seed and the step's number: resuming needs no generator.
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        augment_key, network_key = jax.random.split(key)
        images, labels = jnp.asarray(batch.images), jnp.asarray(batch.labels)  # [B, H, W, C], [B]
        targets = jax.nn.one_hot(labels, config.dataset.classes)
        if config.train.label_smoothing:
            targets = optax.smooth_labels(targets, config.train.label_smoothing)
        if stored:
            images = images.astype(jnp.float32)
        else:
            images = augment(augment_key, images, config.augment, config.dataset)
            if config.augment.mixup or config.augment.cutmix:
                mix_key = jax.random.fold_in(augment_key, 1)
                images, targets = mix(mix_key, images, targets, config.augment.mixup, config.augment.cutmix)
            images = normalise(images, config.dataset)
        (loss, (correct, stats)), grads = gradients(state, images, targets, network_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.train.ema:
            # A short memory at first, so that the random beginning is forgotten: TensorFlow's `num_updates` rule.
            decay = jnp.minimum(config.train.ema, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        return State(state.step + 1, state.seed, params, stats, state.frozen, ema, optimizer_state), Metrics(
            loss, correct
        )

    return train_step
