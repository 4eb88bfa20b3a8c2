"""The report's files, in a run folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train.data.activations import Activations
from train.data.roles import Dataset
from train.errors import UserError
from train.network import Described
from train.report import confusion, duplicates, mistakes
from train.report.answers import make_answerer
from train.run import to_json, write_whole

# Training images whose features take more bytes than this are compared without them.
_MOST_FEATURES = 2**28


def write(folder: Path, config: ConfigDict, described: Described, data: Dataset, mesh: Mesh) -> list[str]:
    """Write confusion, mistakes and duplicates, each as `.json` and `.png`, and return what they say in a few lines.

    Each file appears whole. A picture that would be empty is not written, and one of an earlier report goes.

    Args:
      folder: the run folder.
      config: the completed config of the run.
      described: the network as (graph, parameters, batch statistics).
      data: images; of stored activations nothing is written.
      mesh: of devices.

    Raises:
      UserError: a photo cannot be read or decoded any more, or a file cannot be written.
    """
    train, test = data.train, data.test
    if isinstance(train, Activations) or isinstance(test, Activations):
        return [f"no report: {config.dataset.source} is not there, and stored activations cannot be looked at"]
    names = tuple(config.dataset.class_names or map(str, range(config.dataset.classes)))
    train_ids, test_ids = data.ids("train"), data.ids("test")

    graph, params, stats = described
    answer = make_answerer(graph, config, mesh)
    answers = answer(params, stats, test)
    counts = confusion.measure(answers, names)
    wrong = mistakes.find(answers)
    features = None
    if train.total * answers.features.shape[1] * answers.features.itemsize <= _MOST_FEATURES:
        features = answer(params, stats, train).features, answers.features
    found = duplicates.find(train, test, features)

    _write(folder / "confusion", confusion.as_json(counts), lambda: confusion.draw(counts))
    _write(
        folder / "mistakes",
        mistakes.as_json(wrong, answers, test_ids, names),
        (lambda: mistakes.draw(wrong, test, test_ids, names)) if wrong else None,
    )
    listed = duplicates.as_json(found, train_ids, test_ids, names, answers.right)
    _write(
        folder / "duplicates",
        listed,
        (lambda: duplicates.draw(found, train, test, train_ids, test_ids, names)) if found.pairs else None,
    )
    return [*_of_mistakes(counts, len(wrong), folder), *_of_duplicates(found, listed, folder)]


def is_written(folder: Path) -> bool:
    """Return whether all of it is there."""
    return (folder / "duplicates.json").is_file()  # the last of its files


def _write(path: Path, content: dict[str, Any], draw: Callable[[], bytes] | None) -> None:
    text = to_json(content)
    picture = draw() if draw is not None else None
    shown = path.with_suffix(".png")
    try:
        if picture is None:
            shown.unlink(missing_ok=True)
        else:
            write_whole(shown, picture)
        write_whole(path.with_suffix(".json"), text)  # last, see `is_written`
    except OSError as error:
        raise UserError(f"{path}.json or .png: cannot be written ({os.strerror(error.errno or 0)})") from error


def _of_mistakes(counts: confusion.Confusion, wrong: int, folder: Path) -> list[str]:
    images = int(counts.counts.sum())
    if not wrong:
        return [f"no mistake among {images:,} test images; {folder / 'confusion.png'}"]
    label, taken_for, count = counts.pairs()[0]
    names = counts.class_names
    of_label = int(counts.counts[label].sum())
    return [
        f"{wrong:,} mistakes among {images:,} test images: {folder / 'mistakes.png'}; most often {names[label]!r} is "
        f"taken for {names[taken_for]!r} ({count:,} of {of_label:,}): {folder / 'confusion.png'}"
    ]


def _of_duplicates(found: duplicates.Duplicates, listed: dict[str, Any], folder: Path) -> list[str]:
    lines = []
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
