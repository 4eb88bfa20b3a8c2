"""Finished runs beside each other: their figures, their curves, and how they bear images that have moved."""

import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from models import full_name
from train import devices
from train.checkpoints import load_network
from train.data import dataset
from train.data.transforms import move, normalise
from train.errors import UserError
from train.evaluate import make_evaluator
from train.pages.drawing import as_file
from train.records import METRICS, read_metrics
from train.run import RunFolder
from train.whole import write_whole

PLOTS = {
    "accuracy": "accuracy on validation images",
    "loss": "loss in training",
    "shift": "accuracy on test images that have moved",
}
# Down, up, to the right, to the left.
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def open_runs(paths: list[str]) -> list[RunFolder]:
    """Return finished runs.

    Raises:
      UserError: there is none, or one is no run or not finished.
    """
    if not paths:
        raise UserError("--runs=FOLDER,FOLDER is missing: run folders that scripts.train has made")
    runs = [RunFolder(Path(path).expanduser()) for path in paths]
    for run in runs:
        if run.result is None:
            raise UserError(f"{run.path}: is not finished; run its command again")
    return runs


def figures(run: RunFolder) -> dict[str, Any]:
    """Return what result.json says of a run, and of what network."""
    assert run.result is not None
    model, test = run.config.model, run.result["test"]
    return {
        "run": str(run.path),
        "network": full_name(model.name, model.variant),
        "parameters": run.result["parameters"],
        "accuracy": test["accuracy"],
        "loss": test["loss"],
        "seconds": run.result["seconds"],
    }


def curve(run: RunFolder, plot: str, largest: int) -> list[tuple[float, float]]:
    """Return the points of a plot: of `PLOTS`, by epoch, or by pixels from 0 to the largest shift.

    Raises:
      UserError: the run has no such figures.
    """
    if plot == "shift":
        return list(enumerate(under_shift(run, largest)))
    split, key = ("validation", "accuracy") if plot == "accuracy" else ("train", "loss")
    points = [(line["epoch"], line[key]) for line in read_metrics(run.path / METRICS) if line["split"] == split]
    if not points:
        raise UserError(f"{run.path}: has no {split} images to show the {plot} of; try --plot=loss or --plot=shift")
    return points


def under_shift(run: RunFolder, largest: int) -> list[float]:
    """Return the accuracy on the run's own test images, moved by 0, 1, ... pixels: means of the four directions.

    Raises:
      UserError: the shift leaves nothing of the images, or the data are not where they were.
    """
    size = run.config.dataset.image_size
    if largest >= size:
        raise UserError(f"--shift={largest}: must be below {size}, the side of {run.path}'s images")
    source, fingerprint = run.config.dataset.source, run.environment["data"]["fingerprint"]
    images = dataset.load_test(run.config.dataset, source, fingerprint).images
    mesh = devices.make_mesh(None)
    graph, params, stats = load_network(run, mesh)
    means = []
    for pixels in range(largest + 1):
        accuracies = []
        for rows, columns in _DIRECTIONS if pixels else _DIRECTIONS[:1]:
            see = partial(_moved, config=run.config.dataset, rows=rows * pixels, columns=columns * pixels)
            accuracies.append(make_evaluator(graph, run.config, mesh, see)(params, stats, images)["accuracy"])
        means.append(statistics.mean(accuracies))
    return means


def _moved(images: jax.Array, config: ConfigDict, rows: int, columns: int) -> jax.Array:
    return normalise(move(images, rows, columns), config)


def save(rows: list[dict[str, Any]], plot: str, path: Path) -> None:
    """Draw the curves of rows, which have `run` and `curve`, into a PNG or SVG file."""
    from matplotlib.figure import Figure  # 0.7 s to import, wanted here alone

    # What the folders' names have in common says nothing.
    folders = [Path(row["run"]).absolute() for row in rows]
    common = os.path.commonpath([folder.parent for folder in folders])
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    for folder, row in zip(folders, rows, strict=True):
        label = f"{folder.relative_to(common)} ({row['network']})"
        marker = "o" if len(row["curve"]) < 40 else None
        axis.plot(*zip(*row["curve"], strict=True), label=label, marker=marker, markersize=4)
    axis.set(xlabel="shift in pixels" if plot == "shift" else "epoch", ylabel=PLOTS[plot])
    axis.grid(alpha=0.3)
    axis.legend()
    write_whole(path, as_file(figure, path.suffix[1:].lower()))
