"""Figures of an evaluation, as people read them."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from train.protocols import published
from train.run import RunFolder
from train.terminal import console, printable


def show(figures: dict[str, Any], classes: int) -> None:
    """Print figures of `of_runs.figures_of`, and so many of their classes."""
    for name, value in figures.items():
        if name not in ("classes", "severity"):
            print(printable(f"{name:14} {_written(value)}"))
    if severity := figures.get("severity"):
        _show_severity(severity)
    if figures["split"] == "all":
        print("These are all images of the source: if the network has seen some in training, the figures flatter it.")
    if classes:
        table = _table("class", "images", "top-1", "top-5")
        for row in figures["classes"][:classes]:
            table.add_row(
                printable(row["class"]), f"{row['count']:,}", f"{row['accuracy']:.1%}", f"{row['top5_accuracy']:.1%}"
            )
        console().print(table)


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _show_severity(severity: dict[str, Any]) -> None:
    if not severity["mistakes"]:
        return
    print(
        f"{'mistakes':14} {severity['mistakes']:,}, on average {severity['mean_height']:.2f} steps of WordNet under "
        f"what label and answer have in common (the most: {severity['highest']})"
    )
    for row in severity["common"]:
        share = row["mistakes"] / severity["mistakes"]
        print(f"{'':14} {share:6.1%} under {row['concept']!r}, {row['height']} steps up")


def compare(figures: dict[str, Any], runs: Sequence[RunFolder], protocols: Sequence[str]) -> None:
    """Print published figures of the same network on the same data, with ours beside those of the same protocol."""
    run = runs[0]
    rows = published.figures(run.config, run.environment["data"])
    if not rows:
        print("published: nothing known of this network on this data (train/protocols/published.py has what is)")
        return
    table = _table("published", "top-1", "top-5", "ours", "top-5", "source", left=(0, 5))
    for row in rows:
        ours = ["", ""]
        if published.is_like(row, run.config, protocols, len(runs)):
            ours = [f"{figures[name]:.1%}" for name in ("accuracy", "top5_accuracy")]
        top5 = "" if row.top5 is None else f"{row.top5:.1%}"
        table.add_row(row.what, f"{row.accuracy:.1%}", top5, *ours, row.source)
    console().print(table)


def _table(*headings: str, left: Sequence[int] = (0,)) -> Table:
    table = Table(box=SIMPLE)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place in left else "right")
    return table
