"""What a network answers by a protocol, against its answers to views cut by hand."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image
from scipy.special import log_softmax, softmax

from train import devices, network, settings
from train.data import dataset
from train.data.examples import Examples
from train.data.photos import Photos
from train.errors import UserError
from train.protocols import looks
from train.protocols.asking import as_prepared, by_looks, mean

SIZES = [(90, 140), (200, 100), (100, 100), (93, 141), (100, 130)]


@pytest.fixture
def alexnet(config: ConfigDict) -> ConfigDict:
    config.model.update(name="alexnet", hidden=None)
    config.dataset.update(image_size=64, crop=0.8, channels=3, classes=7, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    config.evaluate.batch_size = 20
    settings.resolve(config)
    return config


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Photos, list[Image.Image]]:
    """Photos of several sizes in lossless files, and the same in memory."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    (tmp_path / "photos" / "b").mkdir()
    images = []
    for number, (height, width) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
        images.append(Image.fromarray(pixels).resize((width, height)))
        images[-1].save(folder / f"{number}.png")
    Image.new("RGB", (80, 80)).save(tmp_path / "photos" / "b" / "other.png")
    records = dataset.read(f"folder:{tmp_path}/photos", ConfigDict({"skip_bad_images": False})).splits["train"]
    assert isinstance(records, Photos)
    return records.take(np.arange(len(SIZES))), images


def seen(config: ConfigDict, described: network.Described, views: np.ndarray) -> np.ndarray:
    pixels = (views / 255 - np.array(config.dataset.mean)) / np.array(config.dataset.std)
    return np.asarray(nnx.merge(*described)(pixels.astype(np.float32)))


def scaled(image: Image.Image, shorter: int) -> np.ndarray:
    """Scale as torchvision's Resize does, which cuts fractions of the longer side off."""
    width, height = image.size
    sides = (shorter, shorter * height // width) if width < height else (shorter * width // height, shorter)
    return np.asarray(image.resize(sides, Image.Resampling.BILINEAR))


def test_crops_are_averaged(alexnet: ConfigDict, photos: tuple[Photos, list[Image.Image]]) -> None:
    described = network.build(alexnet, jax.random.key(0))
    found = by_looks(described, alexnet, devices.make_mesh(1), photos[0], looks.looks_of("ten_crop", alexnet))
    for answer, image in zip(found, photos[1], strict=True):
        crops = looks.ten(scaled(image, 80), 64)
        expected = softmax(seen(alexnet, described, crops), axis=1).mean(0)
        np.testing.assert_allclose(np.exp(answer), expected, rtol=1e-4)


def test_whole_images_of_several_sizes(alexnet: ConfigDict, photos: tuple[Photos, list[Image.Image]]) -> None:
    described = network.build(alexnet, jax.random.key(0))
    module = nnx.merge(*described)
    mesh = devices.make_mesh(1)
    found = by_looks(described, alexnet, mesh, photos[0], looks.looks_of("multi_scale", alexnet))
    for answer, image in zip(found, photos[1], strict=True):
        expected = []
        for shorter in (71, 80, 89):
            whole = scaled(image, shorter)
            for view in (whole, whole[:, ::-1]):
                pixels = (view / 255 - np.array(alexnet.dataset.mean)) / np.array(alexnet.dataset.std)
                maps = next(x for name, x in module.stages(pixels.astype(np.float32)[np.newaxis]) if name == "pool5")
                # The network's own images leave a map of 1x1, which is repeated for fc6: each place is such a map.
                x = np.tile(np.asarray(maps).reshape(-1, 1, 1, maps.shape[-1]), (1, 6, 6, 1))
                for layer in (module.fc6, module.fc7):
                    x = jax.nn.relu(layer(x))
                expected.append(softmax(np.asarray(module.fc8(x)).mean(0)))
        np.testing.assert_allclose(np.exp(answer), np.mean(expected, axis=0), rtol=1e-3)


def test_devices_share_a_batch(alexnet: ConfigDict, photos: tuple[Photos, list[Image.Image]]) -> None:
    described = network.build(alexnet, jax.random.key(0))
    alexnet.evaluate.batch_size = 1  # one image a batch, or one for each device
    one = by_looks(described, alexnet, devices.make_mesh(1), photos[0], looks.looks_of("dense", alexnet))
    alexnet.evaluate.batch_size = 500
    many = by_looks(described, alexnet, devices.make_mesh(1), photos[0], looks.looks_of("dense", alexnet))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)


def test_images_in_memory(alexnet: ConfigDict) -> None:
    images = Examples(np.random.default_rng(0).integers(0, 256, (3, 90, 110, 3), np.uint8), np.zeros(3, np.int32))
    described = network.build(alexnet, jax.random.key(0))
    found = by_looks(described, alexnet, devices.make_mesh(1), images, looks.looks_of("center", alexnet))
    crops = np.concatenate([looks.middle(scaled(Image.fromarray(image), 80), 64) for image in images.images])
    np.testing.assert_allclose(found, log_softmax(seen(alexnet, described, crops), axis=1), rtol=1e-4, atol=1e-5)


def test_prepared_images_are_shown_once(config: ConfigDict) -> None:
    config.evaluate.batch_size = 7
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    described = network.build(config, jax.random.key(0))
    found = as_prepared(described, config, devices.make_mesh(1), test)
    logits = seen(config, described, test.images)
    np.testing.assert_allclose(found, log_softmax(logits, axis=1), rtol=1e-4, atol=1e-5)


def test_the_mean_is_of_probabilities() -> None:
    answers = [np.log(np.array([[0.5, 0.5]], np.float32)), np.log(np.array([[0.1, 0.9]], np.float32))]
    np.testing.assert_allclose(np.exp(mean(answers)), [[0.3, 0.7]], rtol=1e-6)


def test_a_network_that_cannot_be_dense(config: ConfigDict) -> None:
    settings.resolve(config)
    test = dataset.load(config.dataset).test
    described = network.build(config, jax.random.key(0))
    with pytest.raises(UserError, match="--protocol: the network cannot be shown whole images: its dense layers"):
        by_looks(described, config, devices.make_mesh(1), test, looks.looks_of("dense", config))
