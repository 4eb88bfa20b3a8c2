"""What there is to say of a finished run: all that the report shows, as figures and not yet as pictures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from models.summary import Row, rows
from train import settings
from train.answers import Answers, chosen_stages, make_answerer
from train.data.activations import Activations
from train.data.photos import Photos
from train.data.roles import Dataset, Read
from train.network import Described
from train.protocols.published import Published, figures
from train.records import METRICS, read_metrics
from train.report import calibration, confusion, duplicates, inside, mistakes, neighbourhood
from train.run import RunFolder

# Training images whose features take more bytes than this are compared without them.
_MOST_FEATURES = 2**28
# Of more training images than this, none is compared with the test images: each would be decoded for it.
_MOST_COMPARED = 150_000


@dataclass(frozen=True)
class Seen:
    """What one image becomes on its way through the network.

    Attributes:
      id: what the image is called.
      label: its class.
      taken_for: what the network takes it for.
      image: uint8 `[H, W, C]`, as the network sees it.
      stages: name and activation `[*spatial, C]` of each.
    """

    id: str
    label: int
    taken_for: int
    image: np.ndarray
    stages: list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class OfTest:
    """What the test images say.

    Attributes:
      images: they themselves.
      ids: what each is called.
      train: the training images, and `train_ids` what each of them is called.
      answers: of the network, with the activations of the last hidden stage.
      confusion: which classes are taken for which.
      mistakes: all, the surest first.
      calibration: whether the network is right as often as it is sure.
      duplicates: what of them was in training too; None where that was not looked for.
      silence: units that say the same of every one, by stage; of a single image nothing can be said.
      seen: one of them, on its way through the network.
      neighbourhood: the map of the last hidden stage; None where there are too few images for one.
    """

    images: Read
    ids: list[str]
    train: Read
    train_ids: list[str]
    answers: Answers
    confusion: confusion.Confusion
    mistakes: list[mistakes.Mistake]
    calibration: calibration.Calibration
    duplicates: duplicates.Duplicates | None
    silence: list[inside.Silence]
    seen: Seen
    neighbourhood: neighbourhood.Neighbourhood | None


@dataclass(frozen=True)
class Findings:
    """What there is to say of a run.

    Attributes:
      run: its folder.
      records: the lines of its metrics.jsonl.
      class_names: in the order of the labels.
      rows: a row for each stage of the network.
      published: what others have published for the same network and data.
      filters: kernels of the first layer, see `inside.filters`.
      of_test: None where there are no images to look at, but activations alone.
      seconds: what finding each part took.
    """

    run: RunFolder
    records: list[dict[str, Any]]
    class_names: tuple[str, ...]
    rows: list[Row]
    published: tuple[Published, ...]
    filters: list[np.ndarray]
    of_test: OfTest | None
    seconds: dict[str, float]


def find(run: RunFolder, described: Described, data: Dataset, mesh: Mesh) -> Findings:
    """Look at a run and at what its network makes of the test images.

    Args:
      run: finished.
      described: its network as (graph, parameters, batch statistics).
      data: that it was trained on.
      mesh: of devices.

    Raises:
      UserError: a photo cannot be read or decoded any more.
    """
    config = run.config
    seconds: dict[str, float] = {}
    looking = not (isinstance(data.train, Activations) or isinstance(data.test, Activations))
    return Findings(
        run,
        read_metrics(run.path / METRICS),
        settings.class_names(config.dataset),
        rows(nnx.merge(*described)),
        figures(config, run.environment["data"]),
        inside.filters(described, config),
        _of_test(run, described, data, mesh, seconds) if looking else None,
        seconds,
    )


def _of_test(run: RunFolder, described: Described, data: Dataset, mesh: Mesh, seconds: dict[str, float]) -> OfTest:
    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[what] = time.perf_counter() - began

    config, (graph, params, stats) = run.config, described
    train, test = data.train, data.test
    assert not isinstance(train, Activations)
    assert not isinstance(test, Activations)
    ids, train_ids = data.ids("test"), data.ids("train")
    (hidden,) = chosen_stages(config)
    answer = make_answerer(graph, config, mesh, (hidden,))
    with timed("answers to the test images"):
        answers = answer(params, stats, test)
    found = None
    if train.total <= _MOST_COMPARED:
        with timed("duplicates among training and test images"):
            width = answers.activations[hidden].shape[1]
            features = None
            if train.total * width * 4 <= _MOST_FEATURES:
                features = answer(params, stats, train).activations[hidden], answers.activations[hidden]
            found = duplicates.find(train, test, features)
    with timed("one image through all stages"):
        right = np.flatnonzero(answers.right)
        place = int(right[0]) if len(right) else 0
        image = _as_seen(test, place, run)
        seen = Seen(
            ids[place],
            int(answers.labels[place]),
            int(answers.taken_for[place]),
            image,
            inside.maps(described, config, image),
        )
    with timed("map of the last hidden stage"):
        around = neighbourhood.find(answers.activations[hidden], answers.labels, config.seed)
    return OfTest(
        test,
        ids,
        train,
        train_ids,
        answers,
        confusion.measure(answers, settings.class_names(config.dataset)),
        mistakes.find(answers),
        calibration.measure(answers),
        found,
        inside.silence(answers) if test.total > 1 else [],
        seen,
        around,
    )


def _as_seen(images: Read, place: int, run: RunFolder) -> np.ndarray:
    """Return an image as the network sees it before it is normalised, uint8 `[size, size, C]`."""
    section = run.config.dataset
    if isinstance(images, Photos):
        images = images.take(np.array([place])).middles(section.image_size, section.resize, section.crop)
        place = 0
    return images.images[place]
