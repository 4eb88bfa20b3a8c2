from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from tests.conftest import write_idx
from train.data import dataset
from train.data.resize import resize
from train.errors import UserError


def section(**changes: object) -> ConfigDict:
    config = base.get_config().dataset
    config.update(changes)
    return config


def keys(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def save_npz(path: Path, count: int = 40, seed: int = 0, **arrays: object) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    np.savez(path, **{"image": images, "label": np.arange(count) % 4, **arrays})


def test_digits_are_divided_once_and_for_all_seeds() -> None:
    data = dataset.load(section(image_size=8))
    assert data.validation is not None
    parts = [keys(part.images) for part in (data.train, data.validation, data.test)]
    counts = [len(part.labels) for part in (data.train, data.validation, data.test)]
    assert counts == [1293, 144, 360]
    assert sum(counts) == 1797
    # One digit is in the set twice, to the pixel; nothing else may lie in two parts.
    assert len(set.union(*parts)) >= sum(map(len, parts)) - 1
    for part in (data.train, data.validation, data.test):
        share = np.bincount(part.labels, minlength=10) / len(part.labels)
        assert np.all(np.abs(share - 0.1) < 0.02)
    again = dataset.load(section(image_size=8))
    np.testing.assert_array_equal(again.test.images, data.test.images)
    other = dataset.load(section(image_size=8, split_seed=1))
    assert keys(other.test.images) != keys(data.test.images)


def test_the_section_is_completed_with_what_the_data_says() -> None:
    config = section(image_size=8)
    data = dataset.load(config)
    assert (config.classes, config.channels, config.test) == (10, 1, 0.2)
    assert config.class_names == tuple("0123456789")
    pixels = data.train.images / 255
    np.testing.assert_allclose(config.mean, [pixels.mean()], rtol=1e-12)
    np.testing.assert_allclose(config.std, [pixels.std()], rtol=1e-9)


def test_mean_and_deviation_by_channel(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz")
    config = section(source=f"npz:{tmp_path}/a.npz", image_size=8)
    pixels = dataset.load(config).train.images / 255
    np.testing.assert_allclose(config.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(config.std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)


def test_val_alone_is_the_test(tmp_path: Path) -> None:
    save_npz(tmp_path / "set_train.npz")
    save_npz(tmp_path / "set_val.npz", count=12, seed=1)
    data = dataset.load(section(source=f"npz:{tmp_path}/set", image_size=8, validation=0.25))
    assert data.test_split == "val"
    assert data.validation is not None
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [30, 10, 12]
    assert not keys(data.validation.images) & keys(data.test.images)


def test_val_beside_test_chooses_the_checkpoint(tmp_path: Path) -> None:
    for seed, ending in enumerate(("train", "val", "test")):
        save_npz(tmp_path / f"set_{ending}.npz", count=40 - 4 * seed, seed=seed)
    config = section(source=f"npz:{tmp_path}/set", image_size=8, validation=8.0)
    data = dataset.load(config)
    assert data.test_split == "test"
    assert config.validation == 36  # what was done, not what was asked for
    assert data.validation is not None
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [40, 36, 32]


@pytest.mark.parametrize(("amount", "count"), [(0.0, None), (0.5, 30), (9.0, 9)])
def test_validation_is_a_share_a_count_or_none(idx_folder: Path, amount: float, count: int | None) -> None:
    data = dataset.load(section(source=f"idx:{idx_folder}", image_size=28, validation=amount))
    assert (data.validation and len(data.validation.labels)) == count
    assert len(data.train.labels) == 60 - (count or 0)


def test_the_fingerprint_is_of_the_content(idx_folder: Path, tmp_path: Path) -> None:
    first = dataset.load(section(source=f"idx:{idx_folder}")).fingerprint
    moved = idx_folder.rename(tmp_path / "elsewhere")
    assert dataset.load(section(source=f"idx:{moved}", image_size=28)).fingerprint == first
    write_idx(moved / "t10k-labels-idx1-ubyte", np.zeros(20))
    assert dataset.load(section(source=f"idx:{moved}")).fingerprint != first


def test_testing_on_the_same_data_spares_what_was_trained_on() -> None:
    config = section(image_size=8)
    data = dataset.load(config)
    there, split, *_ = dataset.load_test(config, "digits", data.fingerprint)
    assert split == "test"
    np.testing.assert_array_equal(there.images, data.test.images)


def test_testing_on_other_data_takes_its_test_or_all(idx_folder: Path, tmp_path: Path) -> None:
    config = section(source=f"idx:{idx_folder}", image_size=28, classes=4)
    data = dataset.load(config)
    there, split, *_ = dataset.load_test(config, f"idx:{idx_folder}", "another")
    assert (len(there.labels), split) == (20, "test")
    save_npz(tmp_path / "a.npz", image=np.zeros((40, 9, 9), np.uint8))
    there, split, *_ = dataset.load_test(config, f"npz:{tmp_path}/a.npz", data.fingerprint)
    assert (there.images.shape, split) == ((40, 28, 28, 1), "all")
    save_npz(tmp_path / "colour.npz")
    with pytest.raises(UserError, match=r"channels=1: the images of npz:.*colour.npz have 3"):
        dataset.load_test(config, f"npz:{tmp_path}/colour.npz", data.fingerprint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "idxx:somewhere"}, "must start with one of digits, idx, npz, folder, cache, .*; nearest: idx"),
        ({"source": "digits:8x8"}, "takes nothing after the name"),
        ({"source": "idx:"}, "source=idx:: takes a name behind the colon, for instance idx:NAME"),
        ({"source": "features:store"}, "features:store: is of activations, .*; name the images here"),
        ({"skip_bad_images": True}, r"digits is no folder of photos \(folder:ROOT\); leave it out"),
        ({"covariance": (1.0, 0.0)}, r"covariance=\(1.0, 0.0\): takes 1 numbers, row by row"),
        ({"classes": 9}, r"classes=9: there are 10 class names"),
        (
            {"class_names": tuple("abcdefghij")},
            r"digits: its classes are 10 \(0, 1, 2, ...\); .* are 10 \(a, b, c, ...\)",
        ),
        ({"channels": 3}, r"channels=3: the images of digits have 1"),
        ({"mean": (0.5, 0.5, 0.5)}, "the images have 1 channels"),
        ({"validation": 1790.0}, r"validation=1790: cannot set that many of 1437 images aside: of each class one"),
        ({"image_size": 4, "resize": "pad"}, r"images of 8x8 pixels do not fit into config.dataset.image_size=4"),
    ],
)
def test_contradictions_are_named(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataset.load(section(**changes))


def test_labels_outside_the_classes_are_named(idx_folder: Path) -> None:
    with pytest.raises(UserError, match=r"label 2 of train image 2 is outside the classes 0 to 1 \(20 such labels\)"):
        dataset.load(section(source=f"idx:{idx_folder}", classes=2))
    with pytest.raises(UserError, match=r"only_classes=2 \(0, 1\): idx:.* has no names of classes; leave it out"):
        dataset.load(section(source=f"idx:{idx_folder}", only_classes=("0", "1")))
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.arange(20))
    with pytest.raises(UserError, match="label 3 of test image 3 is outside the classes 0 to 2"):
        dataset.load(section(source=f"idx:{idx_folder}"))


