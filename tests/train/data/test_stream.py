"""Streamed batches: whoever makes them, they are the same."""

import time
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from tests.train.data.test_folder import photo
from train import devices, feed, settings
from train.data import dataset, stream
from train.data.photos import Photos
from train.data.stream import BatchesInOrder, TrainingBatches
from train.errors import UserError
from train.evaluate import make_evaluator
from train.feed import batches_in_order, training_batches
from train.network import build


@pytest.fixture
def experiment(tmp_path: Path) -> ConfigDict:
    """Nine photos in two classes."""
    for index in range(9):
        photo(tmp_path / "photos" / "ab"[index % 2] / f"{index}.png", index)
    config = base.get_config()
    config.dataset.update(source=f"folder:{tmp_path / 'photos'}", image_size=16, validation=0.0, test=0.25)
    config.augment.random_resized_crop = 0.3
    config.train.batch_size = 4
    settings.resolve(config)
    return config


@pytest.fixture
def photos(experiment: ConfigDict) -> Photos:
    train_set = dataset.load(experiment.dataset).train
    assert isinstance(train_set, Photos)
    return train_set


def test_a_batch_is_a_function_of_seed_and_step(experiment: ConfigDict, photos: Photos) -> None:
    make = TrainingBatches(photos, experiment)
    for step in (0, 7):
        np.testing.assert_array_equal(make(step).images, make(step).images)
    assert not np.array_equal(make(0).images, make(7).images)
    first = make(0).images
    experiment.seed = 1
    assert not np.array_equal(make(0).images, first)


def test_each_epoch_shows_each_photo_once_and_crops_it_anew(experiment: ConfigDict, photos: Photos) -> None:
    experiment.train.batch_size = 3
    make, epoch = TrainingBatches(photos, experiment), photos.total // 3
    labels = [np.concatenate([make(step).labels for step in range(start, start + epoch)]) for start in (0, epoch)]
    for seen in labels:
        assert sorted(seen) == sorted(photos.labels)
    one = TrainingBatches(photos.take(np.zeros(1, int)), experiment)(0).images
    assert len({image.tobytes() for image in one}) == 3  # the same photo thrice, cut three ways


def test_without_random_crops_training_sees_the_middle(experiment: ConfigDict, photos: Photos) -> None:
    experiment.augment.random_resized_crop = 0.0
    middles = photos.middles(16, "bilinear", 1.0).images
    seen = {image.tobytes() for image in TrainingBatches(photos, experiment)(0).images}
    assert seen <= {image.tobytes() for image in middles}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_and_workers_make_the_same_batches_in_order(
    experiment: ConfigDict, photos: Photos, workers: int
) -> None:
    make = TrainingBatches(photos, experiment)
    with stream.stream(make, 5, 12, workers) as batches:
        found = list(batches)
    assert len(found) == 7
    for step, batch in enumerate(found, start=5):
        np.testing.assert_array_equal(batch.images, make(step).images)
        np.testing.assert_array_equal(batch.labels, make(step).labels)


def test_memory_shared_with_workers_is_free_behind_a_stream(
    experiment: ConfigDict, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly Grain's thread frees it: what is left at the end of a process, Python calls leaked."""
    shared = grain.multiprocessing.SharedMemoryArray
    free, freed = shared.close_shm_async, []

    def slowly(*what: Any) -> None:
        time.sleep(0.2)
        free(*what)
        freed.append(what)

    monkeypatch.setattr(shared, "close_shm_async", slowly)
    with stream.stream(TrainingBatches(photos, experiment), 0, 3, workers=1) as batches:
        arrays = sum(len(jax.tree.leaves(batch)) for batch in batches)
    assert len(freed) == arrays > 0


def test_leaving_a_stream_early_ends_its_threads(experiment: ConfigDict, photos: Photos) -> None:
    calls = []

    def make(step: int):
        calls.append(step)
        return TrainingBatches(photos, experiment)(step)

    with stream.stream(make, 0, 10**9, 0) as batches:
        next(batches)
    time.sleep(0.5)  # what is being made is finished
    made = len(calls)
    assert made < 100
    time.sleep(0.5)
    assert len(calls) == made


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_goes_bad_is_named(experiment: ConfigDict, photos: Photos, tmp_path: Path, workers: int) -> None:
    experiment.dataset.workers = workers
    for path in (tmp_path / "photos").glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    mesh = devices.make_mesh(1)
    with (
        training_batches(photos, experiment, mesh, 0, 3) as batches,
        pytest.raises(UserError, match=r"photos/[ab]/\d.png: cannot be decoded"),
    ):
        list(batches)


def test_in_order_each_photo_counts_once(experiment: ConfigDict, photos: Photos) -> None:
    assert len(BatchesInOrder(photos, experiment.dataset, 4)) == 2
    found = list(batches_in_order(photos, experiment, devices.make_mesh(1), 4))
    assert [batch.images.shape for batch, _ in found] == [(4, 16, 16, 3)] * 2
    counted = np.concatenate([counted for _, counted in found])
    assert counted.tolist() == [True] * photos.total + [False] * (8 - photos.total)
    images = np.concatenate([batch.images for batch, _ in found])[counted]
    np.testing.assert_array_equal(images, photos.middles(16, "bilinear", 1.0).images)


def test_images_that_devices_do_not_hold_come_batch_by_batch(
    experiment: ConfigDict, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, mesh = photos.middles(16, "bilinear", 1.0), devices.make_mesh(1)

    def found() -> list[np.ndarray]:
        with training_batches(held, experiment, mesh, 0, 5) as batches:
            trained = [np.asarray(part) for batch in batches for part in batch]
        for batch, counted in batches_in_order(held, experiment, mesh, 4):
            trained += map(np.asarray, (*batch, counted))
        return trained

    resident = found()
    monkeypatch.setattr(feed, "_RESIDENT_BYTES", held.nbytes - 1)
    assert len(found()) == len(resident)
    for one, other in zip(found(), resident, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_of_a_stream_is_that_of_memory(experiment: ConfigDict, photos: Photos, batch_size: int) -> None:
    experiment.evaluate.batch_size = batch_size
    graph, params, stats = build(experiment, jax.random.key(0))
    evaluate = make_evaluator(graph, experiment, devices.make_mesh(1))
    streamed = evaluate(params, stats, photos)
    held = evaluate(params, stats, photos.middles(16, "bilinear", 1.0))
    assert streamed["count"] == photos.total
    assert streamed["loss"] == pytest.approx(held["loss"], rel=1e-6)
    assert streamed["accuracy"] == held["accuracy"]


def test_random_crops_need_a_stream(experiment: ConfigDict) -> None:
    experiment.dataset.stream = False
    with pytest.raises(UserError, match=r"random_resized_crop=0.3: .*needs config.dataset.stream=True"):
        settings.resolve(experiment)


def test_hosts_that_share_a_batch_make_together_what_one_makes(experiment: ConfigDict, photos: Photos) -> None:
    whole = TrainingBatches(photos, experiment)(3)
    in_order = BatchesInOrder(photos, experiment.dataset, 4)(0)
    for rows in (np.array([0, 2]), np.array([1, 3])):
        mine = TrainingBatches(photos, experiment, rows)(3)
        np.testing.assert_array_equal(mine.images, whole.images[rows])
        np.testing.assert_array_equal(mine.labels, whole.labels[rows])
        np.testing.assert_array_equal(
            BatchesInOrder(photos, experiment.dataset, 4, rows)(0).images, in_order.images[rows]
        )
