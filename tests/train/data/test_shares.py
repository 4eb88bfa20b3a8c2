"""Who gets which images: roles of a data set, and hosts of a batch; each image where it belongs, once."""

import contextlib
import json
import os
import random as plain_random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import base
from tests.conftest import CHECKOUT
from train import devices
from train.data import dataset
from train.data.examples import Examples
from train.data.order import batch_indices
from train.data.stream import BatchesInOrder, TrainingBatches
from train.errors import UserError

NAMES = ("a", "b", "c", "d", "e", "f")


def loaded(path: Path, keys: dict[str, Any]) -> dict[str, list[int]]:
    """Return which images each role has."""
    section = base.get_config().dataset
    section.update(source=f"npz:{path}", image_size=1, **keys)
    data = dataset.load(section)
    roles = {role: [int(name.removeprefix("train/")) for name in data.ids(role)] for role in data.roles()}
    for role, images in data.roles().items():  # and they are those, at this place of the file
        assert isinstance(images, Examples)
        np.testing.assert_array_equal(images.images.ravel(), np.array(roles[role]) % 256)
    return roles


PART = st.one_of(st.floats(0.05, 0.6), st.integers(1, 20).map(float))


def hold_roles(
    folder: Path, counts: list[int], test: float, validation: float, per_class: int | None, only: int, seed: int
) -> None:
    """Divide a set with so many images a class, and look at who has got what."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    path = folder / "set.npz"
    images = (np.arange(len(labels)) % 256).astype(np.uint8).reshape(-1, 1, 1)
    np.savez(path, image=images, label=labels, class_names=NAMES[: len(counts)])
    keys = {"test": test, "validation": validation, "per_class": per_class, "split_seed": seed % 1000}
    if only:
        keys["only_classes"] = NAMES[:only][::-1]
    try:
        roles = loaded(path, keys)
    except UserError:  # so few images cannot be divided so: said by name, as other tests hold
        assume(False)
    wanted = np.flatnonzero(labels < (only or len(counts)))
    together = sorted(np.concatenate([roles[role] for role in roles]).tolist())
    assert len(set(together)) == len(together), "no image has two roles"
    if per_class is None:
        assert together == wanted.tolist(), "each has one"
    else:
        assert set(together) <= set(wanted.tolist())
        np.testing.assert_array_equal(np.bincount(labels[roles["train"]])[np.unique(labels[wanted])], per_class)
    assert ("validation" in roles) == (validation > 0)
    left = wanted
    for role, part in (("test", test), ("validation", validation)):
        if not part:
            continue
        amount = round(part) if part >= 1 else int(np.ceil(part * len(left)))
        assert len(roles[role]) == amount
        for label in np.unique(labels[left]):
            of_class = (labels[left] == label).sum() * amount / len(left)
            assert abs((labels[roles[role]] == label).sum() - of_class) <= 1, "in proportion, within one image"
        left = np.setdiff1d(left, roles[role])
    # Neither what was drawn before nor other settings of the training change anything.
    np.random.seed(seed % 1000 + 1)
    plain_random.seed(seed + 1)
    with contextlib.suppress(UserError):
        loaded(path, {"split_seed": 77})
    assert loaded(path, keys) == roles
    if per_class is not None:  # who is tested does not hang on how many learn
        assert loaded(path, keys | {"per_class": None})["test"] == roles["test"]


ROLES = {
    "counts": st.lists(st.integers(2, 40), min_size=2, max_size=6),
    "test": PART,
    "validation": st.one_of(st.just(0.0), PART),
    "per_class": st.one_of(st.none(), st.integers(1, 8)),
    "only": st.sampled_from([0, 0, 2]),
    "seed": st.integers(0, 2**31),
}


@settings(max_examples=25)
@given(**ROLES)
def test_each_image_has_one_role(tmp_path_factory: pytest.TempPathFactory, **drawn: Any) -> None:
    hold_roles(tmp_path_factory.mktemp("set"), **drawn)


@pytest.mark.slow
@settings(max_examples=1500, derandomize=False)
@given(**ROLES)
def test_each_image_has_one_role_however_many_sets(tmp_path_factory: pytest.TempPathFactory, **drawn: Any) -> None:
    hold_roles(tmp_path_factory.mktemp("set"), **drawn)


class Numbers:
    """Photos whose pixels are their numbers; it remembers who has been read."""

    def __init__(self, total: int) -> None:
        self.total, self.read = total, list[int]()

    def load(self, indices: np.ndarray, *_: object) -> Examples:
        self.read += indices.tolist()
        return Examples(np.asarray(indices), np.asarray(indices))


class Shared:
    """Where a batch lies: each host has some of the devices, each device as many rows, in the order of the devices."""

    is_fully_addressable = False

    def __init__(self, own: list[int], count: int) -> None:
        self._own, self._count = own, count

    def addressable_devices_indices_map(self, shape: tuple[int]) -> dict[int, tuple[slice]]:
        each = shape[0] // self._count
        return {device: (slice(device * each, (device + 1) * each),) for device in self._own}


@st.composite
def hosts(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """Return which devices each host has, and a batch size that all of them share equally."""
    order = draw(st.permutations(range(draw(st.integers(1, 8)))))
    edges = sorted(draw(st.sets(st.integers(1, len(order) - 1)))) if len(order) > 1 else []
    parts = [sorted(order[first:last]) for first, last in zip([0, *edges], [*edges, len(order)], strict=True)]
    return parts, len(order) * draw(st.integers(1, 5))


def of_batches(batch_size: int, seed: int) -> ConfigDict:
    config = base.get_config()
    config.train.batch_size, config.seed = batch_size, seed
    return config


@settings(max_examples=150)
@given(hosts(), st.integers(1, 60), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_hosts_read_each_image_once_an_epoch_together(
    shared: tuple[list[list[int]], int], total: int, epochs: int, seed: int
) -> None:
    parts, size = shared
    rows = [devices.rows_here(Shared(part, sum(map(len, parts))), size) for part in parts]  # type: ignore[arg-type]
    assert sorted(np.concatenate(rows).tolist()) == list(range(size)), "no place of a batch has two hosts, or none"
    read = [Numbers(total) for _ in rows]
    make = [TrainingBatches(photos, of_batches(size, seed), own) for photos, own in zip(read, rows, strict=True)]
    every = []
    for step in range(-(-epochs * total // size)):
        batch = np.empty(size, int)
        for of_host, own in zip(make, rows, strict=True):
            found = of_host(step)
            batch[own] = found.labels
        np.testing.assert_array_equal(batch, batch_indices(total, size, seed, step))
        every += batch.tolist()
        if (step + 1) * size <= total:
            assert len(set(batch.tolist())) == size, "within an epoch no image comes twice in a batch"
    for epoch in range(epochs):
        assert sorted(every[epoch * total : (epoch + 1) * total]) == list(range(total))
    assert sum(len(photos.read) for photos in read) == len(every), "none is read by two"


@settings(max_examples=150)
@given(hosts(), st.integers(1, 60))
def test_hosts_evaluate_each_image_once_together(shared: tuple[list[list[int]], int], total: int) -> None:
    parts, size = shared
    rows = [devices.rows_here(Shared(part, sum(map(len, parts))), size) for part in parts]  # type: ignore[arg-type]
    counted = []
    section = SimpleNamespace(crop=1.0, image_size=8, resize="bilinear")
    makes = [BatchesInOrder(Numbers(total), section, size, own) for own in rows]  # type: ignore[arg-type]
    for number in range(len(makes[0])):
        batch = np.full(size, -1)
        for make, own in zip(makes, rows, strict=True):
            batch[own] = make(number).labels
        counted += batch[np.arange(size) < total - number * size].tolist()
        assert (batch[np.arange(size) >= total - number * size] == total - 1).all()  # what fills the last batch up
    assert counted == list(range(total))


@settings(max_examples=100)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 99))
def test_each_epoch_takes_one_view_of_each_image(total: int, size: int, views: int, seed: int) -> None:
    steps = -(-2 * views * total // size)
    every = np.concatenate([batch_indices(total, size, seed, step, views) for step in range(steps)])
    for epoch in range(2 * views):
        found = every[epoch * total : (epoch + 1) * total]
        assert set((found // total).tolist()) == {epoch % views}
        assert sorted((found % total).tolist()) == list(range(total))


OF_EIGHT = """
import jax
from train import devices
place = devices.by_batch(devices.make_mesh(None))
of = place.addressable_devices_indices_map((40,))
print([part[0].indices(40)[:2] for _, part in sorted(of.items(), key=lambda pair: pair[0].id)])
"""


def test_a_device_holds_the_rows_that_the_stand_in_says() -> None:
    """`Shared` above against jax's own sharding over eight devices."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    line = [sys.executable, "-c", OF_EIGHT]
    process = subprocess.run(line, capture_output=True, text=True, cwd=CHECKOUT, env=environment)
    assert process.returncode == 0, process.stderr
    of = Shared(list(range(8)), 8).addressable_devices_indices_map((40,))
    assert json.loads(process.stdout.replace("(", "[").replace(")", "]")) == [
        list(of[device][0].indices(40)[:2]) for device in range(8)
    ]
