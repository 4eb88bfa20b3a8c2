"""Planted duplicates are found, and nothing else is."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.train.pages.test_drawing import image_of
from tests.train.report import photos
from tests.train.report.photos import in_memory, scene
from train.data import folder
from train.data.examples import Examples
from train.data.photos import Photos
from train.errors import UserError
from train.report import duplicates
from train.report.duplicates import Duplicates, Pair, find


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos.folder_of(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def root(originals: Path, tmp_path: Path) -> Path:
    """24 scenes to train on and 12 others to test with."""
    return shutil.copytree(originals, tmp_path / "photos")


def read(root: Path) -> tuple[Photos, Photos]:
    splits = folder.read(root, skip_bad_images=False).splits
    train, test = splits["train"], splits["test"]
    assert isinstance(train, Photos)
    assert isinstance(test, Photos)
    return train, test


def named(found: Duplicates, train: Photos, test: Photos) -> list[tuple[str, str, str]]:
    """Kind and files of each pair, from the split on."""

    def name(images: Photos, place: int) -> str:
        return "/".join(Path(images.records.name(int(images.index[place]))).parts[-3:])

    return [(pair.kind, name(test, pair.test), name(train, pair.train)) for pair in found.pairs]


def test_different_scenes_are_no_duplicates(root: Path) -> None:
    found = find(*read(root))
    assert found.pairs == []
    assert found.tests.tolist() == []
    assert found.neighbours is not None
    assert found.bound is not None
    assert found.neighbours < 0.5 < found.bound < 0.9


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": lambda image: image,
    "smaller": lambda image: image.resize((67, 50), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((144, 108), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped": lambda image: image.crop((4, 1, 96, 69)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "gray": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near(root: Path, change: str) -> None:
    for number in (2, 5):  # an ant and a bee
        folder = ("ants", "bees")[number % 2]
        photos.save(root / "train" / folder / f"z{number}.jpg", CHANGES[change](scene(1000 + number)), 60)
    train, test = read(root)
    found = find(train, test)
    assert sorted(named(found, train, test)) == [
        ("near", "test/ants/02.jpg", "train/ants/z2.jpg"),
        ("near", "test/bees/05.jpg", "train/bees/z5.jpg"),
    ]
    assert [pair.mirrored for pair in found.pairs] == [change == "mirrored"] * 2
    assert all(found.bound is not None and found.bound <= pair.likeness <= 1 for pair in found.pairs)


def test_the_same_file_is_exact_and_labels_that_differ_come_first(root: Path) -> None:
    shutil.copy(root / "test" / "ants" / "00.jpg", root / "train" / "ants" / "z0.jpg")
    shutil.copy(root / "test" / "ants" / "04.jpg", root / "train" / "bees" / "z4.jpg")
    shutil.copy(root / "test" / "ants" / "04.jpg", root / "train" / "bees" / "z4 again.jpg")  # is not listed twice
    shutil.copy(root / "test" / "ants" / "04.jpg", root / "train" / "ants" / "z4.jpg")
    train, test = read(root)
    found = find(train, test)
    assert named(found, train, test) == [
        ("exact", "test/ants/04.jpg", "train/bees/z4 again.jpg"),
        ("exact", "test/ants/00.jpg", "train/ants/z0.jpg"),
        ("exact", "test/ants/04.jpg", "train/ants/z4.jpg"),
    ]
    assert [(pair.test_label, pair.train_label) for pair in found.pairs] == [(0, 1), (0, 0), (0, 0)]
    assert len(found.tests) == 2


def test_the_same_pixels_in_another_file_are_exact(root: Path) -> None:
    with Image.open(root / "test" / "bees" / "03.jpg") as image:
        photos.save(root / "train" / "bees" / "z.png", image)
    train, test = read(root)
    assert named(find(train, test), train, test) == [("exact", "test/bees/03.jpg", "train/bees/z.png")]


def test_copies_within_training_do_not_hide_those_of_the_test(root: Path) -> None:
    """Where each photo was augmented before they were divided, all training images have near neighbours."""
    for number in range(24):
        for copy in range(3):
            label = ("ants", "bees")[number % 2]
            box = (copy, copy, 96 - copy, 72)
            photos.save(root / "train" / label / f"{number:02} {copy}.jpg", scene(number).crop(box))
    for number in range(12):
        photos.save(root / "train" / ("ants", "bees")[number % 2] / f"z{number:02}.jpg", scene(1000 + number), 60)
    found = find(*read(root))
    assert found.tests.tolist() == list(range(12))
    assert all(pair.test_label == pair.train_label for pair in found.pairs)


def test_images_in_memory() -> None:
    train, test = in_memory(range(30)), in_memory(range(100, 110))
    train.images[3] = test.images[5]
    brighter = np.asarray(ImageEnhance.Brightness(Image.fromarray(test.images[8])).enhance(1.2))
    train.images[12] = brighter[:, ::-1]
    found = find(train, test)
    assert [(pair.kind, pair.test, pair.train, pair.mirrored) for pair in found.pairs] == [
        ("exact", 5, 3, False),
        ("near", 8, 12, True),
    ]
    gray = [Examples(images.images.mean(-1, keepdims=True).astype(np.uint8), images.labels) for images in (train, test)]
    assert [(pair.test, pair.train) for pair in find(*gray).pairs] == [(5, 3), (8, 12)]


def test_where_all_are_alike_exact_ones_alone_are_looked_for() -> None:
    """One part before one camera: what another photo is cannot be told from a copy."""
    random = np.random.default_rng(0)
    part = np.asarray(scene(0, 48, 48), np.float64)
    images = (part + random.normal(0, 8, (40, 48, 48, 3))).clip(0, 255).astype(np.uint8)
    labels = np.arange(40, dtype=np.int32) % 2
    train, test = Examples(images[:30], labels[:30]), Examples(images[30:], labels[30:])
    train.images[7] = test.images[2]
    found = find(train, test)
    assert found.bound is None
    assert found.neighbours is not None
    assert found.neighbours > 0.5
    assert [(pair.kind, pair.test, pair.train) for pair in found.pairs] == [("exact", 2, 7)]


def test_images_without_edges_do_no_harm() -> None:
    train, test = in_memory(range(20)), in_memory(range(100, 105))
    train.images[:4], test.images[0] = 0, 0
    test.images[1] = 255
    assert [(pair.kind, pair.test, pair.train) for pair in find(train, test).pairs] == [
        ("exact", 0, 1),
        ("exact", 0, 0),
    ]


def test_the_distance_of_features_is_given() -> None:
    train, test = in_memory(range(30)), in_memory(range(100, 110))
    train.images[9], train.images[2] = test.images[4], test.images[0]
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(10, 8)).astype(np.float32), random.normal(size=(30, 8)).astype(np.float32)
    theirs[9] = 3 * ours[4]
    theirs[2] = -ours[0]
    pairs = find(train, test, (theirs, ours)).pairs
    assert {(pair.test, pair.train): pair.distance for pair in pairs} == {
        (4, 9): pytest.approx(0, abs=1e-6),
        (0, 2): pytest.approx(2),
    }
    assert find(train, test).pairs == [replace(pair, distance=None) for pair in pairs]


def test_features_find_what_the_layout_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = in_memory(range(30)), in_memory(range(100, 110))
    train.images[9] = np.asarray(ImageEnhance.Contrast(Image.fromarray(test.images[4])).enhance(0.8))
    nothing = np.zeros(0, np.int64)
    monkeypatch.setattr(duplicates, "_candidates", lambda *_: (nothing, nothing, np.zeros(0, bool)))
    features = np.eye(30, 12, -20, dtype=np.float32), np.eye(10, 12, dtype=np.float32)
    assert find(train, test, features).pairs == []
    features[0][9, 4] = 1
    assert [(pair.test, pair.train) for pair in find(train, test, features).pairs] == [(4, 9)]


def test_a_photo_that_has_gone_is_named(root: Path) -> None:
    train, test = read(root)
    (root / "test" / "ants" / "02.jpg").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"test/ants/02\.jpg: must be a JPEG, PNG or WebP image"):
        find(train, test)


PAIRS = [Pair(1, 0, 0, 1, "near", 0.9, True, 0.25), Pair(0, 2, 1, 1, "exact")]


def test_the_list_says_what_the_accuracy_is_without_them() -> None:
    right = np.array([True, True, False, True])
    listed = duplicates.as_json(Duplicates(PAIRS, 0.3, 0.7), list("abc"), list("wxyz"), ["$ants", "bees\n"], right)
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed
    assert (listed["test_images"], listed["concerned"]) == (4, 2)
    assert (listed["accuracy"], listed["accuracy_without"]) == (0.75, 0.5)
    assert listed["pairs"][0] == {
        "kind": "near",
        "test": "x",
        "train": "a",
        "test_label": "$ants",
        "train_label": "bees\n",
        "likeness": 0.9,
        "mirrored": True,
        "distance": 0.25,
    }
    everything = [Pair(place, 0, 0, 0, "exact") for place in range(4)]
    listed = duplicates.as_json(Duplicates(everything, None, 0.7), list("abc"), list("wxyz"), ["a", "b"], right)
    assert listed["accuracy_without"] is None


def test_the_sheet_shows_both_of_each_pair() -> None:
    train, test = in_memory(range(3)), in_memory(range(10, 14))
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    train.images[0], test.images[1], train.images[2], test.images[0] = colors
    png = duplicates.draw(Duplicates(PAIRS, 0.3, 0.7), train, test, list("abc"), list("wxyz"), ["$ants", "bees\n"])
    sheet = image_of(png)
    for color in colors:
        assert (sheet == color).all(-1).sum() == pytest.approx(175**2, rel=0.03)
    assert Image.open(io.BytesIO(png)).format == "PNG"
