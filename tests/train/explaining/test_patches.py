"""Patches against brute force, and against what changes a unit when pixels change."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from models.arithmetic import ReceptiveField
from tests.train.report.photos import folder_of
from train import devices, network, settings
from train.data.examples import Examples
from train.errors import UserError
from train.explaining import patches
from train.explaining.patches import Box, Searched
from train.explaining.scores import Scores


@pytest.fixture(scope="module")
def config() -> ConfigDict:
    """A small LeNet-5 with padding, so that some units see over the edge."""
    config: ConfigDict = base.get_config()
    config.model.update(widths=(4, 6), kernels=(3, 3), padding=(1, 1), pools=(2, 2), hidden=(8,))
    config.dataset.update(image_size=16, classes=2, channels=3, mean=(0.4,) * 3, std=(0.25,) * 3)
    config.evaluate.batch_size = 8  # the 21 images below fill no whole number of batches
    settings.resolve(config)
    return config


@pytest.fixture(scope="module")
def scores(config: ConfigDict) -> Scores:
    return Scores(network.build(config, jax.random.key(3)), config)


@pytest.fixture(scope="module")
def searched() -> Searched:
    images = np.random.default_rng(5).integers(0, 256, (21, 16, 16, 3), dtype=np.uint8)
    return Searched("none", Examples(images, np.zeros(21, np.int32)), [f"image {index}" for index in range(21)], "test")


@pytest.mark.parametrize(("stage", "unit"), [("C1", 0), ("S2", 3), ("C3", 5), ("S4", 2)])
def test_the_strongest_are_those_of_brute_force(
    config: ConfigDict, scores: Scores, searched: Searched, stage: str, unit: int
) -> None:
    row, maps = scores.maps[stage], scores.divided(stage).maps
    found = patches.strongest(maps, unit, row.fields, searched, config, devices.make_mesh(None), 9)
    activations = np.asarray(maps(searched.images.images))[..., unit]
    ranking = sorted(range(21), key=lambda index: -activations[index].max())[:9]
    assert [patch.id for patch in found] == [f"image {index}" for index in ranking]
    for patch, index in zip(found, ranking, strict=True):
        assert patch.activation == pytest.approx(activations[index].max(), rel=1e-4)
        top, left, bottom, right = patch.box
        np.testing.assert_array_equal(patch.pixels, searched.images.images[index, top:bottom, left:right])


@pytest.mark.parametrize("stage", ["C1", "S2", "C3", "S4"])
def test_a_patch_is_all_that_the_unit_sees(scores: Scores, searched: Searched, stage: str) -> None:
    row, maps = scores.maps[stage], jax.jit(scores.divided(stage).maps)
    image, random = searched.images.images[0], np.random.default_rng(0)
    other = random.integers(0, 256, image.shape, dtype=np.uint8)
    last = row.shape[0] - 1
    for place in ((0, 0), (last, 0), (last // 2, last)):
        top, left, bottom, right = patches.box(row.fields, place, 16)
        kept = other.copy()
        kept[top:bottom, left:right] = image[top:bottom, left:right]

        def units(image: np.ndarray, place: tuple[int, int] = place) -> np.ndarray:
            return np.asarray(maps(image[np.newaxis])[0, *place])

        np.testing.assert_allclose(units(kept), units(image), rtol=1e-5, atol=1e-6)
        for edge in (np.s_[top, left:right], np.s_[bottom - 1, left:right], np.s_[top:bottom, left]):
            # No row or column less will do: at the edge of what is seen, every change that is large enough is felt.
            smaller = [kept.copy() for _ in range(20)]
            for copy in smaller:
                copy[edge] = random.integers(0, 256, copy[edge].shape)
            assert any(np.abs(units(copy) - units(image)).max() > 1e-4 for copy in smaller), (place, edge)


def test_a_box_ends_at_the_edge_of_the_image() -> None:
    fields = (ReceptiveField(size=7, stride=4, offset=-3), ReceptiveField(size=7, stride=4, offset=-3))
    assert patches.box(fields, (0, 1), 16) == Box(top=0, left=1, bottom=4, right=8)
    assert patches.box(fields, (4, 3), 16) == Box(top=13, left=9, bottom=16, right=16)


def test_photos_are_prepared_as_the_runs_were_and_keep_their_ids(
    config: ConfigDict, scores: Scores, tmp_path: Path
) -> None:
    source = f"folder:{folder_of(tmp_path, train=4, test=6)}"
    streamed, in_memory = (
        ConfigDict(config.dataset.to_dict() | {"stream": stream, "crop": 0.875}) for stream in (True, False)
    )
    whole = config.copy_and_resolve_references()
    whole.dataset = streamed
    searched = patches.searched(source, streamed, most=100)
    assert (searched.split, searched.images.total) == ("test", 6)
    row, maps = scores.maps["C3"], scores.divided("C3").maps
    found = patches.strongest(maps, 1, row.fields, searched, whole, devices.make_mesh(None), 9)
    assert len(found) == 6
    sizes = {patch.id: patch.pixels.shape for patch in found}
    assert sizes.keys() == {f"test/{kind}/0{n}.jpg" for n in range(6) for kind in [("ants", "bees")[n % 2]]}
    assert patches.searched(source, in_memory, most=100).ids == searched.ids


def test_of_many_images_some_are_looked_at_evenly_spread(config: ConfigDict, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "some.npz", image=images, label=np.arange(10) % 2)
    some = patches.searched(f"npz:{tmp_path / 'some.npz'}", config.dataset, most=4)
    assert some.ids == ["train/0", "train/2", "train/5", "train/7"]
    np.testing.assert_array_equal(some.images.images, images[[0, 2, 5, 7]])


def test_images_of_other_channels_are_refused(config: ConfigDict) -> None:
    with pytest.raises(UserError, match="digits: its images have 1 channels, those of this run 3"):
        patches.searched("digits", config.dataset, most=10)


def test_photos_of_any_size_are_refused_where_the_runs_images_were_padded(config: ConfigDict, tmp_path: Path) -> None:
    config.dataset.resize = "pad"
    with pytest.raises(UserError, match="were padded, not scaled; name the --source of the run"):
        patches.searched(f"folder:{folder_of(tmp_path, train=2, test=2)}", config.dataset, most=10)
