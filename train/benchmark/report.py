"""Rows of a benchmark as text."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from train.terminal import console


def own_row(row: dict[str, Any], unit: str) -> str:
    """Return the lines of a row of own.py, accuracy.py or input.py."""
    lines = []
    for prefix in ("", *(["cached_"] if "cached_spread" in row else []), "peer_"):
        low, high = row[f"{prefix}spread"]
        figure = f"{row[prefix + unit]:9,.1f} {unit.replace('_', ' ')}  ({low:,.1f} to {high:,.1f})"
        if f"{prefix}accuracy" in row:
            figure += f"; accuracy {row[f'{prefix}accuracy']:.2%}"
        lines.append(f"{row['suite']:9} {row[prefix + 'setting']:25} {figure}")
    return "\n".join([*lines, f"{row['suite']:9} {'ratio':25} {row['ratio']:9.2f}"])


def one_line(row: dict[str, Any]) -> str:
    """Return a row of compare.py as soon as it is known."""
    line = f"{row['suite']} {row['model']} {row['precision']}: {_figure(row['images_per_second'])} images/s"
    if row["peer"]:
        line += f"; {row['peer']} ({row['peer_setting']}) {_figure(row['peer_images_per_second'])}"
        line += f"; ratio {row['ratio']:.2f}"
    if "logits_error" in row:
        line += f"; same weights: logits differ by {row['logits_error']:.1e}, gradients by {row['gradient_error']:.1e}"
    return line


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of compare.py."""
    table = Table(caption="images/s: medians (minimum to maximum); limit: of the rate of matrix products")
    for heading in (
        "suite",
        "network",
        "precision",
        "side",
        "images/s",
        "ratio",
        "limit",
        "compile",
        "first step",
        "memory",
    ):
        table.add_column(heading, justify="left" if heading in ("suite", "network", "precision", "side") else "right")
    for row in rows:
        for prefix in ("", "peer_") if row["peer"] else ("",):
            low, high = row[f"{prefix}spread"]
            table.add_row(
                *([row["suite"], row["model"], row["precision"]] if not prefix else [""] * 3),
                "oldmasters" if not prefix else f"{row['peer']}, {row['peer_setting']}",
                f"{_figure(row[f'{prefix}images_per_second'])} ({_figure(low)} to {_figure(high)})",
                f"{row['ratio']:.2f}" if row["peer"] and not prefix else "",
                f"{row[f'{prefix}fraction_of_limit']:.0%}",
                f"{row[f'{prefix}compile_seconds']:.1f} s",
                f"{row[f'{prefix}first_step_seconds']:.1f} s",
                f"{row[f'{prefix}peak_bytes'] / 2**20:,.0f} MiB",
            )
    console(None if console().is_terminal else 150).print(table)


def _figure(images_per_second: float) -> str:
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"
