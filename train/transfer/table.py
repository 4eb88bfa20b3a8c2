"""Before training: what begins with weights, and what learns."""

from collections.abc import Collection

from ml_collections import ConfigDict
from rich.table import Table

from train import network
from train.terminal import console


def describe(config: ConfigDict, given: Collection[str]) -> list[tuple[str, int, str, str]]:
    """Return for each stage with parameters its name, their number, where they come from, and how they learn.

    Args:
      config: complete.
      given: the layers that the run begins with.
    """
    _, params, _ = network.describe(config)
    frozen_part, _ = network.describe_parts(config)
    rates = network.layer_rates(config)
    rows = []
    for stage, layers in network.layers_by_stage(config).items():
        if not layers:
            continue
        learns = "learns" if rates is None else f"learns at {rates[layers[0]]:.3g} of the rate"
        if frozen_part is not None and layers[0] in frozen_part[1]:
            learns = "frozen"
        number = sum(network.count_parameters(params[layer]) for layer in layers)
        rows.append((stage, number, "weights" if layers[0] in given else "new", learns))
    return rows


def show(rows: list[tuple[str, int, str, str]]) -> None:
    """Print what `describe` has returned."""
    table = Table(box=None)
    for heading in ("stage", "parameters", "begins with", "then"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left")
    for stage, number, origin, learns in rows:
        table.add_row(stage, f"{number:,}", origin, learns)
    frozen = sum(number for _, number, _, learns in rows if learns == "frozen")
    console(None if console().is_terminal else 100).print(table)
    print(f"{sum(row[1] for row in rows) - frozen:,} parameters learn, {frozen:,} are frozen", flush=True)
