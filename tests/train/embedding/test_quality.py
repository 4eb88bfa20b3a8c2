"""Figures of maps against scikit-learn's."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from train.embedding import quality


def left_out(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    return float(np.mean(cross_val_predict(KNeighborsClassifier(k), points, labels, cv=LeaveOneOut()) == labels))


@pytest.mark.parametrize("count", [4, 9, 40])
def test_figures_are_scikit_learns(count: int) -> None:
    random = np.random.default_rng(count)
    labels = np.array([3, 5, 9])[np.arange(count) % 3]
    activations = (random.standard_normal((count, 20)) + 0.3 * labels[:, None]).astype(np.float32)
    maps = {"first": activations[:, :2], "noise": random.standard_normal((count, 2)).astype(np.float32)}
    found = quality.measure(activations, maps, labels)
    k = min(5, (count - 1) // 2)
    for name, points in maps.items():
        figures = found[name]
        assert figures.neighbours == k
        assert figures.trustworthiness == pytest.approx(trustworthiness(activations, points, n_neighbors=k), abs=1e-12)
        assert figures.knn_activations == pytest.approx(left_out(activations, labels, k), abs=1e-12)
        assert figures.knn_map == pytest.approx(left_out(points, labels, k), abs=1e-12)
        assert figures.silhouette_activations == pytest.approx(silhouette_score(activations, labels), abs=1e-5)
        assert figures.silhouette_map == pytest.approx(silhouette_score(points, labels), abs=1e-5)


def test_rows_may_come_in_many_parts(monkeypatch) -> None:
    import sklearn.metrics

    whole = sklearn.metrics.pairwise_distances_chunked

    def in_parts(points, *, reduce_func, working_memory):
        return whole(points, reduce_func=reduce_func, working_memory=3 * len(points) * 8 / 2**20)

    random = np.random.default_rng(0)
    activations, labels = random.standard_normal((40, 6)), np.arange(40) % 4
    maps = {"some": activations[:, 1:3]}
    expected = quality.measure(activations, maps, labels)
    monkeypatch.setattr(sklearn.metrics, "pairwise_distances_chunked", in_parts)
    assert quality.measure(activations, maps, labels) == expected


def test_a_map_that_is_the_activations_is_trusted_wholly() -> None:
    points = np.random.default_rng(0).standard_normal((50, 2))
    figures = quality.measure(points, {"itself": points}, np.arange(50) % 2)["itself"]
    assert figures.trustworthiness == 1
    assert figures.knn_map == figures.knn_activations
    assert figures.silhouette_map == figures.silhouette_activations


@pytest.mark.parametrize("labels", [np.zeros(6, np.int32), np.arange(6)])
def test_classes_that_cannot_be_compared_have_no_silhouette(labels: np.ndarray) -> None:
    points = np.random.default_rng(0).standard_normal((6, 2))
    figures = quality.measure(points, {"map": points}, labels)["map"]
    assert figures.silhouette_map is None
    assert figures.silhouette_activations is None


def test_images_that_are_all_the_same_are_counted_like_any() -> None:
    same = np.ones((12, 3), np.float32)
    figures = quality.measure(same, {"map": np.zeros((12, 2), np.float32)}, np.arange(12) % 2)["map"]
    assert (figures.trustworthiness, figures.silhouette_map) == (1, 0)
