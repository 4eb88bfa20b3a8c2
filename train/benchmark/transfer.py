"""What freezing and storing save, measured on random weights: a step costs the same whatever the numbers are."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from train import devices, network, settings
from train.benchmark.bare_step import Measurement, bare_step
from train.data import dataset
from train.data.roles import Dataset, of_store
from train.data.transforms import normalise
from train.errors import UserError
from train.features.extraction import extract
from train.feed import batches_in_order

# An inference is repeated for at least so many seconds.
_SECONDS = 3.0


def frozen(config: ConfigDict) -> dict[str, Measurement]:
    """Return the step with all convolutions frozen, and the step of fine-tuning."""
    config, data, _ = _built(config)
    behind = _last_convolution(config)
    return {
        f"frozen to {behind}": bare_step(_in_mode(config, "frozen", behind), data.train),
        "finetune": bare_step(_in_mode(config, "finetune", None), data.train),
    }


def stored(config: ConfigDict) -> dict[str, Measurement]:
    """Return training on stored activations of the last hidden stage, and with the same stages frozen."""
    config, data, described = _built(config)
    last = list(network.layers_by_stage(config))[-2]
    of_stored = _in_mode(config, "stored", last)
    with tempfile.TemporaryDirectory() as folder:  # what is mapped into memory outlives it
        store = extract(described, (last,), of_stored, data, Path(folder, "store"), devices.make_mesh(1))
        train_set = of_store(store, last).train
    return {
        f"stored {last}": bare_step(of_stored, train_set),
        f"frozen to {last}": bare_step(_in_mode(config, "frozen", last), data.train),
    }


def extraction(config: ConfigDict) -> dict[str, Measurement]:
    """Return an extraction of the last hidden stage of all images, and the forward pass to it on one resident batch."""
    config, data, described = _built(config)
    last = list(network.layers_by_stage(config))[-2]
    mesh, of_stored = devices.make_mesh(1), _in_mode(config, "stored", last)
    images = sum(part.total for part in data.roles().values())
    part = network.split(network.divide(described, last)[0])
    batch, _ = next(iter(batches_in_order(data.train, config, mesh, config.evaluate.batch_size)))

    def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(part[0], params, stats)(normalise(images, config.dataset))

    compiled = devices.jit(forward, config.precision, mesh)

    def extracted() -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            extract(described, (last,), of_stored, data, Path(folder, "store"), mesh)
            return images / (time.perf_counter() - began)

    def infer() -> float:
        jax.block_until_ready(compiled(*part[1:], batch.images))
        taken, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            jax.block_until_ready(compiled(*part[1:], batch.images))
            taken += 1
        return taken * config.evaluate.batch_size / (time.perf_counter() - began)

    return {f"extraction of {last}": extracted, "inference": infer}


def _built(config: ConfigDict) -> tuple[ConfigDict, Dataset, network.Described]:
    """Return a completed config, its data, and a network with random weights."""
    config = config.copy_and_resolve_references()
    config.transfer.update(mode="scratch", weights=None, frozen_until=None, layer_decay=1.0, store=None)
    settings.resolve(config)
    data = dataset.load(config.dataset)
    graph, _, _ = network.describe(config)
    params, stats = jax.jit(lambda: network.build(config, jax.random.key(config.seed))[1:])()
    return config, data, (graph, params, stats)


def _in_mode(config: ConfigDict, mode: str, last: str | None) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.transfer.update(mode=mode, weights="random", frozen_until=last, views=0)
    if mode == "stored":
        config.augment.update({key: type(value)() for key, value in config.augment.items()})
    return config


def _last_convolution(config: ConfigDict) -> str:
    """Return the stage before the first dense layer."""
    names = list(network.layers_by_stage(config))
    dense = next((names.index(name) for name in ("fc6", "C5") if name in names), 0)
    if not dense:
        raise UserError(f"config.model.name={config.model.name}: has no convolutions with dense layers behind them")
    return names[dense - 1]


SUITES: dict[str, Callable[[ConfigDict], dict[str, Measurement]]] = {
    "frozen": frozen,
    "stored": stored,
    "extraction": extraction,
}
