"""What freezing and storing save, measured on random weights: a step costs the same whatever the numbers are."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from train import devices, network
from train.benchmark.bare_step import Measurement, bare_step
from train.benchmark.passes import built, in_mode
from train.data.roles import of_store
from train.errors import UserError
from train.features.extraction import extract


def frozen(config: ConfigDict) -> dict[str, Measurement]:
    """Return the step with all convolutions frozen, and the step of fine-tuning."""
    config, data, _ = built(config)
    behind = _last_convolution(config)
    return {
        f"frozen to {behind}": bare_step(in_mode(config, "frozen", behind), data.train),
        "finetune": bare_step(in_mode(config, "finetune", None), data.train),
    }


def stored(config: ConfigDict) -> dict[str, Measurement]:
    """Return training on stored activations of the last hidden stage, and with the same stages frozen."""
    config, data, described = built(config)
    last = list(network.layers_by_stage(config))[-2]
    of_stored = in_mode(config, "stored", last)
    with tempfile.TemporaryDirectory() as folder:  # what is mapped into memory outlives it
        store = extract(described, (last,), of_stored, data, Path(folder, "store"), devices.make_mesh(1))
        train_set = of_store(store, last).train
    return {
        f"stored {last}": bare_step(of_stored, train_set),
        f"frozen to {last}": bare_step(in_mode(config, "frozen", last), data.train),
    }


def _last_convolution(config: ConfigDict) -> str:
    """Return the stage before the first dense layer."""
    names = list(network.layers_by_stage(config))
    dense = next((names.index(name) for name in ("fc6", "C5") if name in names), 0)
    if not dense:
        raise UserError(
            f"config.model.name={config.model.name}: has no convolutions with dense layers behind them; try alexnet"
        )
    return names[dense - 1]


SUITES: dict[str, Callable[[ConfigDict], dict[str, Measurement]]] = {
    "frozen": frozen,
    "stored": stored,
}
