"""Published figures stand beside runs of the same network on the same data, and beside no other."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from train import settings
from train.data import dataset
from train.protocols.published import figures, is_like

# Tables 3 to 5 of the paper, and torchvision's.
VGG = [0.73, 0.732, 0.744, 0.734, 0.735, 0.752, 0.754, 0.756, 0.71592]
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
        ("alexnet", "2012", "tfds:imagenet2012:5.1.0", [0.593, 0.619]),
        ("vgg", "D", "tfds:imagenet2012", VGG),
        ("vgg16", None, "tfds:imagenet2012", VGG),
        ("vgg", "A", "tfds:imagenet2012", []),
    ],
)
def test_by_name(config: ConfigDict, name: str, variant: str, source: str, expected: list[float]) -> None:
    assert of(config, name, variant, source) == expected


def test_another_size_or_another_layer_is_another_network(config: ConfigDict) -> None:
    assert of(config, "alexnet", "2012", "tfds:imagenet2012") == [0.593, 0.619]
    config.dataset.image_size = 99
    assert figures(config, {"source": "tfds:imagenet2012", "fingerprint": ""}) == ()
    config.dataset.image_size = 227
    config.model.dropout = 0.2
    assert figures(config, {"source": "tfds:imagenet2012", "fingerprint": ""}) == ()


def test_by_what_they_know_imagenet_wherever_it_lies(config: ConfigDict, real_data: Path) -> None:
    index = json.loads((real_data / "imagenet_index/imagenet_class_index.json").read_text())
    config.dataset.class_names = tuple(index[str(number)][0] for number in range(1000))
    config.model.batch_norm = True
    assert of(config, "vgg16", None, "folder:anywhere") == [0.7336]
    config.dataset.class_names = config.dataset.class_names[:999]
    assert of(config, "vgg16", "D", "folder:anywhere") == []


@pytest.mark.parametrize(
    ("protocols", "jitter", "networks", "alike"),
    [
        (["dense"], (), 1, ["dense, S = 256"]),
        (["dense"], (256, 512), 1, ["dense, S from 256 to 512"]),
        (["multi_scale", "multi_crop"], (256, 512), 1, ["multi-crop and multi-scale, S from 256 to 512"]),
        (["center"], (), 1, ["centre crop"]),
        (["center"], (), 2, []),
    ],
)
def test_like_is_compared_with_like(
    config: ConfigDict, protocols: list[str], jitter: tuple[int, ...], networks: int, alike: list[str]
) -> None:
    config.model.update(name="vgg16", hidden=None)
    config.dataset.update(image_size=224, crop=0.875)
    config.augment.scale_jitter = jitter
    settings.resolve(config)
    rows = figures(config, {"source": "tfds:imagenet2012", "fingerprint": ""})
    assert [row.what for row in rows if is_like(row, config, protocols, networks)] == alike
