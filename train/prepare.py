"""All that must be ready before the first step."""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, network
from train.data.examples import Examples
from train.errors import UserError
from train.network import PyTree
from train.optimizer import make_optimizer, make_schedule
from train.step import State, init_state, make_train_step, seed_of
from train.timetable import Timetable


class Prepared(NamedTuple):
    """What a loop over steps needs.

    Attributes:
      timetable: when what is due.
      schedule: the learning rate by step.
      state: before the first step, on the devices.
      train_step: the compiled step, `(state, batch) -> (state, metrics)`. The state passed to it is donated: only the
        one it returns may be used afterwards.
      compile_seconds: how long it took.
    """

    timetable: Timetable
    schedule: optax.Schedule
    state: State
    train_step: jax.stages.Compiled
    compile_seconds: float


def prepare(
    config: ConfigDict,
    images: int,
    mesh: Mesh,
    tuned: bool = True,
    given: PyTree | None = None,
) -> Prepared:
    """Initialise and compile.

    Args:
      config: resolved, and completed by the data.
      images: how many there are to train on.
      mesh: of devices, which share a batch; where the state lies, `devices.of_state` says.
      tuned: see `devices.jit`.
      given: parameters and statistics to begin with; see `step.init_state`.
    """
    timetable = Timetable(config, images)
    schedule = make_schedule(config.schedule, timetable.steps_per_epoch, timetable.total)
    optimizer = make_optimizer(config.optimizer, schedule, network.layer_rates(config))
    everywhere = devices.replicated(mesh)
    given = devices.put(given, everywhere)
    initial = partial(init_state, config, optimizer)
    shapes = jax.eval_shape(initial, seed_of(config), given)
    places = devices.of_state(mesh, shapes, network.dense_layers(config))
    state = jax.jit(initial, out_shardings=places)(seed_of(config), given)

    began = time.perf_counter()
    step = devices.jit(
        make_train_step(config, optimizer),
        config.precision,
        mesh,
        tuned=tuned,
        donate_argnums=0,
        in_shardings=(places, devices.by_batch(mesh)),
        out_shardings=(places, everywhere),
    )
    compiled = step.lower(state, batch_shape(config, config.train.batch_size)).compile()
    compile_seconds = round(time.perf_counter() - began, 3)
    return Prepared(timetable, schedule, state, compiled, compile_seconds)


def batch_shape(config: ConfigDict, size: int) -> Any:
    """Return the shapes and types of a batch of so many images (or their stored activations)."""
    if config.transfer.mode == "stored":
        _, learning = network.describe_parts(config)
        shape, dtype = nnx.merge(*learning).input_shape, jnp.dtype(config.transfer.dtype)
    else:
        side, channels = config.dataset.image_size, config.dataset.channels
        shape, dtype = (side, side, channels), jnp.dtype(jnp.uint8)
    images = jax.ShapeDtypeStruct((size, *shape), dtype)
    return Examples(images, jax.ShapeDtypeStruct((size,), jnp.int32))  # type: ignore[arg-type]


def check_batch(config: ConfigDict, images: int, mesh: Mesh) -> None:
    """Make sure that a batch can be divided and filled.

    Raises:
      UserError: it cannot.
    """
    if config.train.batch_size % (mesh.size * config.train.accumulate):
        raise UserError(
            f"config.train.batch_size={config.train.batch_size}: must be a multiple of {mesh.size} devices "
            f"(config.mesh) times {config.train.accumulate} parts (config.train.accumulate)"
        )
    if config.train.batch_size > images:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size}: there are {images} images "
            "to train on; take at most as many"
        )
