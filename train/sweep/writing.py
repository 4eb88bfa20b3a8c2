"""The files of a sweep: sweep.json, sweep.html, and its pictures as PNG."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.pages import drawing, page
from train.run import to_json
from train.sweep import drawing as pictures
from train.sweep.folder import Outcome
from train.sweep.table import accuracy
from train.sweep.trials import as_text, short_names
from train.whole import write_whole

JSON, PAGE, PICTURES = "sweep.json", "sweep.html", "sweep"


def write(path: Path, found: dict[str, Any], outcomes: Sequence[Outcome], source: str) -> list[str]:
    """Write what came of a sweep, each file whole, and return a line on each that a person looks at.

    Args:
      path: the folder of the sweep.
      found: see figures.py.
      outcomes: of its runs, in their order.
      source: what the runs are trained on.
    """
    write_whole(path / JSON, to_json(found))
    drawn = {}
    if any(run[found["chosen_by"]] for run in found["runs"]):
        drawn["parallel"] = drawing.both(lambda new: pictures.parallel(found, new))
        drawn["curves"] = drawing.both(lambda new: pictures.curves(found, outcomes, new))
    (path / PICTURES).mkdir(exist_ok=True)
    for name, figure in drawn.items():
        write_whole(path / PICTURES / f"{name}.png", figure.light)
    short = short_names([key for key in found["keys"] if key != "seed"])
    by_name = {run["name"]: run for run in found["runs"]}
    html = page.render(
        "sweep",
        name=path.resolve().name,
        source=source,
        written=time.strftime("%Y-%m-%d %H:%M"),
        found=found,
        short=short,
        seeds="seed" in found["keys"],
        groups=[
            {
                "values": [as_text(row["values"][key]) for key in short],
                "finished": row["finished"],
                "runs": [by_name[name] for name in row["runs"]],
                "validation": accuracy(row["validation"]),
                "test": accuracy(row["test"]),
            }
            for row in found["groups"]
        ],
        figures={name: (page.embedded(figure.light), page.embedded(figure.dark)) for name, figure in drawn.items()},
    )
    write_whole(path / PAGE, page.encoded(html))
    return [f"{path / PAGE}", f"{path / JSON}"]
