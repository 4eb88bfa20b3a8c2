"""Put finished runs side by side: a table of their figures, and a picture of their curves.

    python -m scripts.compare --runs=runs/a,runs/b --output=accuracy.png
    python -m scripts.compare --runs=runs/a,runs/b --plot=shift --shift=8 --output=shift.png

--plot=shift moves the test images by 0, 1, ... pixels in four directions, and shows the mean accuracy.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.compare")

import json
import os

from absl import flags
from rich.box import SIMPLE
from rich.table import Table

from scripts import command, outputs
from train import side_by_side
from train.terminal import console, printable

_RUNS = flags.DEFINE_list("runs", [], "Run folders, with commas between them.")
_PLOT = flags.DEFINE_enum("plot", "accuracy", list(side_by_side.PLOTS), "The curves.")
_SHIFT = flags.DEFINE_integer("shift", 8, "--plot=shift: the largest shift, in pixels.", lower_bound=0)
_JSON = flags.DEFINE_boolean("json", False, "Print JSON instead of a table.")
_OUTPUT = flags.DEFINE_string("output", None, "Draw the curves into this PNG or SVG file.")


def main() -> None:
    """Read, compute, print, draw."""
    path = outputs.picture(_OUTPUT.value) if _OUTPUT.value else None
    runs = side_by_side.open_runs(_RUNS.value)
    curves = [side_by_side.curve(run, _PLOT.value, _SHIFT.value) for run in runs]
    rows = [side_by_side.figures(run) | {"curve": curve} for run, curve in zip(runs, curves, strict=True)]
    if _JSON.value:
        print(json.dumps({"plot": _PLOT.value, "runs": rows}))
    else:
        table = Table(box=SIMPLE)
        shifts = range(_SHIFT.value + 1) if _PLOT.value == "shift" else ()
        for column in (
            "run",
            "network",
            "parameters",
            "test",
            "loss",
            "seconds",
            *(f"{pixels} px" for pixels in shifts),
        ):
            table.add_column(column, justify="left" if column in ("run", "network") else "right")
        for row in rows:
            cells = [printable(row["run"]), row["network"], f"{row['parameters']:,}", f"{row['accuracy']:.2%}"]
            moved = [f"{value:.1%}" for _, value in row["curve"]] if shifts else []
            table.add_row(*cells, f"{row['loss']:.4f}", f"{row['seconds']:.0f}", *moved)
        console(None if os.isatty(1) else 160).print(table)
    if path:
        side_by_side.save(rows, _PLOT.value, path)
        if not _JSON.value:
            print(path)


if __name__ == "__main__":
    command.launch(main)
