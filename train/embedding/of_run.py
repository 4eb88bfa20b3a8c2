"""Maps of what a trained run makes of images: at several stages, and at every checkpoint that is kept."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from train import devices, network, settings
from train.answers import PIXELS, Answers, chosen_stages, make_answerer
from train.checkpoints import Checkpoints, Replaced, load_network
from train.data.dataset import load_test
from train.data.roles import Read
from train.embedding import projection, quality
from train.embedding.quality import Quality
from train.errors import UserError, nearest
from train.records import METRICS, read_metrics
from train.run import RunFolder

# Points on a map, where nobody says how many: t-SNE of so many takes some seconds.
POINTS = 2_000
LEAST_POINTS = 3


@dataclass(frozen=True)
class Options:
    """What is to be mapped, and how.

    Attributes:
      source: images, as in config.dataset.source; None: the run's own test images.
      stages: see `chosen_stages`.
      methods: of `projection.METHODS`.
      points: how many images, drawn by the seed from a source with more.
      perplexity: of t-SNE.
      lower_perplexity: take the largest that is possible where the one that is wanted is not.
      every_checkpoint: map all checkpoints that are kept, and not the best alone.
      seed: of the images that are drawn, and of t-SNE.
    """

    source: str | None = None
    stages: tuple[str, ...] = ()
    methods: tuple[str, ...] = projection.METHODS
    points: int = POINTS
    perplexity: float = 30.0
    lower_perplexity: bool = False
    every_checkpoint: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """What the network of a checkpoint takes N images for.

    Attributes:
      step: of the checkpoint.
      epoch: when that was, or None where the run has kept no metrics.
      taken_for: classes, int32 `[N]`.
      confidence: the probability of that class, float32 `[N]`.
    """

    step: int
    epoch: float | None
    taken_for: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Map:
    """N images in the plane.

    Attributes:
      step: of the checkpoint.
      stage: whose activations these are.
      method: of `projection.METHODS`.
      points: float32 `[N, 2]`, in the unit of the method; turned and mirrored so that each image is near where it is on
        the map before this one.
      quality: figures.
    """

    step: int
    stage: str
    method: str
    points: np.ndarray
    quality: Quality


@dataclass(frozen=True)
class Embedding:
    """Maps of N images of a source, all of the same images in the same order.

    Attributes:
      run: whose network it is.
      source: of the images.
      split: which of the source's images: "test", "val" or "all".
      total: how many those are; the N were drawn from them.
      images: uint8 in memory, or still encoded.
      ids: what each image is called.
      stages: in the order of the network.
      methods: of `projection.METHODS`.
      perplexity: that t-SNE had.
      folded: stages of which not all activations were looked at, but sums of some (see `Answers`).
      seen: by checkpoint, the first first.
      maps: by checkpoint, then by stage, then by method.
    """

    run: RunFolder
    source: str
    split: str
    total: int
    images: Read
    ids: Sequence[str]
    stages: tuple[str, ...]
    methods: tuple[str, ...]
    perplexity: float | None
    folded: tuple[str, ...]
    seen: Sequence[Seen]
    maps: Sequence[Map]

    @property
    def labels(self) -> np.ndarray:
        """Labels int32 `[N]`."""
        return self.images.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers where they have none."""
        return settings.class_names(self.run.config.dataset)

    def panels(self, method: str) -> list[list[Map]]:
        """Return the maps of a method: a row for each checkpoint, a column for each stage."""
        maps = [one for one in self.maps if one.method == method]
        return [maps[i : i + len(self.stages)] for i in range(0, len(maps), len(self.stages))]


