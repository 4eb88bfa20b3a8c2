"""All that must be ready before the first step."""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, network
from train.data.examples import Examples
from train.optimizer import make_optimizer, make_schedule
from train.step import State, init_state, make_train_step
from train.timetable import Timetable


class Prepared(NamedTuple):
    """What a loop over steps needs.

    Attributes:
      graph: the network's structure.
      timetable: when what is due.
      schedule: the learning rate by step.
      state: before the first step, on every device.
      examples: what is trained on, on every device.
      train_step: the compiled step, `(state, examples, indices) -> (state, metrics)`. The state passed to it is
        donated: only the one it returns may be used afterwards.
      compile_seconds: how long it took.
    """

    graph: nnx.GraphDef
    timetable: Timetable
    schedule: optax.Schedule
    state: State
    examples: Examples
    train_step: jax.stages.Compiled
    compile_seconds: float


def prepare(
    config: ConfigDict, train_set: Examples, mesh: Mesh, compiler_options: dict[str, str] | None = None
) -> Prepared:
    """Initialise and compile.

    Args:
      config: resolved, and completed by the data.
      train_set: what is trained on.
      mesh: of devices; state and examples are replicated, a batch is shared.
      compiler_options: for XLA; by default those of `devices.compiler_options`.
    """
    graph, _, _ = network.describe(config)
    timetable = Timetable(config, len(train_set.labels))
    schedule = make_schedule(config.schedule, timetable.steps_per_epoch, timetable.total)
    optimizer = make_optimizer(config.optimizer, schedule)
    everywhere = devices.replicated(mesh)
    state = jax.jit(partial(init_state, config, optimizer), out_shardings=everywhere)()
    examples = jax.device_put(train_set, everywhere)

    began = time.perf_counter()
    step = jax.jit(
        make_train_step(graph, optimizer, config),
        donate_argnums=0,
        in_shardings=(everywhere, everywhere, devices.by_batch(mesh)),
        out_shardings=everywhere,
        compiler_options=devices.compiler_options(config.precision) if compiler_options is None else compiler_options,
    )
    indices = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
    compiled = step.lower(state, examples, indices).compile()
    compile_seconds = round(time.perf_counter() - began, 3)
    return Prepared(graph, timetable, schedule, state, examples, compiled, compile_seconds)
