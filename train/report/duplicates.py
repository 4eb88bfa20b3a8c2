"""Images of the test that were in training too: the same file, the same pixels, or nearly the same picture.

A network has learned such images by heart, so they flatter the figure that the test measures.

Looked at closely are, for each test image, the three training images whose layout (8x8 gray levels) is most like its
own, as it is or mirrored, and the one that the network's features are nearest to. Whether two are nearly the same
picture is decided by their edges (`likeness.py`) and held against the training set itself: its images of different
classes are no copies of each other, however the set was made larger. Take each image's most alike of another class, and
of their likenesses the one that 3 % exceed; a copy is at most half as far from 1.

Where half of these likenesses reach 0.5, as those of digits and clothes do (0.67 to 0.75; photos 0.28 to 0.36), another
picture cannot be told from a copy, and near duplicates are not looked for.

Measured on 244 + 153 photos of ants and bees (hymenoptera), a copy of each of the 153 planted in training:

| copy                                 | edges | features, random AlexNet | features, AlexNet of 15 classes |
|--------------------------------------|-------|--------------------------|---------------------------------|
| encoded again at quality 60          | 100 % | 100 %                    | 100 %                           |
| reduced to 70 %                      | 100 % | 100 %                    | 100 %                           |
| 15 % brighter                        | 100 % | 99 %                     | 91 %                            |
| 5 % cut off                          | 100 % | 95 %                     | 64 %                            |
| 10 % cut off                         | 98 %  | 35 %                     | 33 %                            |
| mirrored (features: of both, too)    | 100 % | 100 %                    | 100 %                           |
| mirrored, and 5 % cut off            | 100 % | 93 %                     | 61 %                            |
| gray                                 | 100 % | 58 %                     | 8 %                             |
| false alarms among 153 without copy  | 0     | 0                        | 1                               |

For the features' cosine distance the same bound was used. They do worse, and more so when they have learned, for it is
a network's task to forget brightness and place; so they only point at pairs here. Edges find 86 % of copies with 15 %
cut off and 43 % with 20 %, and all that are turned by up to 3 degrees. Of 1,000 test images of CIFAR-10 50 are found,
of 1,000 of Tiny ImageNet's (20 classes) 2, all rightly as far as one can see; Barz and Denzler (arXiv 1902.00423) found
3.25 % of CIFAR-10's, by features and by eye.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from train.data import decode
from train.data.photos import Photos
from train.data.roles import Read
from train.pages import drawing
from train.pages.thumbnail import picture
from train.report.likeness import layouts, likeness, nearest, unit
from train.report.signatures import Signatures, file_of, sign

# Training images whose layout is most like a test image's. Of CIFAR-10's flagged pairs the first was the most alike in
# three of four.
_CANDIDATES = 3
# Training images that the bound is measured on, and the share of them that may exceed it half-way.
_SAMPLE, _EXCEEDING = 300, 0.03
# The bound stays between these: below, things of one shape are flagged; above, copies with a border cut off are missed.
_LOWEST, _HIGHEST = 0.65, 0.85
# Where no other class tells.
_USUAL = 0.75
# From this likeness of neighbours of other classes on, near duplicates are not looked for.
_TOO_ALIKE = 0.5
# Photos as alike as this are decoded whole, for they may be the same pixels in files that differ.
_SAME_PIXELS = 0.95
# Pairs on the sheet.
SHOWN = 12


@dataclass(frozen=True)
class Pair:
    """A test image and a training image that are one picture.

    Attributes:
      test: place of the one in its set.
      train: place of the other.
      test_label: label of the one.
      train_label: label of the other.
      kind: "exact" for the same file or the same pixels, else "near".
      likeness: of their edges, up to 1.
      mirrored: whether one is the other's mirror image.
      distance: cosine distance of the network's features, from 0 to 2; None where there are none.
    """

    test: int
    train: int
    test_label: int
    train_label: int
    kind: str
    likeness: float = 1.0
    mirrored: bool = False
    distance: float | None = None


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
      pairs: those whose labels differ first, then exact before near ones, then the most alike; for a test image one of
        each training label.
      neighbours: median likeness of training images to their nearest of other classes; None where there is none.
      bound: from which likeness on a pair is near; None where near ones were not looked for.
    """

    pairs: list[Pair]
    neighbours: float | None
    bound: float | None

    @property
    def tests(self) -> np.ndarray:
        """The places of the test images that are concerned, each once, in order."""
        return np.unique(np.array([pair.test for pair in self.pairs], np.int64))


