"""The recipes for ImageNet: what the papers say stands in them."""

import pytest
from ml_collections import ConfigDict

from configs import alexnet_imagenet, transfer_tiny_imagenet, vgg16_imagenet
from train import network, settings

# Published: parameters with 1,000 classes.
PARAMETERS = {
    "alexnet:2012": 60_965_224,
    "alexnet:torchvision": 61_100_840,
    "alexnet:modern": 61_100_840,
    "vgg16:paper": 138_357_544,
    "vgg16:net_a": 132_863_336,
    "vgg16:torchvision": 138_357_544,
    "vgg16:batch_norm": 138_365_992,
    "vgg16:modern": 138_365_992,
}


def of(name: str) -> ConfigDict:
    model, _, form = name.partition(":")
    config = {"alexnet": alexnet_imagenet, "vgg16": vgg16_imagenet}[model].get_config(form)
    settings.resolve(config)
    config.dataset.update(classes=1000, channels=3)
    return config


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_are_the_published_ones(name: str) -> None:
    config = of(name)
    assert network.count_parameters(network.describe(config)[1]) == PARAMETERS[name]
    assert config.dataset.stream, "photos are decoded as they are needed"


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "epochs", "falls"),
    [
        ("alexnet:2012", 128, 0.01, 5e-4, 90, 3),
        ("alexnet:torchvision", 256, 0.01, 1e-4, 90, 2),
        ("vgg16:paper", 256, 0.01, 5e-4, 74, 3),
        ("vgg16:torchvision", 256, 0.01, 1e-4, 90, 2),
        ("vgg16:batch_norm", 256, 0.1, 1e-4, 90, 2),
    ],
)
def test_recipes_are_the_published_ones(
    name: str, batch: int, rate: float, decay: float, epochs: int, falls: int
) -> None:
    config = of(name)
    assert (config.train.batch_size, config.schedule.learning_rate, config.train.epochs) == (batch, rate, epochs)
    assert (config.optimizer.momentum, config.optimizer.nesterov, config.optimizer.weight_decay) == (0.9, False, decay)
    assert (config.schedule.name, config.schedule.factor, len(config.schedule.milestones)) == ("step", 0.1, falls)


def test_an_unknown_form_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"configs/alexnet_imagenet.py:2013: must be one of 2012, torchvision, modern"):
        alexnet_imagenet.get_config("2013")
    with pytest.raises(ValueError, match=r"'scratch7': must be one of fifteen, scratch5"):
        transfer_tiny_imagenet.get_config("scratch7")
    with pytest.raises(ValueError, match=r"vgg16_imagenet\.py:batchnorm: must be one of paper, net_a"):
        vgg16_imagenet.get_config("batchnorm")