@pytest.mark.parametrize("prefix", ["train", "t10k"])
def test_a_split_without_images_is_named(idx_folder: Path, prefix: str) -> None:
    write_idx(idx_folder / f"{prefix}-images-idx3-ubyte.gz", np.zeros((0, 28, 28)))
    write_idx(idx_folder / f"{prefix}-labels-idx1-ubyte", np.zeros(0))
    with pytest.raises(UserError, match=r"its (train|test) split holds no image"):
        dataset.load(section(source=f"idx:{idx_folder}"))


def test_a_class_that_cannot_be_divided_and_one_that_is_alone(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", count=5)
    with pytest.raises(UserError, match=r"dataset.test=0.2: class 1 has a single image"):
        dataset.load(section(source=f"npz:{tmp_path}/a.npz", image_size=8))
    save_npz(tmp_path / "a.npz", label=np.repeat([0, 1], [2, 38]))
    with pytest.raises(UserError, match=r"dataset.test=0.8: no image of class 0 is left to train on; set fewer aside"):
        dataset.load(section(source=f"npz:{tmp_path}/a.npz", image_size=8, test=0.8))
    save_npz(tmp_path / "a.npz", label=np.full(40, 3))
    with pytest.raises(UserError, match="all its training images have the label 3"):
        dataset.load(section(source=f"npz:{tmp_path}/a.npz", image_size=8))


def test_a_source_with_a_test_takes_no_other(idx_folder: Path) -> None:
    with pytest.raises(UserError, match=r"dataset.test=0.5: .* has test images of its own"):
        dataset.load(section(source=f"idx:{idx_folder}", test=0.5))


def test_pad_sets_the_image_in_the_middle() -> None:
    image = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3, 1)
    padded = resize(image, 4, "pad")[0, ..., 0]
    assert padded.tolist() == [[0, 0, 0, 0], [1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0]]


