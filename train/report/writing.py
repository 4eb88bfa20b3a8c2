"""The report's files, in a run folder: report.html, and in report/ its figures and lists."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from train.data.roles import Dataset
from train.lecture import drawing as to_scale
from train.lecture import summary
from train.network import Described
from train.pages import drawing
from train.pages.page import encoded as encode
from train.report import calibration, confusion, curves, duplicates, inside, mistakes, neighbourhood, page
from train.report.files import FIGURES, PAGE, named
from train.report.findings import Findings, OfTest, find
from train.run import RunFolder, to_json
from train.whole import write_whole

# Everything that may stand in the folder of figures; what an earlier report has left there and this one has not, goes.
_FIGURES = (
    *("calibration", "confusion", "curves", "duplicates", "filters"),
    *("mistakes", "network", "neighbourhood", "stages"),
)


def write(run: RunFolder, described: Described, data: Dataset, mesh: Mesh) -> list[str]:
    """Write the report of a finished run, and return what it says in a few lines.

    In `report/` there are confusion, mistakes, duplicates and calibration as `.json`, and every figure of the page as
    `.png`; the page comes last. Each file appears whole. A picture that would be empty is not written, and one of an
    earlier report goes.

    Args:
      run: the folder.
      described: the network as (graph, parameters, batch statistics).
      data: that it was trained on. Of stored activations, what takes images is left out.
      mesh: of devices.

    Raises:
      UserError: a photo cannot be read or decoded any more, or a file cannot be written.
    """
    found = find(run, described, data, mesh)
    folder = run.path / FIGURES
    drawn = _draw(found)
    pictures = {name: figure.light for name, figure in drawn.items()}
    lists: dict[str, dict[str, Any]] = {}
    lines = [f"{run.config.dataset.source} is not there: the report is without images"]
    if found.of_test is not None:
        lists = _lists(found.of_test, found.class_names)
        pictures |= _sheets(found.of_test, found.class_names)
        lines = [*_of_mistakes(found.of_test, folder), *_of_duplicates(found.of_test, lists, folder)]
    network = _network(run, described)
    pictures["network"] = to_scale.draw(network, "png")
    html = page.build(found, drawn, to_scale.draw(network, "svg"))
    files = {f"{name}.png": picture for name, picture in pictures.items()}
    files |= {f"{name}.json": to_json(content).encode() for name, content in lists.items()}
    with named(folder):
        folder.mkdir(exist_ok=True)
    for name in (f"{name}{kind}" for name in _FIGURES for kind in (".png", ".json")):
        with named(folder / name):
            if name in files:
                write_whole(folder / name, files[name])
            else:
                (folder / name).unlink(missing_ok=True)
    with named(run.path / PAGE):
        write_whole(run.path / PAGE, encode(html))
    return [*lines, f"report: {run.path / PAGE}"]


def _draw(found: Findings) -> dict[str, drawing.Drawn]:
    best = (found.run.result or {}).get("best_step")
    epochs = {line["step"]: line["epoch"] for line in found.records}
    drawn = {"filters": drawing.both(lambda new: inside.draw_filters(found.filters, new))}
    if found.records:
        drawn["curves"] = drawing.both(lambda new: curves.draw(found.records, epochs.get(best), new))
    if (of := found.of_test) is not None:
        drawn["confusion"] = drawing.both(lambda new: confusion.draw(of.confusion, new))
        drawn["calibration"] = drawing.both(lambda new: calibration.draw(of.calibration, new))
        drawn["stages"] = drawing.both(lambda new: inside.draw_maps(of.seen.image, of.seen.stages, new))
        if (around := of.neighbourhood) is not None:
            drawn["neighbourhood"] = drawing.both(lambda new: neighbourhood.draw(around, found.class_names, new))
    return drawn


def _network(run: RunFolder, described: Described) -> dict[str, Any]:
    """Return the network as `train/lecture/drawing.py` wants it."""
    config = run.config
    made_of = {"model": config.model.name, "variant": config.model.variant}
    made_of |= {name: config.dataset[name] for name in ("image_size", "channels", "classes")}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), described[1:])
    built = nnx.merge(described[0], *shapes)
    return summary.describe(built, made_of, config.train.batch_size, 0)


def _lists(of: OfTest, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    lists = {
        "confusion": confusion.as_json(of.confusion),
        "mistakes": mistakes.as_json(of.mistakes, of.answers, of.ids, names),
        "calibration": calibration.as_json(of.calibration),
    }
    if of.duplicates is not None:
        lists["duplicates"] = duplicates.as_json(of.duplicates, of.train_ids, of.ids, names, of.answers.right)
    return lists


def _sheets(of: OfTest, names: tuple[str, ...]) -> dict[str, bytes]:
    sheets: dict[str, bytes] = {}
    if of.mistakes:
        sheets["mistakes"] = mistakes.draw(of.mistakes, of.images, of.ids, names)
    if of.duplicates is not None and of.duplicates.pairs:
        sheets["duplicates"] = duplicates.draw(of.duplicates, of.train, of.images, of.train_ids, of.ids, names)
    return sheets


def _of_mistakes(of: OfTest, folder: Path) -> list[str]:
    images, wrong = of.images.total, len(of.mistakes)
    if not wrong:
        return [f"no mistake among {images:,} test images; {folder / 'confusion.png'}"]
    label, taken_for, count = of.confusion.pairs()[0]
    names = of.confusion.class_names
    of_label = int(of.confusion.counts[label].sum())
    return [
        f"{wrong:,} mistakes among {images:,} test images: {folder / 'mistakes.png'}; most often {names[label]!r} is "
        f"taken for {names[taken_for]!r} ({count:,} of {of_label:,}): {folder / 'confusion.png'}"
    ]


def _of_duplicates(of: OfTest, lists: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    found = of.duplicates
    if found is None:
        return [f"whether test images were in training too was not looked for among {of.train.total:,}"]
    lines, listed = [], lists["duplicates"]
    if found.bound is None:
        lines.append(
            f"images of different classes are so much alike here ({found.neighbours:.2f}; photos 0.2 to 0.4) that near "
            "duplicates cannot be told from others: only exact ones were looked for"
        )
    if not found.pairs:
        return [*lines, "no test image was found among the training images"]
    exact = len(np.unique([pair.test for pair in found.pairs if pair.kind == "exact"]))
    differ = len(np.unique([pair.test for pair in found.pairs if pair.test_label != pair.train_label]))
    without = listed["accuracy_without"]
    labels = f", {differ:,} with another label" if differ else ""
    lines.append(
        f"{listed['concerned']:,} of {listed['test_images']:,} test images were in training too ({exact:,} exactly, "
        f"{listed['concerned'] - exact:,} nearly{labels}), which flatters the test: {listed['accuracy']:.2%} with them"
        + (f", {without:.2%} without" if without is not None else "; there are no others")
        + f"; take them out of one of the two: {folder / 'duplicates.json'}, {folder / 'duplicates.png'}"
    )
    return lines
