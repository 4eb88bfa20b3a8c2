"""What came of a sweep, as a table on the terminal."""

import os
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from train.sweep.trials import as_text, short_names
from train.terminal import console, printable

# Rows that a terminal shows; the page and the file have all.
_ROWS = 20


def show(found: dict[str, Any]) -> None:
    """Print the groups of what `figures.collect` returns, the best first."""
    short = short_names([key for key in found["keys"] if key != "seed"])
    seeds = "seed" in found["keys"]
    table = Table(box=SIMPLE, caption=f"by {found['chosen_by']} accuracy" + "; 95 % intervals over seeds" * seeds)
    for name in short.values():
        table.add_column(name, justify="right")
    for name in (*(["seeds"] if seeds else []), "validation", "test", ""):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    by_name = {run["name"]: run for run in found["runs"]}
    for row in found["groups"][:_ROWS]:
        cells = [printable(as_text(row["values"][key])) for key in short]
        if seeds:
            cells.append(f"{row['finished']}" + f" of {len(row['runs'])}" * (row["finished"] < len(row["runs"])))
        table.add_row(
            *cells, accuracy(row["validation"]), accuracy(row["test"]), _note([by_name[name] for name in row["runs"]])
        )
    console(None if os.isatty(1) else 120).print(table)
    if (more := len(found["groups"]) - _ROWS) > 0:
        print(f"and {more} more")


def _note(runs: Sequence[dict[str, Any]]) -> str:
    """Say what runs of a group are not finished; of a single one, how good it was."""
    others = [run["status"] for run in runs if run["status"] != "finished"]
    if len(runs) == 1 and others and runs[0]["validation"]:
        return f"{others[0]} at step {runs[0]['step']:,}, validation {runs[0]['validation']['accuracy']:.2%}"
    return printable(
        ", ".join(f"{others.count(kind)} {kind}" if len(runs) > 1 else kind for kind in dict.fromkeys(others))
    )


def accuracy(figure: dict[str, Any] | None) -> str:
    """Return a mean, and the ends of its interval where there is one, in per cent."""
    if figure is None:
        return "-"
    if figure["interval"] is None:
        return f"{100 * figure['mean']:.2f} %"
    low, high = figure["interval"]
    return f"{100 * figure['mean']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"
