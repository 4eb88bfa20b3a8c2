"""Probes: how well classes can be told from stored activations, by methods that leave the network alone.

A method takes `parts`, from the name of a split ("train", "validation", "test") to activations `[N, units]` float32 and
labels `[N]`, chooses what it may choose (a strength, a number of neighbours) by the accuracy on validation images, and
returns figures that JSON can hold: count (of test images), accuracy, interval (95 %), classes, warnings (sentences),
and its own. UserError is raised where a split is missing, training images are of one class, or a number is not finite.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import Precision
from scipy import stats  # type: ignore[import-untyped]

from train import devices
from train.errors import UserError

Part = tuple[np.ndarray, np.ndarray]
Parts = Mapping[str, Part]

# Of the penalty, strong to weak. CLIP's linear probes search between 1e-6 and 1e6, with as many steps of L-BFGS at most
# (Radford et al. 2021, arXiv 2103.00020, appendix A.3).
STRENGTHS = tuple(10.0**power for power in range(2, -7, -1))
STEPS = 1000
TOLERANCE, ROUNDING = 1e-5, 1e-6  # of a gradient that is taken for none: see `fit`
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
ROWS, OTHERS = 1024, 8192  # images looked at together, and those they are compared with: 32 MiB of similarities


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
    largest = {name: rows[-1][name] for name in ("accuracy", "interval")}
    return {"count": len(test[1]), **largest, "classes": len(classes), "warnings": warnings, "shots": rows}


class Classifiers(NamedTuple):
    """Multinomial logistic regressions of one set of images, at S strengths of the penalty."""

    labels: np.ndarray  # [C], the classes of those images, ascending
    mean: np.ndarray  # [units]
    deviation: np.ndarray  # [units]; 0: a unit that never varied, and is left out
    weights: jax.Array  # [S, C, units], of standardised units
    bias: jax.Array  # [S, C]
    converged: bool


def fit(features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]) -> Classifiers:
    """Fit multinomial logistic regression to images `[N, units]` with labels `[N]`, any integers, at each strength.

    Strengths go from strong to weak, for each fit begins where the one before has ended.

    What is least is the mean cross-entropy + strength / 2 * (the sum of squared weights), of units that the images'
    mean and standard deviation have standardised; biases are free. scikit-learn's LogisticRegression has the same
    objective at C = 1 / (strength * N); of two classes it fits the difference alone, at C = 2 / (strength * N).

    At the least, the gradient of the cross-entropy and that of the penalty, strength * |weights|, cancel. A fit has
    converged when what is left is below TOLERANCE of the latter + ROUNDING of the objective, which float32 can keep.
    As the penalty makes the objective strongly convex, a gradient g is at most g^2 / (2 * strength) above the least.
    """
    known, targets = np.unique(labels, return_inverse=True)
    mean, deviation = _moments(features)
    seen, span = _compiled(_coordinates)(features, mean, deviation)
    at = (jnp.zeros((len(known), seen.shape[1])), jnp.zeros(len(known)))
    weights, biases, converged = [], [], True
    for strength in strengths:
        at, there = _compiled(_descend)(seen, targets, jnp.float32(strength), at)
        weights.append(at[0] if span is None else jnp.matmul(at[0], span.T, precision=Precision.HIGHEST))
        biases.append(at[1])
        converged &= bool(there)
    return Classifiers(known, mean, deviation, jnp.stack(weights), jnp.stack(biases), converged)


def measure(classifiers: Classifiers, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return accuracy, top-5 accuracy and mean cross-entropy `[3, S]` on images `[N, units]` with labels `[N]`.

    The cross-entropy is that of images whose class is known. Of fewer than five classes, top-5 looks at all.
    """
    known, *arrays, _ = classifiers
    hits = labels[:, None] == known
    targets = np.where(hits.any(1), hits.argmax(1), -1)
    sums = np.zeros((3, len(classifiers.weights)))
    for i in range(0, len(labels), ROWS):
        sums += np.asarray(_compiled(_sums)(*arrays, features[i : i + ROWS], targets[i : i + ROWS]))
    return sums / np.array([[len(labels)], [len(labels)], [max(1, np.sum(targets >= 0))]])