def embed(run: RunFolder, options: Options, say: Callable[[str], None] = lambda line: None) -> Embedding:
    """Map the images of a source as a trained run sees them.

    Args:
      run: the run.
      options: what is to be mapped.
      say: is told of each map.

    Raises:
      UserError: there is no such stage or method, or no checkpoint; the source cannot be read or does not suit the
        network; or there are too few images.
    """
    config = run.config
    stages, methods = chosen_stages(config, options.stages), _checked_methods(options.methods)
    source = options.source or config.dataset.source
    if not source:
        raise UserError("--source=URI is missing: imported weights come without test images")
    if options.points < LEAST_POINTS:
        raise UserError(f"--points={options.points}: a map takes {LEAST_POINTS} images or more")
    steps = _steps(run, every=options.every_checkpoint)
    test = load_test(config.dataset, source, run.environment["data"]["fingerprint"])
    index = np.sort(np.random.default_rng(options.seed).permutation(test.images.total)[: options.points])
    if len(index) < LEAST_POINTS:
        raise UserError(
            f"{source}: has {len(index)} images, and a map takes {LEAST_POINTS} or more; name a --source that has them"
        )
    perplexity = None
    if "tsne" in methods:
        perplexity = projection.checked_perplexity(len(index), options.perplexity, lower=options.lower_perplexity)
    images = test.images.take(index)
    answers_of = _answerer(run, config, images, stages)
    epochs = {line["step"]: line["epoch"] for line in read_metrics(run.path / METRICS)}

    seen, maps = [], _Maps(methods, perplexity, options.seed, say)
    for step in steps:
        try:
            answers = answers_of(step)
        except Replaced:
            if step == steps[-1]:
                raise
            say(f"step {step:,}: its checkpoint has been replaced meanwhile, and is left out")
            continue
        taken_for = answers.taken_for
        seen.append(Seen(step, epochs.get(step), taken_for, answers.probabilities.max(-1).astype(np.float32)))
        for stage in stages:
            maps.add(step, stage, answers.activations[stage], answers.labels)
    return Embedding(
        run=run,
        source=source,
        split=test.split,
        total=test.images.total,
        images=images,
        ids=[test.ids[place] for place in index.tolist()],
        stages=stages,
        methods=methods,
        perplexity=perplexity,
        folded=answers.folded,
        seen=seen,
        maps=maps.made,
    )


def _checked_methods(methods: Sequence[str]) -> tuple[str, ...]:
    for name in methods:
        if name not in projection.METHODS:
            raise UserError(
                f"--method={name}: must be one of {', '.join(projection.METHODS)}{nearest(name, projection.METHODS)}"
            )
    if not methods:
        raise UserError(f"--method is empty: takes {', '.join(projection.METHODS)}, or one of them")
    return tuple(name for name in projection.METHODS if name in methods)


def _steps(run: RunFolder, *, every: bool) -> list[int]:
    """Return the steps of the checkpoints that are mapped, the first first."""
    with Checkpoints(run.path, read_only=True) as checkpoints:
        best = checkpoints.best()
        if best is None:
            raise UserError(
                f"{checkpoints.path}: there is no checkpoint yet; the command that trains the run makes one"
            )
        return checkpoints.steps() if every else [best]


def _answerer(run: RunFolder, config: ConfigDict, images: Read, stages: tuple[str, ...]) -> Callable[[int], Answers]:
    """Return what answers to the images as the network of a step does."""
    mesh = devices.make_mesh(None)
    answer = make_answerer(network.describe(config)[0], config, mesh, stages)

    def answers_of(step: int) -> Answers:
        _, params, stats = load_network(run, mesh, step)
        return answer(params, stats, images)

    return answers_of


class _Maps:
    """Makes maps, each of which begins, or is laid, as the one before it.

    That is the map of the same stage at the checkpoint before; at the first checkpoint, of the stage before.

    Attributes:
      made: all so far.
    """

    def __init__(
        self, methods: tuple[str, ...], perplexity: float | None, seed: int, say: Callable[[str], None]
    ) -> None:
        self.made: list[Map] = []
        self._methods, self._perplexity, self._seed, self._say = methods, perplexity, seed, say
        self._last: dict[tuple[str, str], Map] = {}  # by stage and method

    def add(self, step: int, stage: str, activations: np.ndarray, labels: np.ndarray) -> None:
        """Map the activations `[N, units]` of a stage at a step, by each method."""
        if stage == PIXELS and self._last.get((stage, self._methods[0])):  # training does not change them
            again = [dataclasses.replace(self._last[stage, method], step=step) for method in self._methods]
            self.made += again
            return
        started = time.perf_counter()
        before = self.made[-len(self._methods) :]
        points = {}
        for place, method in enumerate(self._methods):
            earlier = self._last.get((stage, method)) or (before[place] if before else None)
            points[method] = self._project(method, activations, earlier)
        for method, figures in quality.measure(activations, points, labels).items():
            self._last[stage, method] = Map(step, stage, method, points[method], figures)
            self.made.append(self._last[stage, method])
        trust = ", ".join(f"{method} {self._last[stage, method].quality.trustworthiness:.3f}" for method in points)
        self._say(f"{stage} at step {step:,}: trustworthiness {trust} ({time.perf_counter() - started:.1f} s)")

    def _project(self, method: str, activations: np.ndarray, before: Map | None) -> np.ndarray:
        if method == "pca":
            points = projection.pca(activations)
        else:
            assert self._perplexity is not None, "t-SNE has one"
            init = None if before is None else before.points
            points = projection.tsne(activations, self._perplexity, self._seed, init)
        return points if before is None else projection.align(points, before.points)
