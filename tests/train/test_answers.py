"""What a network answers, against products by hand."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.spatial.distance import pdist
from scipy.special import softmax

import train.answers
from tests.train.report import photos
from train import devices, network, settings
from train.answers import Answers, chosen_stages, make_answerer
from train.data import dataset
from train.data.activations import Activations
from train.data.photos import Photos
from train.errors import UserError


@pytest.mark.parametrize("batch_size", [1, 7, 360, 500])
def test_answers_are_the_networks(config: ConfigDict, batch_size: int) -> None:
    config.evaluate.batch_size = batch_size
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    assert not isinstance(test, Photos)
    described = network.build(config, jax.random.key(0))
    graph, params, stats = described
    answers = make_answerer(graph, config, devices.make_mesh(1), ("pixels", "hidden1"))(params, stats, test)
    pixels = (test.images / 255 - config.dataset.mean[0]) / config.dataset.std[0]
    hidden = np.maximum(pixels.reshape(len(pixels), -1) @ np.asarray(params["hidden1"]["kernel"]), 0)
    probabilities = softmax(hidden @ np.asarray(params["output"]["kernel"]), axis=1)
    np.testing.assert_allclose(answers.activations["hidden1"], hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answers.activations["pixels"], pixels.reshape(len(pixels), -1), rtol=1e-4, atol=1e-4)
    assert answers.activations.keys() == {"pixels", "hidden1"}
    assert answers.extremes.keys() == {"hidden1", "output"}
    np.testing.assert_allclose(answers.extremes["hidden1"], [hidden.min(0), hidden.max(0)], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answers.probabilities, probabilities, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answers.labels, test.labels)
    assert [array.dtype for array in (answers.labels, answers.taken_for)] == [np.int32, np.int32]
    assert [array.dtype for array in (answers.probabilities, answers.activations["hidden1"])] == [
        np.float32,
        np.float32,
    ]


def test_photos_are_shown_as_their_middles(config: ConfigDict, tmp_path) -> None:
    root = photos.folder_of(tmp_path / "photos", train=12, test=5)
    config.dataset.update(source=f"folder:{root}", image_size=16, crop=0.875, validation=0.0)
    config.model.update(name="lenet5", hidden=None)
    config.dataset.image_size = 28
    config.evaluate.batch_size = 2
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    assert isinstance(test, Photos)
    graph, params, stats = network.build(config, jax.random.key(0))
    answer = make_answerer(graph, config, devices.make_mesh(1), chosen_stages(config))
    streamed = answer(params, stats, test)
    decoded = answer(params, stats, test.middles(28, "bilinear", 0.875))
    assert {name: values.shape for name, values in streamed.activations.items()} == {"F6": (5, 84)}
    for name in ("labels", "probabilities"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(decoded, name))
    np.testing.assert_array_equal(streamed.activations["F6"], decoded.activations["F6"])
    assert {name: values.shape for name, values in streamed.extremes.items()} == {
        **{"C1": (2, 6), "S2": (2, 6), "C3": (2, 16), "S4": (2, 16)},
        **{"C5": (2, 120), "F6": (2, 84), "output": (2, 2)},
    }
    for name, values in streamed.extremes.items():
        np.testing.assert_array_equal(values, decoded.extremes[name])


def test_of_equally_probable_classes_the_first_is_taken() -> None:
    answers = Answers(
        np.array([1, 0, 2], np.int32), np.array([[0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]), {}, (), {}
    )
    assert answers.taken_for.tolist() == [0, 1, 2]
    assert answers.right.tolist() == [False, False, True]


def test_stages_by_name(config: ConfigDict) -> None:
    config.model.update(name="lenet5", hidden=None)
    config.dataset.image_size = 28
    settings.resolve(config)
    dataset.load(config.dataset)
    everything = ("pixels", "C1", "S2", "C3", "S4", "C5", "F6", "output")
    assert chosen_stages(config) == ("F6",)
    assert chosen_stages(config, ["all"]) == everything
    assert chosen_stages(config, ["F6", "pixels", "C3", "F6"]) == ("pixels", "C3", "F6")
    with pytest.raises(UserError, match="lenet5 has no stage 'c3'; it has pixels, C1, S2, C3, S4, C5, F6, output"):
        chosen_stages(config, ["c3"])


def test_many_units_are_folded_so_that_distances_stay(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count sketch keeps squared distances within a few times sqrt(2 / 9,216), here 1.5 %."""
    config.dataset.update(source="digits", image_size=112)
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    assert not isinstance(test, Photos | Activations)
    some = test.take(np.arange(40))
    graph, params, stats = network.build(config, jax.random.key(0))
    answer = make_answerer(graph, config, devices.make_mesh(1), ("pixels", "hidden1"))
    answers = answer(params, stats, some)
    assert answers.folded == ()
    whole = (some.images.reshape(40, -1) / 255 - config.dataset.mean[0]) / config.dataset.std[0]
    np.testing.assert_allclose(answers.activations["pixels"], whole, rtol=1e-4, atol=1e-4)
    # 40 images, 2 stages, 4 bytes: so there is room for 112x112 units less one.
    monkeypatch.setattr(train.answers, "_MOST_BYTES", 40 * 2 * 4 * (112**2 - 1))
    answers = answer(params, stats, some)
    assert answers.folded == ("pixels",)
    folded = answers.activations["pixels"]
    assert folded.shape == (40, 9216)
    assert answers.activations["hidden1"].shape == (40, 16)
    ratios = (pdist(folded) / pdist(whole)) ** 2
    assert np.abs(ratios - 1).max() < 0.1
    assert abs(ratios.mean() - 1) < 0.02