def test_resize_scales_the_shorter_side_and_keeps_the_middle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    for method, rule in (("nearest", 0), ("bilinear", 2), ("bicubic", 3)):  # Pillow's numbers
        whole = np.asarray(Image.fromarray(image).resize((4, 2), rule))
        np.testing.assert_array_equal(resize(image[np.newaxis], 2, method)[0], whole[:, 1:3])
    nearest = resize(np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1), 4, "nearest")[0, ..., 0]
    assert nearest.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_only_some_classes_in_the_order_that_is_named(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", class_names=["w", "x", "y", "z"])
    config = section(source=f"npz:{tmp_path}/a.npz", image_size=8, only_classes=("z", "x"))
    data = dataset.load(config)
    assert (config.classes, config.class_names) == (2, ("z", "x"))
    images = np.load(tmp_path / "a.npz")["image"]
    for role, part in data.roles().items():
        numbers = [int(name.removeprefix("train/")) for name in data.ids(role)]
        np.testing.assert_array_equal(part.images, images[numbers])
        np.testing.assert_array_equal(part.labels, [{3: 0, 1: 1}[number % 4] for number in numbers])
    assert sum(part.total for part in data.roles().values()) == 20


def test_some_training_images_of_each_class(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", count=80)
    drawn = []
    for seed in (0, 0, 1):
        config = section(source=f"npz:{tmp_path}/a.npz", image_size=8, per_class=5, split_seed=seed, test=20.0)
        data = dataset.load(config)
        np.testing.assert_array_equal(np.bincount(data.train.labels), [5, 5, 5, 5])
        assert data.test.total == 20
        drawn.append(data.ids("train"))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only_classes": ("w", "v")}, r"only_classes: npz:.* has no class 'v'.*; it has 4 \(w, x, y, ...\)"),
        ({"per_class": 10}, r"per_class=10: of class 0 there are \d+ images to train on"),
    ],
)
def test_classes_and_counts_that_are_not_there(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    save_npz(tmp_path / "a.npz", class_names=["w", "x", "y", "z"])
    with pytest.raises(UserError, match=message):
        dataset.load(section(source=f"npz:{tmp_path}/a.npz", image_size=8, **changes))


def test_ids_of_a_folder_are_its_paths(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("test", 2)):
        for name in ("ants", "bees"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (9, 8), (number, 0, 0)).save(folder / f"{number}.png")
    config = section(source=f"folder:{tmp_path}/photos", image_size=8, validation=2.0)
    data = dataset.load(config)
    assert data.ids("test") == [f"test/{name}/{number}.png" for name in ("ants", "bees") for number in range(2)]
    assert len(set(data.ids("train") + data.ids("validation"))) == 12
    assert data.digests("test")[0] == data.digests("test")[2]  # the same bytes in two folders
    assert data.digests("test")[0] != data.digests("test")[1]
