"""One step: augment, normalise, gradient, update. Plain functions over pytrees, jitted once by the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from train.data.examples import Examples
from train.data.transforms import augment, normalise
from train.network import PyTree, build


class State(NamedTuple):
    """All that a step changes.

    Attributes:
      step: how many steps have been taken, int32.
      params: parameters, float32.
      stats: batch statistics.
      ema: moving average of the parameters; empty where config.train.ema is 0.
      optimizer: optax's state.
    """

    step: jax.Array
    params: PyTree
    stats: PyTree
    ema: PyTree
    optimizer: PyTree


class Metrics(NamedTuple):
    """Of one batch: mean loss, and how many images are classified rightly."""

    loss: jax.Array
    correct: jax.Array


def init_state(config: ConfigDict, optimizer: optax.GradientTransformation) -> State:
    """Return the state before the first step; the initial parameters come from config.seed."""
    _, params, stats = build(config, jax.random.key(config.seed))
    ema = jax.tree.map(jnp.copy, params) if config.train.ema else {}
    return State(jnp.zeros((), jnp.int32), params, stats, ema, optimizer.init(params))


def make_train_step(
    graph: nnx.GraphDef, optimizer: optax.GradientTransformation, config: ConfigDict
) -> Callable[[State, Examples], tuple[State, Metrics]]:
    """Return `train_step(state, batch)`; the batch's images are uint8 `[B, H, W, C]`."""

    def loss_of(params: PyTree, stats: PyTree, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        network = nnx.merge(graph, params, stats)
        logits = network(images, key=key).astype(jnp.float32)  # [B, classes]
        targets = jax.nn.one_hot(labels, config.dataset.classes)
        if config.train.label_smoothing:
            targets = optax.smooth_labels(targets, config.train.label_smoothing)
        loss = network.cross_entropy(logits, targets).mean()
        correct = jnp.sum(logits.argmax(-1) == labels)
        return loss, (correct, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)))

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def gradients(params: PyTree, stats: PyTree, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        parts = config.train.accumulate
        if parts == 1:
            return gradient_of(params, stats, images, labels, key)

        def add_part(sums: Any, part: Any) -> Any:
            (loss, (correct, stats)), grads = sums
            images, labels, key = part
            (part_loss, (part_correct, stats)), part_grads = gradient_of(params, stats, images, labels, key)
            return ((loss + part_loss, (correct + part_correct, stats)), jax.tree.map(jnp.add, grads, part_grads)), None

        # Each part takes every parts-th image, so that it lies on all the devices that share the batch.
        split = [x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) for x in (images, labels)]
        zeros = jax.tree.map(jnp.zeros_like, params)
        start = ((jnp.zeros(()), (jnp.zeros((), jnp.int32), stats)), zeros)
        sums, _ = jax.lax.scan(add_part, start, (*split, jax.random.split(key, parts)))
        (loss, (correct, stats)), grads = sums
        return (loss / parts, (correct, stats)), jax.tree.map(lambda grad: grad / parts, grads)

    def train_step(state: State, batch: Examples) -> tuple[State, Metrics]:
        # Everything random in a step follows from the seed and the step's number: resuming needs no generator.
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, network_key = jax.random.split(key)
        images = augment(augment_key, jnp.asarray(batch.images), config.augment, config.dataset)  # [B, H, W, C]
        images = normalise(images, config.dataset)
        labels = jnp.asarray(batch.labels)  # [B]
        (loss, (correct, stats)), grads = gradients(state.params, state.stats, images, labels, network_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if config.train.ema:
            # A short memory at first, so that the random beginning is forgotten: TensorFlow's `num_updates` rule.
            decay = jnp.minimum(config.train.ema, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        return State(state.step + 1, params, stats, ema, optimizer_state), Metrics(loss, correct)

    return train_step
