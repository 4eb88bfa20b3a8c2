"""The step of training by itself, as a measurement."""

import itertools
import sys
import time
from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from train import devices, settings
from train.data import dataset
from train.data.roles import Images
from train.feed import training_batches
from train.prepare import prepare

Measurement = Callable[[], float]


def bare_step(
    config: ConfigDict,
    train_set: Images | None = None,
    tuned: bool = True,
    seconds: float = 3.0,
) -> Measurement:
    """Compile the step of training and return a function that measures its images/s.

    It is the step of the loop, with its augmentation and with the host drawing batches; nothing is logged, evaluated
    or saved.

    Args:
      config: the experiment; it is completed in place.
      train_set: what is trained on, where it has been read before; the config is complete then.
      tuned: as training compiles it; False as XLA comes.
      seconds: how long one measurement takes at least.
    """
    settings.resolve(config)
    images = dataset.load(config.dataset).train if train_set is None else train_set
    mesh = devices.make_mesh(config.mesh.data, config.mesh.model)
    prepared = prepare(config, images.total, mesh, tuned)
    state, step = prepared.state, prepared.train_step

    def measure() -> float:
        nonlocal state
        with training_batches(images, config, mesh, 0, sys.maxsize) as batches:
            state, metrics = step(state, next(batches))  # compiles what draws batches, or fills the stream
            jax.block_until_ready(metrics)
            taken, began = 0, time.perf_counter()
            while time.perf_counter() - began < seconds:
                for batch in itertools.islice(batches, config.log.every_steps):
                    state, metrics = step(state, batch)
                    taken += 1
                jax.block_until_ready(metrics)
            return taken * config.train.batch_size / (time.perf_counter() - began)

    return measure
