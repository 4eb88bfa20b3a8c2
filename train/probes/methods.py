"""Linear, nearest neighbours, few-shot.

A method takes `parts`, from the name of a split ("train", "validation", "test") to activations `[N, units]` float32 and
labels `[N]`, chooses what it may choose (a strength, a number of neighbours) by the accuracy on validation images, and
returns figures that JSON can hold: count (of test images), accuracy, interval (95 %), classes, warnings (sentences),
and its own. UserError is raised where a split is missing, training images are of one class, or a number is not finite.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train import intervals
from train.errors import UserError
from train.probes import logistic
from train.probes.logistic import fit, measure
from train.probes.neighbours import vote

Part = tuple[np.ndarray, np.ndarray]
Parts = Mapping[str, Part]

# Of the penalty, strong to weak. CLIP's linear probes search between 1e-6 and 1e6 (as `logistic.STEPS`).
STRENGTHS = tuple(10.0**power for power in range(3, -7, -1))
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)


def linear(parts: Parts) -> dict[str, Any]:
    """Fit logistic regression on training images, choose its strength, fit it on validation images too, and test.

    Its own figures: top5_accuracy, train_count (of the last fit), strength, tried (validation accuracy by strength; of
    equals the one with the lower cross-entropy is taken), converged. The interval is of the count: Wilson 1927.
    """
    train, validation, test = _checked(parts)
    path = fit(*train, STRENGTHS)
    strength, tried = _chosen(measure(path, *validation))
    features, labels = map(np.concatenate, zip(train, validation, strict=True))
    final = fit(features, labels, (strength,))
    ((accuracy,), (top5,), _) = measure(final, *test)
    converged = path.converged and final.converged
    figures = _counted(float(accuracy), test[1], labels)
    figures["warnings"] += _doubts(strength, converged)
    own = {"train_count": len(labels), "strength": strength, "tried": tried, "converged": converged}
    return figures | {"top5_accuracy": float(top5)} | own


def knn(parts: Parts) -> dict[str, Any]:
    """Classify by the nearest images; how many is chosen on validation images, which are then compared with too.

    Without validation images it is refused: a number of neighbours that we chose would make the figure ours.
    Its own figures: train_count (of the images that the test's are compared with), k, tried (validation accuracy by k;
    of equals the smallest is taken). The interval is of the count: Wilson 1927.
    """
    train, validation, test = _checked(parts)
    votes = vote(*train, validation[0], [k for k in NEIGHBOURS if k <= len(train[1])])
    tried = {k: float(np.mean(answers == validation[1])) for k, answers in votes.items()}
    k = max(tried, key=lambda k: tried[k])
    features, labels = map(np.concatenate, zip(train, validation, strict=True))
    accuracy = float(np.mean(vote(features, labels, test[0], [k])[k] == test[1]))
    own = {"train_count": len(labels), "k": k, "tried": {str(k): share for k, share in tried.items()}}
    return _counted(accuracy, test[1], labels) | own


def few_shot(
    parts: Parts, shots: Sequence[int], draws: int, seed: int, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Fit logistic regression on few training images a class, drawn again and again, and test each fit.

    A fit knows its own images alone, which also standardise the units. All fits of a size have one strength, that of
    the best mean accuracy on validation images. Draws of a size do not depend on the other sizes.

    Its own figures: shots, for each size: images_per_class, accuracy (mean over `draws`), interval (of that mean:
    Student's t), lowest, highest, draws, strength, tried, converged. The largest size's are also the method's.

    Raises:
      UserError: also where a class (of `class_names`) has too few training images, or a number is too small.
    """
    if not shots or min(shots) < 1:
        raise UserError(f"--shots={','.join(map(str, shots))}: must be images a class, 1 or more, with commas between")
    if draws < 2:
        raise UserError(f"--draws={draws}: must be 2 or more; the interval is one over draws")
    train, validation, test = _checked(parts)
    classes = np.unique(np.concatenate([labels for _, labels in parts.values()]))
    members = [np.flatnonzero(train[1] == label) for label in classes]
    for label, places in zip(classes, members, strict=True):
        if len(places) < max(shots):
            who = f"class {label}" + (f" ({class_names[label]})" if class_names else "")
            raise UserError(f"--shots={max(shots)}: {who} has {len(places)} training images; draw fewer or store more")

    rows, warnings = [], []
    for size in sorted(set(shots)):
        random = np.random.default_rng((seed, size))
        subsets = [np.concatenate([random.choice(m, size, replace=False) for m in members]) for _ in range(draws)]
        figures, converged = _fit_and_measure(train, subsets, STRENGTHS, validation)
        strength, tried = _chosen(figures.mean(0))
        figures, converged_again = _fit_and_measure(train, subsets, (strength,), test)
        converged &= converged_again
        row = {"images_per_class": size, "draws": draws, "strength": strength, "tried": tried, "converged": converged}
        rows.append(row | _over_draws(figures[:, 0, 0]))
        warnings += [f"{size} images a class: {doubt}" for doubt in _doubts(strength, converged)]
        if 2 * size > (smallest := min(map(len, members))):
            warnings.append(
                f"{size} images a class: the smallest class has {smallest}, so draws share most of their images, and "
                "the interval is too narrow"
            )
    largest = {name: rows[-1][name] for name in ("accuracy", "interval")}
    return {"count": len(test[1]), **largest, "classes": len(classes), "warnings": warnings, "shots": rows}


