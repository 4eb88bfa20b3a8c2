"""Published figures stand beside runs of the same network on the same data, and beside no other."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from train import settings
from train.data import dataset
from train.report.published import figures

SIZES = {"lenet5": 32, "alexnet": 227}


def of(config: ConfigDict, name: str, variant: str | None, source: str, fingerprint: str = "") -> list[float]:
    config.model.update(name=name, variant=variant, hidden=None)
    config.dataset.image_size = SIZES.get(name, 224)
    settings.resolve(config)
    return [figure.accuracy for figure in figures(config, {"source": source, "fingerprint": fingerprint})]


def test_mnist_is_known_wherever_it_lies(config: ConfigDict, real_data: Path) -> None:
    config.dataset.update(source=f"idx:{real_data}/mnist", image_size=32, validation=0.0)
    config.model.update(name="lenet5", hidden=None)
    settings.resolve(config)
    fingerprint = dataset.load(config.dataset).fingerprint
    assert of(config, "lenet5", "modern", "idx:anywhere", fingerprint) == [0.9905, 0.992]
    config.dataset.permutation = 3
    assert of(config, "lenet5", "modern", "idx:anywhere", fingerprint) == []


@pytest.mark.parametrize(
    ("name", "variant", "source", "expected"),
    [
        ("lenet5", "1998", "tfds:mnist", [0.9905, 0.992]),
        ("lenet5", "modern", "tfds:fashion_mnist", []),
        ("lenet5", "modern", "digits", []),
        ("mlp", None, "tfds:mnist", []),
        ("alexnet", "2012", "tfds:imagenet2012:5.1.0", [0.593]),
        ("vgg", "D", "tfds:imagenet2012", [0.73, 0.71592]),
        ("vgg16", None, "tfds:imagenet2012", [0.73, 0.71592]),
        ("vgg", "A", "tfds:imagenet2012", []),
    ],
)
def test_by_name(config: ConfigDict, name: str, variant: str, source: str, expected: list[float]) -> None:
    assert of(config, name, variant, source) == expected


def test_another_size_or_another_layer_is_another_network(config: ConfigDict) -> None:
    assert of(config, "alexnet", "2012", "tfds:imagenet2012") == [0.593]
    config.dataset.image_size = 99
    assert figures(config, {"source": "tfds:imagenet2012", "fingerprint": ""}) == ()
    config.dataset.image_size = 227
    config.model.dropout = 0.2
    assert figures(config, {"source": "tfds:imagenet2012", "fingerprint": ""}) == ()
