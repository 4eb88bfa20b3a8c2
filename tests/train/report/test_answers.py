"""What a network answers, against products by hand."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import softmax

from tests.train.report import photos
from train import devices, network, settings
from train.data import dataset
from train.data.photos import Photos
from train.report.answers import Answers, make_answerer


@pytest.mark.parametrize("batch_size", [1, 7, 360, 500])
def test_answers_are_the_networks(config: ConfigDict, batch_size: int) -> None:
    config.evaluate.batch_size = batch_size
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    assert not isinstance(test, Photos)
    described = network.build(config, jax.random.key(0))
    graph, params, stats = described
    answers = make_answerer(graph, config, devices.make_mesh(1))(params, stats, test)
    pixels = (test.images / 255 - config.dataset.mean[0]) / config.dataset.std[0]
    hidden = np.maximum(pixels.reshape(len(pixels), -1) @ np.asarray(params["hidden1"]["kernel"]), 0)
    probabilities = softmax(hidden @ np.asarray(params["output"]["kernel"]), axis=1)
    np.testing.assert_allclose(answers.features, hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answers.probabilities, probabilities, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(answers.labels, test.labels)
    assert [array.dtype for array in (answers.labels, answers.taken_for)] == [np.int32, np.int32]
    assert [array.dtype for array in (answers.probabilities, answers.features)] == [np.float32, np.float32]


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
    answer = make_answerer(graph, config, devices.make_mesh(1))
    streamed = answer(params, stats, test)
    decoded = answer(params, stats, test.middles(28, "bilinear", 0.875))
    assert streamed.features.shape == (5, 84)
    for name in ("labels", "probabilities", "features"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(decoded, name))


def test_of_equally_probable_classes_the_first_is_taken() -> None:
    answers = Answers(
        np.array([1, 0, 2], np.int32), np.array([[0.4, 0.4, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]), np.zeros((3, 1))
    )
    assert answers.taken_for.tolist() == [0, 1, 2]
    assert answers.right.tolist() == [False, False, True]
