import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from train import devices, network, settings
from train.data import dataset
from train.evaluate import make_eval_step, make_evaluator


@pytest.mark.parametrize("batch_size", [1, 7, 360, 500])
def test_every_image_counts_once(config: ConfigDict, batch_size: int) -> None:
    config.evaluate.batch_size = batch_size
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    graph, params, stats = network.build(config, jax.random.key(0))
    pixels = (test.images / 255 - config.dataset.mean[0]) / config.dataset.std[0]
    hidden = np.maximum(pixels.reshape(len(pixels), -1) @ params["hidden1"]["kernel"], 0)
    logits = np.asarray(hidden @ params["output"]["kernel"])
    right = logits[np.arange(len(logits)), test.labels]
    rank = (logits > right[:, None]).sum(-1)
    expected = {
        "loss": (np.log(np.exp(logits).sum(-1)) - right).mean(),
        "accuracy": (rank == 0).mean(),
        "top5_accuracy": (rank < 5).mean(),
        "count": 360,
    }
    figures = make_evaluator(graph, config, devices.make_mesh(1))(params, stats, test)
    assert figures == pytest.approx(expected, rel=1e-5)


def test_top5_of_fewer_classes_is_all(config: ConfigDict) -> None:
    settings.resolve(config)
    data = dataset.load(config.dataset)
    config.dataset.class_names = ("zero", "one", "two")
    config.dataset.classes = 3
    few = data.test.take(np.flatnonzero(data.test.labels < 3))
    graph, params, stats = network.build(config, jax.random.key(0))
    figures = make_evaluator(graph, config, devices.make_mesh(1))(params, stats, few)
    assert figures["top5_accuracy"] == 1
    assert figures["accuracy"] < 1


def test_narrow_kernels_answer_as_wide_ones_do(config: ConfigDict) -> None:
    config.model.update(name="lenet5", hidden=None)
    config.dataset.image_size = 32
    config.precision = "bfloat16"
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    graph, params, stats = network.build(config, jax.random.key(0))
    narrow = network.narrowed(params, "bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow)} == {"bfloat16", "float32"}
    step = devices.jit(make_eval_step(graph, config), "bfloat16")
    counted = np.ones(test.total, bool)
    assert jax.device_get(step(params, stats, *test, counted)) == jax.device_get(step(narrow, stats, *test, counted))
    assert network.narrowed(params, "float32") is params
