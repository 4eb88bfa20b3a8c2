"""Maps against scikit-learn, SciPy and turned copies of themselves."""

import sys

import numpy as np
import pytest
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from train.embedding import projection
from train.errors import UserError


def clouds(count: int = 90, units: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return activations of three classes that are far apart, and labels."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    middles = 8 * random.standard_normal((3, units))
    return (middles[labels] + random.standard_normal((count, units))).astype(np.float32), labels


def turned(points: np.ndarray, angle: float, *, mirrored: bool) -> np.ndarray:
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points @ matrix * ((-1, 1) if mirrored else (1, 1)) + (3, -7)).astype(np.float32)


def test_principal_components_are_scikit_learns() -> None:
    activations, _ = clouds()
    expected = PCA(2, svd_solver="full").fit_transform(activations.astype(np.float64))
    found = projection.pca(activations)
    assert found.dtype == np.float32
    for column in range(2):
        sign = np.sign(found[:, column] @ expected[:, column])
        np.testing.assert_allclose(sign * found[:, column], expected[:, column], atol=1e-3)


@pytest.mark.parametrize("activations", [np.ones((7, 4), np.float32), np.zeros((3, 1), np.float32)])
def test_activations_that_are_all_the_same_lie_in_one_place(activations: np.ndarray) -> None:
    np.testing.assert_array_equal(projection.pca(activations), np.zeros((len(activations), 2)))


def test_one_unit_makes_a_line() -> None:
    found = projection.pca(np.array([[1.0], [2.0], [6.0]], np.float32))
    np.testing.assert_array_equal(found[:, 1], np.zeros(3))
    np.testing.assert_allclose(np.abs(found[:, 0]), [2, 1, 3], rtol=1e-6)


@pytest.mark.parametrize("installed", [True, False])
def test_tsne_keeps_classes_together_and_repeats_itself(monkeypatch, installed: bool) -> None:
    if installed:
        pytest.importorskip("openTSNE")
    else:
        monkeypatch.setitem(sys.modules, "openTSNE", None)
    activations, labels = clouds()
    found = projection.tsne(activations, 10)
    assert (found.shape, found.dtype) == ((90, 2), np.float32)
    assert trustworthiness(activations, found) > 0.9
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(labels[distances.argmin(1)], labels)
    np.testing.assert_array_equal(projection.tsne(activations, 10), found)


@pytest.mark.slow  # a minute where other processes have the cores, for the jobs wait for one another in a circle
def test_interpolation_with_all_jobs_repeats_itself(monkeypatch) -> None:
    pytest.importorskip("openTSNE")
    monkeypatch.setattr(projection, "_BARNES_HUT", 50)
    activations, _ = clouds()
    np.testing.assert_array_equal(projection.tsne(activations, 5), projection.tsne(activations, 5))


def test_a_map_that_begins_as_another_lies_as_that_does() -> None:
    activations, _ = clouds()
    before = turned(projection.tsne(activations, 10), 2.0, mirrored=True)
    begun = projection.tsne(activations, 10, init=before)
    alone = projection.tsne(activations, 10)

    def apart(points: np.ndarray) -> float:
        return float(np.abs(points - (before - before.mean(0))).mean())

    assert apart(begun) < 0.5 * apart(alone)


def test_activations_that_are_all_the_same_have_a_map() -> None:
    assert np.isfinite(projection.tsne(np.ones((20, 60), np.float32), 3)).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_map_is_turned_back(mirrored: bool) -> None:
    points = np.random.default_rng(1).standard_normal((30, 2)).astype(np.float32)
    back = projection.align(turned(points, 1.0, mirrored=mirrored), points)
    np.testing.assert_allclose(back, points - points.mean(0), atol=1e-5)


def test_maps_that_differ_are_turned_as_scipy_turns_them_and_keep_their_distances() -> None:
    random = np.random.default_rng(2)
    onto = random.standard_normal((40, 2))
    points = turned(onto, 2.5, mirrored=True) + 0.3 * random.standard_normal((40, 2))
    found = projection.align(points, onto)
    _, expected, _ = procrustes(onto, points)
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(points - points.mean(0)), rtol=1e-5)


def test_a_perplexity_takes_three_times_as_many_neighbours() -> None:
    assert projection.checked_perplexity(91, 30) == 30
    with pytest.raises(UserError, match=r"--perplexity=30 takes 91 points or more, and there are 90; --perplexity=29"):
        projection.checked_perplexity(90, 30)
    assert projection.checked_perplexity(90, 30, lower=True) == 29
    assert projection.checked_perplexity(7, 30, lower=True) == 2
    with pytest.raises(UserError, match="t-SNE takes 7 points or more, and there are 6; --method=pca takes 3"):
        projection.checked_perplexity(6, 2, lower=True)


@pytest.mark.parametrize("perplexity", [float("inf"), float("nan")])
def test_a_perplexity_is_a_number(perplexity: float) -> None:
    with pytest.raises(UserError, match=rf"--perplexity={perplexity}: must be finite"):
        projection.checked_perplexity(1000, perplexity)