def find(train: Read, test: Read, features: tuple[np.ndarray, np.ndarray] | None = None) -> Duplicates:
    """Return the test images that are among the training images.

    Args:
      train: what the network learns from.
      test: what it is examined with.
      features: of the training and of the test images, float32 `[N, units]`; they add pairs to look at.

    Raises:
      UserError: a photo cannot be read or decoded; names it.
    """
    ours, theirs = sign(test), sign(train)
    labels = test.labels, train.labels
    pairs = list(_exact(ours, theirs, *labels))
    neighbours, bound = _bound(theirs.gray, labels[1])
    known = {(pair.test, pair.train) for pair in pairs}
    # Where near ones are not looked for, the same pixels may still lie in two files; in memory the hash has told.
    if bound is not None or isinstance(train, Photos):
        for pair in _near(ours.gray, theirs.gray, *labels, bound or _SAME_PIXELS, features):
            if (pair.test, pair.train) in known:
                continue
            if _same_pixels(pair, train, test):
                pairs.append(replace(pair, kind="exact", likeness=1.0))
            elif bound is not None:
                pairs.append(pair)
    if features is not None:
        pairs = [replace(pair, distance=_distance(features[0][pair.train], features[1][pair.test])) for pair in pairs]
    pairs.sort(key=lambda pair: (pair.test_label == pair.train_label, pair.kind, -pair.likeness, pair.test, pair.train))
    first = {(pair.test, pair.train_label): pair for pair in reversed(pairs)}
    return Duplicates([pair for pair in pairs if first[pair.test, pair.train_label] is pair], neighbours, bound)


def _exact(ours: Signatures, theirs: Signatures, our_labels: np.ndarray, their_labels: np.ndarray) -> Iterator[Pair]:
    """Yield a pair of each test image with the first training image of each label that has the same content."""
    places: dict[bytes, dict[int, int]] = {}
    for place, (digest, label) in enumerate(zip(theirs.digests, their_labels.tolist(), strict=True)):
        places.setdefault(digest, {}).setdefault(label, place)
    for place, (digest, label) in enumerate(zip(ours.digests, our_labels.tolist(), strict=True)):
        for their_label, other in places.get(digest, {}).items():
            yield Pair(place, other, label, their_label, "exact")


def _bound(gray: np.ndarray, labels: np.ndarray) -> tuple[float | None, float | None]:
    """Return the median likeness of training images to neighbours of other classes, and from which a pair is near."""
    sample = np.unique(np.linspace(0, len(gray) - 1, min(_SAMPLE, len(gray))).round().astype(int))
    some, others, mirrored = _candidates(gray[sample], gray, labels[sample], labels)
    found = _likeness(gray[sample], gray, some, others, mirrored)
    best = [found[some == place].max() for place in np.unique(some)]
    if not best:
        return None, _USUAL
    median = float(np.median(best))
    if median >= _TOO_ALIKE:
        return median, None
    return median, float(np.clip((1 + np.quantile(best, 1 - _EXCEEDING)) / 2, _LOWEST, _HIGHEST))


def _near(
    ours: np.ndarray,
    theirs: np.ndarray,
    our_labels: np.ndarray,
    their_labels: np.ndarray,
    bound: float,
    features: tuple[np.ndarray, np.ndarray] | None,
) -> Iterator[Pair]:
    tests, trains, mirrored = _candidates(ours, theirs)
    if features is not None:
        indices, _ = nearest(unit(features[1]), unit(features[0]), 1)
        tests, trains = np.append(tests, np.arange(len(ours))), np.append(trains, indices[:, 0])
        mirrored = np.append(mirrored, np.zeros(len(ours), bool))
    found = _likeness(ours, theirs, tests, trains, mirrored)
    for index in np.flatnonzero(found >= bound).tolist():
        test, train = int(tests[index]), int(trains[index])
        labels = int(our_labels[test]), int(their_labels[train])
        yield Pair(test, train, *labels, "near", float(found[index]), bool(mirrored[index]))


