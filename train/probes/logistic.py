"""Multinomial logistic regression of a full batch, at several strengths of its penalty."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import Precision

from train.probes.compiled import compiled

STEPS = 1000  # of L-BFGS at most, as for CLIP's linear probes (Radford et al. 2021, arXiv 2103.00020, appendix A.3)
TOLERANCE, ROUNDING = 1e-5, 1e-6  # of a gradient that is taken for none: see `fit`
ROWS = 1024  # images looked at together


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
    seen, span = compiled(_coordinates)(features, mean, deviation)
    at = (jnp.zeros((len(known), seen.shape[1])), jnp.zeros(len(known)))
    weights, biases, converged = [], [], True
    for strength in strengths:
        at, there = compiled(_descend)(seen, targets, jnp.float32(strength), at)
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
        sums += np.asarray(compiled(_sums)(*arrays, features[i : i + ROWS], targets[i : i + ROWS]))
    return sums / np.array([[len(labels)], [len(labels)], [max(1, np.sum(targets >= 0))]])


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


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # In float64, for squares of float32 may overflow; by blocks, for a copy may be more than there is memory.
    mean = features.mean(0, dtype=np.float64)
    squares = sum(((features[i : i + ROWS] - mean) ** 2).sum(0) for i in range(0, len(features), ROWS))
    deviation = np.sqrt(squares / len(features))
    # A millionth of the mean is ten times float32's rounding, and no variation.
    varies = deviation > np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
    return mean.astype(np.float32), np.where(varies, deviation, 0).astype(np.float32)