def _fit_and_measure(
    train: Part, subsets: list[np.ndarray], strengths: Sequence[float], images: Part
) -> tuple[np.ndarray, bool]:
    """Return what `measure` says of a fit on each subset `[draws, 3, S]`, and whether all have converged."""
    fits = (fit(train[0][subset], train[1][subset], strengths) for subset in subsets)  # of which one is in memory
    figures, converged = zip(*((measure(each, *images), each.converged) for each in fits), strict=True)
    return np.stack(figures), all(converged)


def _over_draws(accuracies: np.ndarray) -> dict[str, Any]:
    mean, interval = intervals.of_mean(accuracies.tolist())
    lowest, highest = float(accuracies.min()), float(accuracies.max())
    return {"accuracy": mean, "interval": interval, "lowest": lowest, "highest": highest}


def _checked(parts: Parts) -> tuple[Part, Part, Part]:
    for split in ("train", "validation", "test"):
        if split not in parts or not len(parts[split][1]):
            raise UserError(f"{split}: the store has no such images, and a probe needs them; extract some of them too")
        for row in np.flatnonzero(~np.isfinite(parts[split][0]).all(1)):
            raise UserError(f"{split}: row {row} of the activations holds NaN or Inf; store those of a finite network")
    if len(np.unique(parts["train"][1])) == 1:
        raise UserError(f"train: all images are of class {parts['train'][1][0]}; store some of another one too")
    return parts["train"], parts["validation"], parts["test"]


def _chosen(figures: np.ndarray) -> tuple[float, dict[str, float]]:
    """Return the best strength by what `measure` says of validation images, and the accuracy of each."""
    accuracies, _, losses = figures
    tried = {f"{strength:g}": float(share) for strength, share in zip(STRENGTHS, accuracies, strict=True)}
    return STRENGTHS[np.lexsort((losses, -accuracies))[0]], tried


def _counted(accuracy: float, labels: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Return what is said of an accuracy on images with `labels`, where those with labels `known` had been seen."""
    new = int(np.sum(~np.isin(labels, known)))
    return {
        "count": len(labels),
        "accuracy": accuracy,
        "interval": intervals.of_share(round(accuracy * len(labels)), len(labels)),
        "classes": len(np.unique(known)),
        "warnings": [f"{new} test images are of classes without a training image, and count as wrong"] if new else [],
    }


def _doubts(strength: float, converged: bool) -> list[str]:
    end = {STRENGTHS[0]: "strongest", STRENGTHS[-1]: "weakest"}.get(strength)
    doubts = [f"the best strength, {strength:g}, is the {end} that was tried; one beyond may be better"] if end else []
    return doubts if converged else [*doubts, f"not every fit has converged in {logistic.STEPS} steps"]