def vote(features: np.ndarray, labels: np.ndarray, queries: np.ndarray, ks: Sequence[int]) -> dict[int, np.ndarray]:
    """Return for each k of `ks` the class of each query `[Q, units]`: the majority of its k nearest images'.

    Where classes have as many, their sums of similarities decide. Images `[N, units]` have `labels` `[N]`.
    """
    known, targets = np.unique(labels, return_inverse=True)
    answers: dict[int, list[np.ndarray]] = {k: [] for k in ks}
    for i in range(0, len(queries), ROWS):
        similarities, places = nearest(features, queries[i : i + ROWS], max(ks))
        size = len(places) * len(known)
        for k in ks:
            cells = (np.arange(len(places))[:, None] * len(known) + targets[places[:, :k]]).ravel()  # (query, class)
            votes = np.bincount(cells, minlength=size).reshape(-1, len(known))
            sums = np.bincount(cells, similarities[:, :k].ravel(), size).reshape(-1, len(known))
            winning = votes == votes.max(1, keepdims=True)
            answers[k].append(known[np.where(winning, sums, -np.inf).argmax(1)])
    return {k: np.concatenate(blocks) for k, blocks in answers.items()}


def nearest(features: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine similarities and indices `[Q, k]` of the k images `[N, units]` nearest to each query, best first.

    A vector of zeros is at similarity 0 from all. Memory is for Q queries and a block of images.
    """
    size = min(OTHERS, len(features))
    best = (jnp.full((len(queries), k), -jnp.inf), jnp.zeros((len(queries), k), jnp.int32))
    for new in range(0, len(features), size):
        first = min(new, len(features) - size)  # the last block reaches back, so that all have one size
        best = _compiled(_nearer)(best, queries, features[first : first + size], first, new)
    return np.asarray(best[0], np.float64), np.asarray(best[1])


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=devices.compiler_options("float32"))


def _standardised(features: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    # Of N images none is further than sqrt(N) from their mean; one of others may be, and must stay finite.
    return jnp.where(deviation > 0, jnp.clip((features - mean) / deviation, -1e4, 1e4), 0.0)


def _coordinates(features: jax.Array, mean: jax.Array, deviation: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Return standardised images in coordinates `[N, M]` of an orthonormal basis `[units, M]`, or None: of the units.

    The weights sought are sums of images. Where images are few, a basis of their span has room for them, and N
    coordinates stand for all units in the same objective. Of more than half as many, finding it costs what it saves.
    """
    seen = _standardised(features, mean, deviation)
    if 2 * len(features) > features.shape[1]:
        return seen, None
    span, coordinates = jnp.linalg.qr(seen.T)
    return coordinates.T, span


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the softmax's cross-entropy: the softplus of how far all others together lie above the target.

    In this form loss and gradient have all of float32's digits where the target is nearly certain. 1 - probability has
    none, and under a weak penalty the least hangs on them: no solver gets there.
    """
    own = jax.nn.one_hot(targets, logits.shape[-1], dtype=bool)
    return jax.nn.softplus(jax.nn.logsumexp(logits, -1, where=~own) - jnp.sum(logits, -1, where=own))


def _descend(
    features: jax.Array, targets: jax.Array, strength: jax.Array, start: tuple[jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Return weights `[C, units]` and biases `[C]` where `fit`'s objective is least, and whether it is."""
    solver = optax.lbfgs()

    def objective(parameters: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, bias = parameters
        # With the units last in both, the gradient takes XLA on a CPU a quarter of the time of that of x @ W.
        logits = jnp.einsum("cu,nu->nc", weights, features, precision=Precision.HIGHEST) + bias
        return _cross_entropy(logits, targets).mean() + strength / 2 * jnp.sum(weights**2)

    value_and_gradient = optax.value_and_grad_from_state(objective)

    def step(carry: Any) -> Any:
        before, state, _, _ = carry
        value, gradient = value_and_gradient(before, state=state)
        updates, state = solver.update(gradient, state, before, value=value, grad=gradient, value_fn=objective)
        after = optax.apply_updates(before, updates)
        moved = jnp.any(after[0] != before[0]) | jnp.any(after[1] != before[1])
        enough = TOLERANCE * strength * jnp.linalg.norm(after[0]) + ROUNDING * optax.tree.get(state, "value")
        there = optax.tree.norm(optax.tree.get(state, "grad")) <= enough  # value and gradient are those of `after`
        return after, state, moved & ~there, there

    parameters, _, _, converged = jax.lax.while_loop(
        lambda carry: carry[2] & (optax.tree.get(carry[1], "count") < STEPS),
        step,
        (start, solver.init(start), jnp.array(True), jnp.array(False)),
    )
    return parameters, converged


def _sums(
    mean: jax.Array, deviation: jax.Array, weights: jax.Array, bias: jax.Array, features: jax.Array, targets: jax.Array
) -> jax.Array:
    """Return `measure`'s sums `[3, S]` over images; a target of -1 is an unknown class."""
    seen = _standardised(features, mean, deviation)
    logits = jnp.einsum("scu,nu->snc", weights, seen, precision=Precision.HIGHEST) + bias[:, None]
    hits = jax.lax.top_k(logits, min(5, logits.shape[-1]))[1] == targets[:, None]
    losses = jnp.sum(_cross_entropy(logits, targets[None]), axis=1, where=targets >= 0)
    return jnp.stack([jnp.sum(hits[..., 0], axis=1), jnp.sum(hits.any(-1), axis=1), losses])


def _nearer(
    best: tuple[jax.Array, jax.Array], queries: jax.Array, images: jax.Array, first: jax.Array, new: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nearest of the best so far and of images whose indices begin at `first`, and are new from `new` on."""
    similarities = jnp.einsum("qu,bu->qb", _unit(queries), _unit(images), precision=Precision.HIGHEST)
    places = jnp.broadcast_to(first + jnp.arange(len(images)), similarities.shape)
    similarities = jnp.concatenate([best[0], jnp.where(places >= new, similarities, -jnp.inf)], axis=1)
    similarities, chosen = jax.lax.top_k(similarities, best[0].shape[1])  # of equals the earlier
    return similarities, jnp.take_along_axis(jnp.concatenate([best[1], places], axis=1), chosen, axis=1)


def _unit(vectors: jax.Array) -> jax.Array:
    """Return vectors `[N, units]` with length 1, or 0, however large or small they were."""
    root = jnp.sqrt(jnp.max(jnp.abs(vectors), axis=1, keepdims=True))
    vectors = jnp.where(root > 0, vectors / root / root, 0.0)  # XLA multiplies by 1 / root: 1 / root^2 may vanish
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1.0)


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # In float64, for squares of float32 may overflow; by blocks, for a copy may be more than there is memory.
    mean = features.mean(0, dtype=np.float64)
    squares = sum(((features[i : i + ROWS] - mean) ** 2).sum(0) for i in range(0, len(features), ROWS))
    deviation = np.sqrt(squares / len(features))
    # A millionth of the mean is ten times float32's rounding, and no variation.
    varies = deviation > np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
    return mean.astype(np.float32), np.where(varies, deviation, 0).astype(np.float32)


def _fit_and_measure(
    train: Part, subsets: list[np.ndarray], strengths: Sequence[float], images: Part
) -> tuple[np.ndarray, bool]:
    """Return what `measure` says of a fit on each subset `[draws, 3, S]`, and whether all have converged."""
    fits = (fit(train[0][subset], train[1][subset], strengths) for subset in subsets)  # of which one is in memory
    figures, converged = zip(*((measure(each, *images), each.converged) for each in fits), strict=True)
    return np.stack(figures), all(converged)


def _over_draws(accuracies: np.ndarray) -> dict[str, Any]:
    mean, half = accuracies.mean(), stats.t.ppf(0.975, len(accuracies) - 1) * stats.sem(accuracies)
    interval = [float(max(mean - half, 0)), float(min(mean + half, 1))]
    lowest, highest = float(accuracies.min()), float(accuracies.max())
    return {"accuracy": float(mean), "interval": interval, "lowest": lowest, "highest": highest}


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
    interval = stats.binomtest(round(accuracy * len(labels)), len(labels)).proportion_ci(0.95, method="wilson")
    new = int(np.sum(~np.isin(labels, known)))
    return {
        "count": len(labels),
        "accuracy": accuracy,
        "interval": [float(interval.low), float(interval.high)],
        "classes": len(np.unique(known)),
        "warnings": [f"{new} test images are of classes without a training image, and count as wrong"] if new else [],
    }


def _doubts(strength: float, converged: bool) -> list[str]:
    end = {STRENGTHS[0]: "strongest", STRENGTHS[-1]: "weakest"}.get(strength)
    doubts = [f"the best strength, {strength:g}, is the {end} that was tried; one beyond may be better"] if end else []
    return doubts if converged else [*doubts, f"not every fit has converged in {STEPS} steps"]
