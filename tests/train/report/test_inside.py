"""What is inside a network: filters as they are, units that never change."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from models import NETWORKS
from tests.train.pages.test_drawing import image_of
from train import devices, network, settings
from train.answers import make_answerer
from train.data import dataset
from train.data.examples import Examples
from train.data.transforms import normalise
from train.pages import drawing
from train.report import inside

MODELS = [
    {"name": "lenet5", "variant": "modern"},
    {"name": "lenet5", "variant": "1998"},
    {"name": "lenet1d"},
    {"name": "mlp"},
    {"name": "alexnet", "variant": "2012"},
    pytest.param({"name": "vgg", "variant": "A"}, marks=pytest.mark.slow, id="vgg-A"),
]


def given(config: ConfigDict, model: dict[str, Any], size: int) -> tuple[ConfigDict, network.Described, Examples]:
    config.model.hidden = None
    config.model.update(model)
    config.dataset.image_size = size
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    assert isinstance(test, Examples)
    return config, network.build(config, jax.random.key(0)), test


def test_units_that_were_killed_are_found(config: ConfigDict) -> None:
    config, (graph, params, stats), test = given(config, {"name": "lenet5"}, 32)
    params["C3"]["bias"] = params["C3"]["bias"].at[jax.numpy.array([2, 5])].set(-1e4)
    params["F6"]["bias"] = params["F6"]["bias"].at[7].set(-1e4)
    answers = make_answerer(graph, config, devices.make_mesh(1), ())(params, stats, test)
    found = inside.silence(answers)
    assert [(stage.stage, stage.units) for stage in found] == [
        *(("C1", 6), ("S2", 6), ("C3", 16), ("S4", 16)),
        *(("C5", 120), ("F6", 84)),
    ]
    by_name = {stage.stage: stage.silent.tolist() for stage in found}
    assert {2, 5} <= set(by_name["C3"])
    assert by_name["C3"] == by_name["S4"]
    assert 7 in by_name["F6"]
    assert by_name["C1"] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model['name']}-{model.get('variant')}")
def test_every_network_has_filters_and_maps(config: ConfigDict, model: dict[str, Any]) -> None:
    size = {"alexnet": 67, "vgg": 32}.get(model["name"], 32)
    config, described, test = given(config, model, size)
    pictures = inside.filters(described, config)
    sides = {"lenet5": (5, 5), "mlp": (32, 32), "alexnet": (11, 11), "vgg": (3, 3)}
    if model["name"] in sides:
        assert {picture.shape for picture in pictures} == {(*sides[model["name"]], 1)}
    made = inside.maps(described, config, test.images[0])
    variant = config.model.variant
    whole = nnx.eval_shape(lambda: NETWORKS[model["name"]][variant](rngs=nnx.Rngs(0)))
    assert [name for name, _ in made] == [stage.name for stage in whole.plan]
    with drawing.plain() as new:
        assert np.ptp(image_of(inside.draw_filters(pictures, new))) > 200
        shown = image_of(inside.draw_maps(test.images[0], made, new))
        blank = image_of(inside.draw_maps(test.images[0], [(name, np.zeros_like(map)) for name, map in made], new))
    assert shown.shape == blank.shape
    assert (shown != blank).any(-1).mean() > 0.1


def test_filters_of_colour_are_rgb(config: ConfigDict) -> None:
    """A network that takes BGR has its first filter's blue in channel 0."""
    config.model.update(name="lenet5", hidden=None)
    config.dataset.update(image_size=32, channels=3, classes=10, channel_order="BGR")
    settings.resolve(config)
    graph, params, stats = network.build(config, jax.random.key(0))
    params["C1"]["kernel"] = np.zeros((5, 5, 3, 6), np.float32)
    params["C1"]["kernel"][:, :, 0] = 1
    pictures = inside.filters((graph, params, stats), config)
    np.testing.assert_array_equal(pictures[0][..., 2], 1)
    np.testing.assert_array_equal(pictures[0][..., :2], 0)
    with drawing.plain() as new:
        shown = image_of(inside.draw_filters(pictures, new))
    blue = (shown[..., 2] > 240) & (np.abs(shown[..., 0].astype(int) - 128) < 3)
    assert blue.mean() > 0.5


def test_a_perceptrons_filters_lie_as_the_image_does_whatever_order_it_sees(config: ConfigDict) -> None:
    """The gradient of its first unit in the image is that filter."""
    config.dataset.permutation = 5
    config, (graph, params, stats), _ = given(config, {"name": "mlp"}, 8)

    def first_unit(image: jax.Array) -> jax.Array:
        seen = normalise(image, config.dataset)
        return seen.reshape(-1) @ params["hidden1"]["kernel"][:, 0]

    gradient = np.asarray(jax.grad(first_unit)(jax.numpy.zeros((1, 8, 8, 1))))[0]
    found = inside.filters((graph, params, stats), config)[0]
    np.testing.assert_allclose(found, gradient * 255 * config.dataset.std[0], rtol=1e-3, atol=1e-5)