def _candidates(
    ours: np.ndarray, theirs: np.ndarray, our_labels: np.ndarray | None = None, their_labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs with a like layout: places among ours, among theirs, and whether ours is to be mirrored, `[P]` each.

    Where labels are given, only pairs of different labels.
    """
    count = min(_CANDIDATES, len(theirs))
    references, queries = layouts(theirs), (layouts(ours), layouts(ours[:, :, ::-1]))

    def allowed(places: np.ndarray) -> np.ndarray:
        assert our_labels is not None
        return np.asarray(our_labels[places, None] != their_labels)

    places, products = [], []
    for way, other in (queries, queries[::-1]):
        indices, found = nearest(way, references, count, None if our_labels is None else allowed)
        turned = np.einsum("qd,qnd->qn", other, references[indices])
        places.append(indices)
        products.append(np.where(turned > found, -np.inf, found))  # of the two ways the one that fits better
    indices, found = np.concatenate(places, 1), np.concatenate(products, 1)
    best = np.argsort(-found, 1, kind="stable")[:, :count]
    rows = np.arange(len(ours))[:, None]
    kept = np.isfinite(found[rows, best])
    return np.broadcast_to(rows, best.shape)[kept], indices[rows, best][kept], (best >= count)[kept]


def _likeness(
    ours: np.ndarray, theirs: np.ndarray, some: np.ndarray, others: np.ndarray, mirrored: np.ndarray
) -> np.ndarray:
    """Return the likeness of pairs of places `[P]`, a part at a time."""
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(some), 4096):
        part = slice(start, start + 4096)
        one = ours[some[part]]
        parts.append(likeness(np.where(mirrored[part, None, None], one[:, :, ::-1], one), theirs[others[part]]))
    return np.concatenate(parts)


def _same_pixels(pair: Pair, train: Read, test: Read) -> bool:
    if pair.likeness < _SAME_PIXELS or pair.mirrored or not (isinstance(train, Photos) and isinstance(test, Photos)):
        return False
    one, other = (decode.pixels(file_of(*where), 3) for where in ((train, pair.train), (test, pair.test)))
    return np.array_equal(one, other)


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(1 - np.vdot(*unit(np.stack([one, other]).astype(np.float64))))


def as_json(
    duplicates: Duplicates,
    train_ids: Sequence[str],
    test_ids: Sequence[str],
    class_names: Sequence[str],
    right: np.ndarray,
) -> dict[str, Any]:
    """Return the pairs, how many test images are concerned, and the accuracy with and without these.

    Args:
      duplicates: what was found.
      train_ids: of the training images.
      test_ids: of the N test images.
      class_names: by label.
      right: whether the network recognised each test image, `[N]`.
    """
    rest = np.delete(right, duplicates.tests)
    return {
        "test_images": len(right),
        "concerned": len(duplicates.tests),
        "accuracy": float(right.mean()),
        "accuracy_without": float(rest.mean()) if len(rest) else None,
        "bound": duplicates.bound,
        "likeness_of_other_classes": duplicates.neighbours,
        "pairs": [
            {
                "kind": pair.kind,
                "test": test_ids[pair.test],
                "train": train_ids[pair.train],
                "test_label": class_names[pair.test_label],
                "train_label": class_names[pair.train_label],
                "likeness": pair.likeness,
                "mirrored": pair.mirrored,
                "distance": pair.distance,
            }
            for pair in duplicates.pairs
        ],
    }


def draw(
    duplicates: Duplicates,
    train: Read,
    test: Read,
    train_ids: Sequence[str],
    test_ids: Sequence[str],
    class_names: Sequence[str],
) -> bytes:
    """Return a PNG file with the first `SHOWN` of one or more pairs, side by side.

    Raises:
      UserError: a photo cannot be read or decoded any more; names it.
    """
    entries = []
    for pair in duplicates.pairs[:SHOWN]:
        differ = pair.test_label != pair.train_label
        kind = "exact" if pair.kind == "exact" else f"near ({pair.likeness:.2f}{', mirrored' * pair.mirrored})"
        captions = [
            (f"test: {class_names[pair.test_label]}", test_ids[pair.test]),
            (f"training: {class_names[pair.train_label]}", train_ids[pair.train]),
        ]
        pictures = [picture(test, pair.test), picture(train, pair.train)]
        entries.append(drawing.Entry(pictures, captions, kind + ", labels differ" * differ, differ))
    count = f"{len(duplicates.tests):,} of {test.total:,} test images"
    which = f"; {len(entries)} of {len(duplicates.pairs):,} pairs" if len(entries) < len(duplicates.pairs) else ""
    return drawing.sheet(entries, 3, f"In training too: {count}{which}")
