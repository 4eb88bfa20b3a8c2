"""Finished runs on a test set, by protocols; several together answer with the mean of their probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train import devices, settings
from train.checkpoints import load_network
from train.data import dataset
from train.errors import UserError
from train.integrity import check_answers
from train.network import narrowed
from train.protocols import real, wordnet
from train.protocols.asking import as_prepared, by_looks, mean
from train.protocols.figures import by_class, figures
from train.protocols.looks import Look, looks_of
from train.run import RunFolder

# Shows every image as training prepared it, whatever the source does to sizes.
CENTER = "center"


class Answered(NamedTuple):
    """Answers to the images of a test set.

    Attributes:
      answers: logarithms of probabilities, which are means over runs and protocols, float32 `[N, classes]`.
      labels: int32 `[N]`.
      ids: what each image is called.
      split: which they are: "test", "val" or "all" of the source.
      skipped: how many files of the source were left out because they cannot be used.
    """

    answers: np.ndarray
    labels: np.ndarray
    ids: list[str]
    split: str
    skipped: int


def answer(
    runs: Sequence[RunFolder], source: str, protocols: Sequence[str], scales: tuple[int, ...] | None = None
) -> Answered:
    """Ask the best checkpoint of each run by each protocol.

    Args:
      runs: with the same classes.
      source: a URI; where it is a run's own data, the run's own test images are looked at.
      protocols: keys of `looks.PROTOCOLS`.
      scales: in the place of the runs' evaluate.scales.

    Raises:
      UserError: a run has no checkpoint, the source does not suit a network, its answers are not finite, or runs do
        not suit each other.
    """
    parts = [part for run in runs for part in _of_run(run, source, protocols, scales)]
    for run, part in zip([run for run in runs for _ in protocols], parts, strict=True):
        if settings.class_names(run.config.dataset) != settings.class_names(runs[0].config.dataset):
            raise UserError(
                f"{run.path}: has other classes than {runs[0].path}; their answers have no mean: give runs of the "
                "same classes"
            )
        if part.ids != parts[0].ids:
            raise UserError(
                f"{run.path}: has other test images of {source} than {runs[0].path}; "
                "name a --source that none of them was trained on, or train on the same split"
            )
    return parts[0]._replace(answers=mean([part.answers for part in parts]))


def _of_run(run: RunFolder, source: str, protocols: Sequence[str], scales: tuple[int, ...] | None) -> list[Answered]:
    """Return the answers of a run by each protocol. What a protocol cannot do is said before anything is read."""
    config = run.config.copy_and_resolve_references()
    if scales:
        config.evaluate.scales = scales
    looks = {protocol: _looks(protocol, config, scales) for protocol in protocols}
    mesh, trained_on = devices.make_mesh(None), run.environment["data"]["fingerprint"]
    graph, params, stats = load_network(run, mesh)
    described = graph, narrowed(params, config.precision), stats
    answered = []
    for protocol in protocols:
        test = dataset.load_test(config.dataset, source, trained_on, sized=protocol == CENTER)
        if protocol == CENTER:
            found = as_prepared(described, config, mesh, test.images)
        else:
            found = by_looks(described, config, mesh, test.images, looks[protocol])
        check_answers(found, run.path, test.ids)
        answered.append(Answered(found, test.images.labels, test.ids, test.split, len(test.skipped)))
    return answered


def _looks(protocol: str, config: ConfigDict, scales: tuple[int, ...] | None) -> tuple[Look, ...]:
    if protocol != CENTER:
        _must_scale(config, protocol)
        return looks_of(protocol, config)
    if scales:
        raise UserError(
            f"--scales={','.join(map(str, scales))}: the protocol {CENTER} shows images as training did; "
            "its size is that of the run (config.dataset.crop)"
        )
    return ()


def _must_scale(config: ConfigDict, protocol: str) -> None:
    dataset = config.dataset
    if dataset.resize == "pad":
        raise UserError(
            f"--protocol={protocol}: scales images, and config.dataset.resize=pad of this run does not; take {CENTER}"
        )
    if dataset.permutation is not None:
        raise UserError(f"--protocol={protocol}: the pixels of this run are permuted; take {CENTER}")


def figures_of(answered: Answered, config: ConfigDict, real_labels: str | None = None) -> dict[str, Any]:
    """Return split, what `figures.figures` returns, skipped, and by class and by WordNet what can be said.

    Args:
      answered: by runs.
      config: of one of them.
      real_labels: a file for `real.accuracy`.

    Raises:
      UserError: that file cannot be read or does not suit; WordNet's neither.
    """
    answers, labels = answered.answers, answered.labels
    found = {"split": answered.split} | figures(answers, labels) | {"skipped": answered.skipped}
    if real_labels:
        found["real_accuracy"], found["real_count"] = real.accuracy(answers, answered.ids, Path(real_labels))
    classes, there = wordnet.identifiers(config.dataset), wordnet.folder()
    if classes and there:
        found["severity"] = wordnet.severity(answers, labels, classes, there)
    return found | {"classes": by_class(answers, labels, settings.class_names(config.dataset))}
