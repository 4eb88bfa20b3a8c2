"""Passes over all images, beside their program alone on one batch that lies on the device; on random weights."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from train import devices, network, settings
from train.benchmark.bare_step import Measurement
from train.data import dataset
from train.data.roles import Dataset
from train.data.transforms import normalise
from train.evaluate import make_eval_step, make_evaluator
from train.features.extraction import extract
from train.feed import batches_in_order

# A program is repeated for at least so many seconds.
_SECONDS = 3.0


def evaluation(config: ConfigDict) -> dict[str, Measurement]:
    """Return an evaluation of all training images, and its step on one resident batch."""
    config, data, described = built(config)
    mesh = devices.make_mesh(config.mesh.data)
    evaluate = make_evaluator(described[0], config, mesh)
    step = devices.jit(make_eval_step(described[0], config), config.precision, mesh)

    def evaluated() -> float:
        began = time.perf_counter()
        evaluate(*described[1:], data.train)
        return data.train.total / (time.perf_counter() - began)

    batch, counted = _first_batch(config, data)
    params, stats = network.narrowed(described[1], config.precision), described[2]
    return {
        "evaluation": evaluated,
        "its step": _alone(lambda: step(params, stats, batch.images, batch.labels, counted), len(counted)),
    }


def extraction(config: ConfigDict) -> dict[str, Measurement]:
    """Return an extraction of the last hidden stage of all images, and the forward pass to it on one resident batch."""
    config, data, described = built(config)
    last = list(network.layers_by_stage(config))[-2]
    mesh, of_stored = devices.make_mesh(1), in_mode(config, "stored", last)
    images = sum(part.total for part in data.roles().values())
    part = network.split(network.divide(described, last)[0])
    batch, counted = _first_batch(config, data)

    def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(part[0], params, stats)(normalise(images, config.dataset))

    def extracted() -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            extract(described, (last,), of_stored, data, Path(folder, "store"), mesh)
            return images / (time.perf_counter() - began)

    compiled = devices.jit(forward, config.precision, mesh)
    params = network.narrowed(part[1], config.precision)
    return {
        f"extraction of {last}": extracted,
        "inference": _alone(lambda: compiled(params, part[2], batch.images), len(counted)),
    }


def _first_batch(config: ConfigDict, data: Dataset) -> Any:
    """Return (examples, which of them count) on the devices."""
    mesh = devices.make_mesh(config.mesh.data)
    return next(iter(batches_in_order(data.train, config, mesh, min(config.evaluate.batch_size, data.train.total))))


def _alone(program: Callable[[], Any], images: int) -> Measurement:
    """Return a measurement of a program's images/s, each call waiting for the one before it."""

    def measure() -> float:
        jax.block_until_ready(program())
        taken, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            jax.block_until_ready(program())
            taken += 1
        return taken * images / (time.perf_counter() - began)

    return measure


def built(config: ConfigDict) -> tuple[ConfigDict, Dataset, network.Described]:
    """Return a completed config, its data, and a network with random weights."""
    config = config.copy_and_resolve_references()
    config.transfer.update(mode="scratch", weights=None, frozen_until=None, layer_decay=1.0, store=None)
    settings.resolve(config)
    data = dataset.load(config.dataset)
    graph, _, _ = network.describe(config)
    params, stats = jax.jit(lambda: network.build(config, jax.random.key(config.seed))[1:])()
    return config, data, (graph, params, stats)


def in_mode(config: ConfigDict, mode: str, last: str | None) -> ConfigDict:
    """Return the config of a transfer from random weights, frozen up to the stage `last`."""
    config = config.copy_and_resolve_references()
    config.transfer.update(mode=mode, weights="random", frozen_until=last, views=0)
    if mode == "stored":
        config.augment.update({key: type(value)() for key, value in config.augment.items()})
    return config


SUITES: dict[str, Callable[[ConfigDict], dict[str, Measurement]]] = {
    "evaluation": evaluation,
    "extraction": extraction,
}
