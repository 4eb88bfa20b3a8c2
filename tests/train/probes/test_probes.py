"""Probes against scikit-learn, SciPy and counts by hand, and what they do with data of all kinds."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from train.errors import UserError
from train.probes import logistic, methods, neighbours

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 embedded digits: 64 pixels, of which three never vary."""
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32), labels.astype(np.int32)


def wide_digits() -> tuple[np.ndarray, np.ndarray]:
    """700 rectified mixtures of the pixels."""
    images, labels = digits()
    mixed = images @ np.random.default_rng(0).standard_normal((64, 700))
    return np.maximum(mixed, 0).astype(np.float32), labels


def split(features: np.ndarray, labels: np.ndarray) -> Parts:
    rows = {"train": slice(0, 900), "validation": slice(900, 1100), "test": slice(1100, None)}
    return {name: (features[part], labels[part]) for name, part in rows.items()}


def cloud(count: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images of six units around one point a class, the classes in turn."""
    labels = np.arange(count, dtype=np.int32) % classes
    noise = np.random.default_rng(seed).standard_normal((count, 6))
    return (noise + 2 * np.eye(classes, 6)[labels]).astype(np.float32), labels


@pytest.fixture
def clouds() -> Parts:
    return {"train": cloud(60, 0), "validation": cloud(30, 1), "test": cloud(30, 2)}


METHODS: dict[str, Callable[[Parts], dict[str, Any]]] = {
    "linear": methods.linear,
    "knn": methods.knn,
    "few_shot": lambda parts: methods.few_shot(parts, [1, 2], 3, 0),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Least:
    """scikit-learn's regression in float64, as weights of a softmax."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, strength: float) -> None:
        self.strength, self.labels = strength, labels
        self.scaler = StandardScaler().fit(features.astype(np.float64))
        self.features = self.scaler.transform(features.astype(np.float64))
        two = len(np.unique(labels)) == 2
        self.model = LogisticRegression(C=(2 if two else 1) / (strength * len(labels)), tol=1e-9, max_iter=50_000)
        self.model.fit(self.features, labels)
        weights, bias = self.model.coef_, self.model.intercept_
        self.weights, self.bias = (np.stack([-x[0], x[0]]) / 2 if two else x for x in (weights, bias))

    def objective(self, weights: Any, bias: Any) -> float:
        logarithms = log_softmax(self.features @ np.asarray(weights, np.float64).T + np.asarray(bias), axis=1)
        cross_entropy = -logarithms[np.arange(len(self.labels)), self.labels].mean()
        return cross_entropy + self.strength / 2 * np.sum(np.asarray(weights, np.float64) ** 2)


@pytest.mark.parametrize(
    ("data", "count", "classes"),
    [(digits, 900, 10), (wide_digits, 400, 10), (wide_digits, 100, 10), (digits, 300, 2), (wide_digits, 20, 2)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_fit_is_scikit_learns(data: Callable[[], tuple[np.ndarray, np.ndarray]], count: int, classes: int) -> None:
    features, labels = data()
    features, labels = features[labels < classes], labels[labels < classes]
    strengths = (10.0, 1e-1, 1e-3)
    found = logistic.fit(features[:count], labels[:count], strengths)
    assert found.converged
    for i, strength in enumerate(strengths):
        known = Least(features[:count], labels[:count], strength)
        theirs = known.objective(known.weights, known.bias)
        assert known.objective(found.weights[i], found.bias[i]) == pytest.approx(theirs, rel=1e-7)
        assert np.linalg.norm(found.weights[i] - known.weights) < 3e-4 * np.linalg.norm(known.weights)

        # Of unseen images the classes are the same, but for those that lie between two.
        unseen = known.scaler.transform(features[count:])
        ranked = np.sort(known.model.predict_proba(unseen), axis=1)
        clear = ranked[:, -1] - ranked[:, -2] > 1e-4
        assert clear.mean() > 0.98
        predicted = (unseen @ np.asarray(found.weights[i]).T + np.asarray(found.bias[i])).argmax(1)
        assert np.array_equal(predicted[clear], known.model.predict(unseen)[clear])


def test_measure_is_scikit_learns() -> None:
    features, labels = digits()
    known = Least(features[:900], labels[:900], 0.01)
    accuracy, top5, loss = logistic.measure(
        logistic.fit(features[:900], labels[:900], [0.01]), features[900:], labels[900:]
    )
    logarithms = known.model.predict_log_proba(known.scaler.transform(features[900:]))
    rank = (logarithms > logarithms[np.arange(897), labels[900:], None]).sum(1)
    assert accuracy[0] == pytest.approx((rank == 0).mean(), abs=1e-9)
    assert top5[0] == pytest.approx((rank < 5).mean(), abs=1e-9)
    assert loss[0] == pytest.approx(-logarithms[np.arange(897), labels[900:]].mean(), rel=1e-3)


def test_an_unknown_class_is_wrong_and_has_no_cross_entropy(clouds: Parts) -> None:
    classifiers = logistic.fit(*clouds["train"], [1.0])
    features, labels = clouds["test"]
    accuracy, top5, loss = logistic.measure(classifiers, features, labels)
    assert top5 == 1  # of three classes
    twice = np.concatenate([features, features]), np.concatenate([labels, np.full(30, 99, np.int32)])
    assert logistic.measure(classifiers, *twice) == pytest.approx(np.stack([accuracy / 2, top5 / 2, loss]), rel=1e-5)


def test_linear_chooses_on_validation_and_fits_on_both() -> None:
    parts = split(*digits())
    figures = methods.linear(parts)
    (train, labels), (validation, answers), (test, truth) = parts.values()
    tried = {}
    for strength in methods.STRENGTHS:
        known = Least(train, labels, strength)
        score = known.model.predict_log_proba(known.scaler.transform(validation))
        tried[strength] = np.mean(score.argmax(1) == answers), score[np.arange(200), answers].mean()
        assert figures["tried"][f"{strength:g}"] == pytest.approx(tried[strength][0], abs=1e-9)
    assert figures["strength"] == max(tried, key=tried.__getitem__)  # of equals that with the higher likelihood
    final = Least(np.concatenate([train, validation]), np.concatenate([labels, answers]), figures["strength"])
    hits = np.sum(final.model.predict(final.scaler.transform(test)) == truth)
    assert figures["accuracy"] == pytest.approx(hits / 697, abs=1e-9)
    assert (figures["count"], figures["train_count"], figures["classes"]) == (697, 1100, 10)
    assert figures["interval"] == pytest.approx(wilson(hits, 697), abs=1e-9)
    assert figures["converged"]
    assert figures["warnings"] == []


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson 1927: the shares p whose |hits / count - p| is at most z times sqrt(p (1 - p) / count)."""
    z = 1.959963984540054
    share, spread = hits / count, z**2 / count
    half = z * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    middle = (share + spread / 2) / (1 + spread)
    return middle - half, middle + half


def test_a_strength_at_an_end_is_told(clouds: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = methods.linear(clouds)
    assert inside["strength"] not in (methods.STRENGTHS[0], methods.STRENGTHS[-1])
    assert inside["warnings"] == []
    chosen = inside["strength"]
    for strengths, end in (((chosen, chosen / 10), "strongest"), ((chosen * 10, chosen), "weakest")):
        monkeypatch.setattr(methods, "STRENGTHS", strengths)
        figures = methods.linear(clouds)
        assert figures["strength"] == chosen
        (warning,) = figures["warnings"]
        assert f"{chosen:g}, is the {end} that was tried" in warning


def test_a_fit_that_has_not_converged_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "STEPS", 3)
    parts = split(*digits())
    parts["train"] = parts["train"][0][:777], parts["train"][1][:777]  # of a size that no other test has compiled
    figures = methods.linear(parts)
    assert not figures["converged"]
    assert figures["warnings"][-1] == "not every fit has converged in 3 steps"


@pytest.mark.parametrize(("others", "rows"), [(8192, 1024), (128, 64), (7, 13)])
def test_neighbours_are_scikit_learns(others: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "OTHERS", others)
    monkeypatch.setattr(neighbours, "ROWS", rows)
    random = np.random.default_rng(0)
    features, queries = (random.standard_normal((count, 30)).astype(np.float32) for count in (500, 70))
    labels = random.integers(0, 4, 500)
    similarities, places = neighbours.nearest(features, queries, 20)
    known = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(features, labels)
    distances, theirs = known.kneighbors(queries)
    assert np.array_equal(places, theirs)
    assert similarities == pytest.approx(1 - distances, abs=1e-6)
    votes = neighbours.vote(features, labels, queries, [1, 20])
    assert np.array_equal(votes[1], known.set_params(n_neighbors=1).predict(queries))
    shares = np.sort(known.set_params(n_neighbors=20).predict_proba(queries), axis=1)
    clear = shares[:, -1] > shares[:, -2]
    assert 40 < clear.sum() < 70
    assert np.array_equal(votes[20][clear], known.predict(queries)[clear])


def test_ties_go_to_the_more_similar_class() -> None:
    angles = np.radians([10, 80, 20, 30, -85])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    votes = neighbours.vote(features, np.array([3, 3, 9, 9, 5]), np.array([[1, 0]], np.float32), [1, 3, 4, 5])
    # Nearest first: 3, 9, 9, 3, 5; of four neighbours two each, and cos 20 + cos 30 > cos 10 + cos 80.
    assert {k: answer.tolist() for k, answer in votes.items()} == {1: [3], 3: [9], 4: [9], 5: [9]}


def test_zeros_are_similar_to_nothing() -> None:
    features = np.array([[0, 0], [1, 0], [-1, 0.1]], np.float32)
    similarities, places = neighbours.nearest(features, np.array([[1, 0], [0, 0]], np.float32), 3)
    assert places[0].tolist() == [1, 0, 2]
    assert similarities == pytest.approx(cosine_similarity([[1, 0], [0, 0]], features)[[[0], [1]], places], abs=1e-6)
    assert similarities[1].tolist() == [0, 0, 0]


def test_knn_chooses_k_on_validation_and_compares_with_both() -> None:
    random = np.random.default_rng(0)
    parts = {
        name: cloud(count, seed)
        for seed, (name, count) in enumerate({"train": 150, "validation": 90, "test": 80}.items())
    }
    noisy = {
        name: (features + random.standard_normal(features.shape).astype(np.float32), labels)
        for name, (features, labels) in parts.items()
    }
    figures = methods.knn(noisy)
    (train, labels), (validation, answers), (test, truth) = noisy.values()

    def accuracy(
        images: list[np.ndarray], classes: list[np.ndarray], queries: np.ndarray, right: np.ndarray, k: int
    ) -> float:
        similar = cosine_similarity(queries, np.concatenate(images))
        known = np.concatenate(classes)
        hits = 0
        for row, answer in zip(similar, right, strict=True):
            near = np.argsort(-row)[:k]
            votes = [(np.sum(known[near] == label), row[near][known[near] == label].sum()) for label in range(3)]
            hits += max(range(3), key=votes.__getitem__) == answer
        return hits / len(right)

    tried = {k: accuracy([train], [labels], validation, answers, k) for k in (1, 3, 5, 10, 20, 50, 100)}
    assert figures["tried"] == {str(k): pytest.approx(share) for k, share in tried.items()}
    assert tried[figures["k"]] == max(tried.values())
    tested = accuracy([train, validation], [labels, answers], test, truth, figures["k"])
    assert figures["accuracy"] == pytest.approx(tested)
    assert figures["train_count"] == 240
    assert figures["interval"] == pytest.approx(wilson(round(80 * tested), 80), abs=1e-9)


def test_few_shot_is_scikit_learns_on_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = split(*digits())
    fitted: list[tuple[np.ndarray, np.ndarray]] = []
    fit = logistic.fit
    monkeypatch.setattr(
        methods,
        "fit",
        lambda features, labels, strengths: fitted.append((features, labels)) or fit(features, labels, strengths),
    )
    figures = methods.few_shot(parts, [5, 2], 4, 1)
    (train, _), (validation, answers), (test, truth) = parts.values()
    assert [size["images_per_class"] for size in figures["shots"]] == [2, 5]
    for size, final in zip(figures["shots"], (fitted[4:8], fitted[12:16]), strict=True):
        chosen, accuracies = [], []
        for features, labels in final:
            assert np.bincount(labels).tolist() == [size["images_per_class"]] * 10
            assert len(np.unique(features, axis=0)) == len(features)  # no image twice
            assert all((train == image).all(1).any() for image in features)
            known = Least(features, labels, size["strength"])
            chosen.append(np.mean(known.model.predict(known.scaler.transform(validation)) == answers))
            accuracies.append(np.mean(known.model.predict(known.scaler.transform(test)) == truth))
        assert len({features.tobytes() for features, _ in final}) == 4  # other images in each draw
        assert size["accuracy"] == pytest.approx(np.mean(accuracies), abs=2e-3)
        assert (size["lowest"], size["highest"]) == pytest.approx((min(accuracies), max(accuracies)), abs=5e-3)
        interval = stats.ttest_1samp(accuracies, 0.5).confidence_interval(0.95)
        assert size["interval"] == pytest.approx((interval.low, interval.high), abs=1e-2)
        assert size["tried"][f"{size['strength']:g}"] == max(size["tried"].values())
        assert max(size["tried"].values()) == pytest.approx(np.mean(chosen), abs=2e-3)
        assert size["converged"]
    assert figures["accuracy"] == figures["shots"][-1]["accuracy"]
    assert figures["interval"] == figures["shots"][-1]["interval"]
    assert figures["shots"][1]["accuracy"] > figures["shots"][0]["accuracy"]
    assert (figures["count"], figures["classes"]) == (697, 10)


def test_draws_depend_on_the_seed_and_their_size_alone(clouds: Parts) -> None:
    def of_three(shots: list[int], seed: int) -> dict[str, Any]:
        return next(size for size in methods.few_shot(clouds, shots, 5, seed)["shots"] if size["images_per_class"] == 3)

    assert of_three([3], 0) == of_three([1, 3, 4], 0)
    assert of_three([3], 0)["accuracy"] != of_three([3], 1)["accuracy"]


@every_method
def test_figures_are_json_and_labels_any_numbers(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    figures = method(clouds)
    assert json.loads(json.dumps(figures)) == figures
    assert {"count", "accuracy", "interval", "classes", "warnings"} <= figures.keys()
    low, high = figures["interval"]
    assert 0 <= low <= figures["accuracy"] <= high <= 1
    assert figures["accuracy"] > 0.6
    renamed = {
        name: (features, np.array([7, 70, 500], np.int32)[labels]) for name, (features, labels) in clouds.items()
    }
    assert method(renamed) == figures


@every_method
def test_only_directions_count_and_sizes_do_not(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    figures = method(clouds)
    for scale in (1e-30, 1e20, 5e37):  # squares of the latter are above float32
        scaled = {name: (features * np.float32(scale), labels) for name, (features, labels) in clouds.items()}
        assert method(scaled)["accuracy"] == pytest.approx(figures["accuracy"], abs=1e-9)


@every_method
def test_features_that_say_nothing_are_a_guess(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    for value in (0.0, 0.1, 1e20):
        constant = {name: (np.full_like(features, value), labels) for name, (features, labels) in clouds.items()}
        figures = method(constant)
        assert figures["accuracy"] == pytest.approx(1 / 3)
        assert figures.get("converged", True)


def test_a_unit_that_never_varied_is_left_out(clouds: Parts) -> None:
    # 0.1 and what rounding makes of it, in training; anything in the test.
    random = np.random.default_rng(0)
    beside = {
        name: random.choice([0.1, np.nextafter(np.float32(0.1), 1)], (len(labels), 1))
        for name, (_, labels) in clouds.items()
    }
    beside["test"] = 1e6 * random.standard_normal((30, 1))
    more = {
        name: (np.hstack([features, beside[name].astype(np.float32)]), labels)
        for name, (features, labels) in clouds.items()
    }
    plain, dull = methods.linear(clouds), methods.linear(more)
    assert dull["tried"] == pytest.approx(plain["tried"])
    assert dull["accuracy"] == plain["accuracy"]


@pytest.mark.parametrize("method", [methods.linear, methods.knn])
def test_an_image_far_from_all_others_does_no_harm(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    small = {name: (features / 1000, labels) for name, (features, labels) in clouds.items()}
    features, labels = small["test"]
    far = np.array([[3e38, -3e38, 3e38, -3e38, 0, 0]], np.float32)
    beside = np.concatenate([features, far]), np.append(labels, np.int32(0))
    assert method(small | {"test": beside})["accuracy"] == pytest.approx(method(small)["accuracy"], abs=1 / 31)
    assert np.isfinite(logistic.measure(logistic.fit(*small["train"], [1.0]), *beside)).all()


@pytest.mark.parametrize("method", [methods.linear, methods.knn])
def test_a_class_that_training_lacks_counts_as_wrong(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    lacking = {name: (features[labels != 2], labels[labels != 2]) for name, (features, labels) in clouds.items()}
    figures = method(lacking | {"test": clouds["test"]})
    assert figures["accuracy"] == pytest.approx(method(lacking)["accuracy"] * 20 / 30)
    assert figures["classes"] == 2
    assert figures["warnings"] == ["10 test images are of classes without a training image, and count as wrong"]


@every_method
def test_one_test_image_is_enough(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    for seed in range(3, 9):
        figures = method(clouds | {"test": cloud(1, seed)})
        assert figures["count"] == 1
        low, high = figures["interval"]
        assert 0 <= low <= figures["accuracy"] <= high <= 1


def test_one_training_image_a_class_is_enough(clouds: Parts) -> None:
    few = clouds | {"train": cloud(3, 0), "validation": cloud(3, 1)}
    assert methods.linear(few)["train_count"] == 6
    assert methods.knn(few)["tried"].keys() == {"1", "3"}  # no more neighbours than there are
    assert methods.few_shot(few, [1], 2, 0)["interval"][0] == methods.few_shot(few, [1], 2, 0)["accuracy"]


@every_method
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_what_cannot_be_used_is_named(clouds: Parts, method: Callable[[Parts], dict[str, Any]], name: str) -> None:
    with pytest.raises(UserError, match=f"^{name}: the store has no such images, and a probe needs them; extract"):
        method({other: part for other, part in clouds.items() if other != name})
    with pytest.raises(UserError, match=f"^{name}: the store has no such images"):
        method(clouds | {name: (np.zeros((0, 6), np.float32), np.zeros(0, np.int32))})
    for value in (np.nan, np.inf, -np.inf):
        features = clouds[name][0].copy()
        features[17, 3] = value
        with pytest.raises(UserError, match=f"^{name}: row 17 of the activations holds NaN or Inf; .*finite network$"):
            method(clouds | {name: (features, clouds[name][1])})


@every_method
def test_one_class_is_refused(clouds: Parts, method: Callable[[Parts], dict[str, Any]]) -> None:
    features, labels = clouds["train"]
    with pytest.raises(UserError, match=r"^train: all images are of class 1; store some of another one too$"):
        method(clouds | {"train": (features[labels == 1], labels[labels == 1])})


def test_few_shot_says_what_is_too_few(clouds: Parts) -> None:
    with pytest.raises(UserError, match=r"^--shots=21: class 0 has 20 training images; draw fewer or store more$"):
        methods.few_shot(clouds, [1, 21], 2, 0)
    features, labels = clouds["train"]
    lacking = clouds | {"train": (features[labels != 2], labels[labels != 2])}
    with pytest.raises(
        UserError, match=r"^--shots=1: class 2 \(bees\) has 0 training images; draw fewer or store more$"
    ):
        methods.few_shot(lacking, [1], 2, 0, ["ants", "wasps", "bees"])
    for shots in ([], [0], [3, -1]):
        with pytest.raises(UserError, match=r"^--shots=.*: must be images a class, 1 or more"):
            methods.few_shot(clouds, shots, 2, 0)
    for draws in (0, 1):
        with pytest.raises(UserError, match=f"^--draws={draws}: must be 2 or more"):
            methods.few_shot(clouds, [1], draws, 0)
