"""Folders of photos, good and bad."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import base
from train.data import dataset, folder
from train.data.photos import Photos
from train.errors import UserError

SOME = {"ants": 6, "bees": 4}


def photo(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (random.integers(20, 40), random.integers(20, 40), 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two classes of photos."""
    for name, count in SOME.items():
        for index in range(count):
            photo(tmp_path / "photos" / name / f"{index}.jpg", index + 10 * len(name))
    return tmp_path / "photos"


def split(root: Path, *names: str) -> None:
    """Move the classes into train/, and copy them for the other splits."""
    for name in SOME:
        for other in names:
            shutil.copytree(root / name, root / other / name)
        shutil.rmtree(root / name)


def read(root: Path, *, skip_bad_images: bool = False):
    return folder.read(root, skip_bad_images=skip_bad_images)


def test_classes_are_the_folders_in_order(root: Path) -> None:
    source = read(root)
    assert source.class_names == ("ants", "bees")
    photos = source.splits["train"]
    assert photos.labels.tolist() == [0] * 6 + [1] * 4
    data, label = photos.records.read([7])[0]
    assert (data, label) == ((root / "bees" / "1.jpg").read_bytes(), 1)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "VALID", "Testing"), ("training", "validation", "test")], ids="-".join
)
def test_splits_are_found(root: Path, names: tuple[str, ...]) -> None:
    split(root, *names)
    assert {role: photos.total for role, photos in read(root).splits.items()} == {
        "train": 10,
        "validation": 10,
        "test": 10,
    }


def test_files_may_lie_deeper_and_hidden_ones_do_not_count(root: Path) -> None:
    photo(root / "ants" / "images" / "more.png", 1)
    (root / "ants" / ".DS_Store").write_bytes(b"x")
    (root / "bees" / "Thumbs.db").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / "README.txt").write_text("beside the classes")
    assert read(root).splits["train"].total == 11


def test_a_link_inside_the_root_is_a_photo_too(root: Path) -> None:
    (root / "bees" / "again.jpg").symlink_to(root / "bees" / "0.jpg")
    assert read(root).splits["train"].total == 11


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link").splits["train"].total == 10


def test_the_fingerprint_is_of_bytes_and_labels(root: Path, tmp_path: Path) -> None:
    first = read(root).splits["train"].records.fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    assert read(moved).splits["train"].records.fingerprint == first
    photo(moved / "ants" / "3.jpg", 99)
    assert read(moved).splits["train"].records.fingerprint != first


def no_class(root: Path) -> None:
    for name in SOME:
        shutil.rmtree(root / name)


def one_class(root: Path) -> None:
    shutil.rmtree(root / "bees")


def empty_class(root: Path) -> None:
    (root / "wasps").mkdir()


def other_classes(root: Path) -> None:
    split(root, "train", "val")
    (root / "val" / "bees").rename(root / "val" / "wasps")


def fewer_classes(root: Path) -> None:
    photo(root / "wasps" / "0.jpg", 0)
    shutil.copytree(root / "wasps", root / "train" / "wasps")
    shutil.rmtree(root / "wasps")
    split(root, "train", "test")


def empty_class_of_val(root: Path) -> None:
    split(root, "train", "val")
    for path in (root / "val" / "ants").iterdir():
        path.unlink()


def two_names_of_val(root: Path) -> None:
    split(root, "train", "val", "valid")


def no_train(root: Path) -> None:
    split(root, "val", "test")


def a_class_beside_train(root: Path) -> None:
    split(root, "train")
    photo(root / "wasps" / "0.jpg", 0)


def one_class_of_val(root: Path) -> None:
    split(root, "train", "val")
    shutil.rmtree(root / "val" / "bees")


def loose_photo(root: Path) -> None:
    photo(root / "lost.jpg", 0)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (shutil.rmtree, "there is no such folder"),
        (no_class, "takes a folder of photos for each class, at least 2; there is none"),
        (one_class, "there is ants/ alone"),
        (empty_class, "wasps: this class folder holds no image"),
        (empty_class_of_val, "val/ants: this class folder holds no image"),
        (other_classes, "train/ and val/ differ: val/ lacks bees; val/ has wasps, train/ has not"),
        (fewer_classes, "train/ and test/ differ: test/ lacks wasps"),
        (two_names_of_val, "holds both val/ and valid/"),
        (no_train, "holds val/ but no train/ beside it"),
        (a_class_beside_train, "holds train/, and beside it wasps/, which is no split"),
        (one_class_of_val, "train/ and val/ differ: val/ lacks bees"),
        (loose_photo, "lost.jpg: lies beside the class folders"),
    ],
    ids=lambda value: getattr(value, "__name__", "says"),
)
def test_a_wrong_folder_is_named(root: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(root)
    for skip_bad_images in (False, True):  # it is no matter of single files
        with pytest.raises(UserError) as error:
            read(root, skip_bad_images=skip_bad_images)
        assert message in str(error.value)


def text(path: Path, _: Path) -> None:
    path.with_suffix(".txt").write_text("a list of the photos")


def truncated(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def gif(path: Path, _: Path) -> None:
    Image.open(path).save(path.with_suffix(".gif"))


def gif_by_another_name(path: Path, _: Path) -> None:
    Image.open(path).save(path, "GIF")


def link_out(path: Path, outside: Path) -> None:
    photo(outside / "secret.jpg", 5)
    path.with_name("link.jpg").symlink_to(outside / "secret.jpg")


def folder_link_out(path: Path, outside: Path) -> None:
    photo(outside / "more" / "secret.jpg", 5)
    path.with_name("link").symlink_to(outside / "more")


def link_to_nothing(path: Path, _: Path) -> None:
    path.with_name("link.jpg").symlink_to("gone.jpg")


def link_to_itself(path: Path, _: Path) -> None:
    path.with_name("link.jpg").symlink_to("link.jpg")


@pytest.mark.parametrize(
    ("harm", "name", "reason", "left"),
    [
        (text, "2.txt", "must be a JPEG, PNG or WebP image, is none of them", 10),
        (truncated, "2.jpg", "truncated", 9),
        (gif, "2.gif", "is a GIF", 10),
        (gif_by_another_name, "2.jpg", "is a GIF", 9),
        (link_out, "link.jpg", "is a link, or below one, out of", 10),
        (folder_link_out, "link", "is a link, or below one, out of", 10),
        (link_to_nothing, "link.jpg", "is no file", 10),
        (link_to_itself, "link.jpg", "", 10),
    ],
    ids=lambda value: getattr(value, "__name__", "says"),
)
def test_a_bad_file_is_named_or_left_out(
    root: Path, tmp_path: Path, harm: Callable[[Path, Path], None], name: str, reason: str, left: int
) -> None:
    harm(root / "ants" / "2.jpg", tmp_path / "outside")
    with pytest.raises(UserError, match="1 of the files cannot be used") as error:
        read(root)
    assert f"{root.resolve() / 'ants' / name}: " in str(error.value)
    assert reason in str(error.value)
    assert "skip_bad_images" in str(error.value)
    source = read(root, skip_bad_images=True)
    assert source.splits["train"].total == left
    (skipped,) = source.skipped
    assert skipped.startswith(str(root.resolve() / "ants" / name))


def test_a_class_folder_that_links_out_is_refused(root: Path, tmp_path: Path) -> None:
    photo(tmp_path / "outside" / "0.jpg", 0)
    (root / "wasps").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"wasps/0.jpg: is a link, or below one, out of"):
        read(root)


def test_many_bad_files_are_counted(root: Path) -> None:
    for path in root.glob("*/*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"10 of the files cannot be used: .*; and 5 more"):
        read(root)
    with pytest.raises(UserError, match="this class folder holds no image that can be used"):
        read(root, skip_bad_images=True)


def section(root: Path, **changes):
    config = base.get_config().dataset
    config.update({"source": f"folder:{root}", "image_size": 16, "validation": 0.0} | changes)
    return config


def test_streamed_photos_are_divided_and_measured(root: Path) -> None:
    config = section(root, validation=2.0, test=0.25)
    data = dataset.load(config)
    assert config.stream is True
    assert isinstance(data.train, Photos)
    assert [part.total for part in (data.train, data.validation, data.test)] == [5, 2, 3]
    shown = np.concatenate([part.index for part in (data.train, data.validation, data.test)])
    assert sorted(shown) == list(range(10))
    pixels = data.train.middles(16, "bilinear", 1.0).images / 255
    np.testing.assert_allclose(config.mean, pixels.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(config.std, pixels.std((0, 1, 2)), atol=1e-4)
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(np.reshape(config.covariance, (3, 3)), covariance, atol=1e-4)


def test_photos_in_memory_are_the_same_middles(root: Path) -> None:
    streamed, held = dataset.load(section(root)), dataset.load(section(root, stream=False))
    middles = streamed.train.middles(16, "bilinear", 1.0)
    np.testing.assert_array_equal(held.train.images, middles.images)
    np.testing.assert_array_equal(held.train.labels, middles.labels)


def test_gray_is_a_choice(root: Path) -> None:
    config = section(root, channels=1, stream=False)
    assert dataset.load(config).train.images.shape[-1] == 1
    assert len(config.mean) == 1


def test_padding_photos_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"resize=pad: folder:.* holds photos of any size"):
        dataset.load(section(root, resize="pad"))


def test_streaming_pixels_is_refused() -> None:
    config = base.get_config().dataset
    config.stream = True
    with pytest.raises(UserError, match="digits holds pixels"):
        dataset.load(config)


def test_what_is_left_out_is_said(root: Path) -> None:
    gif(root / "ants" / "2.jpg", root)
    data = dataset.load(section(root, skip_bad_images=True))
    assert len(data.skipped) == 1
    assert "2.gif" in data.skipped[0]


def test_real_photos(real_data: Path) -> None:
    source = read(real_data / "hymenoptera256")
    assert source.class_names == ("ants", "bees")
    assert {role: photos.total for role, photos in source.splits.items()} == {"train": 244, "validation": 153}


def test_folders_may_carry_the_ids_of_a_networks_classes(root: Path) -> None:
    config = base.get_config().dataset
    config.update(class_names=("formica rufa", "apis mellifera"), class_ids=("ants", "bees"), classes=2)
    config.update(channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    photos, split, *_ = dataset.load_test(config, f"folder:{root}", "another")
    assert (photos.total, split) == (10, "all")
    assert config.class_names == ("formica rufa", "apis mellifera")
    labels = photos.labels
    config.class_ids = ("bees", "ants")  # in another order they have other numbers
    np.testing.assert_array_equal(dataset.load_test(config, f"folder:{root}", "another").images.labels, 1 - labels)
    # Some of the network's.
    config.update(class_ids=("wasps", "ants", "bees"), class_names=("vespa", "formica", "apis"), classes=3)
    np.testing.assert_array_equal(dataset.load_test(config, f"folder:{root}", "another").images.labels, 1 + labels)
    config.update(class_ids=("wasps", "ants"), class_names=("vespa", "formica"), classes=2)
    with pytest.raises(UserError, match=r"its classes are 2 \(ants, bees\)"):
        dataset.load_test(config, f"folder:{root}", "another")


def test_folders_may_carry_the_numbers_of_classes(tmp_path: Path) -> None:
    for number in (2, 10):  # in the order of their names 10 comes first
        (tmp_path / str(number)).mkdir()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / str(number) / "a.png")
    config = base.get_config().dataset
    config.update(class_names=tuple("abcdefghijkl"), classes=12, channels=3, image_size=8)
    config.update(mean=(0.5,) * 3, std=(0.25,) * 3)
    photos = dataset.load_test(config, f"folder:{tmp_path}", "another").images
    assert sorted(photos.labels.tolist()) == [2, 10]
    np.testing.assert_array_equal(photos.images[:, 0, 0, 0], photos.labels)


def test_a_photo_that_has_gone_meanwhile_is_named(root: Path) -> None:
    records = read(root).splits["train"].records
    (root / "bees" / "1.jpg").unlink()
    with pytest.raises(UserError, match=r"bees/1\.jpg: cannot be read \(No such file.*: put it back, and run the same"):
        records.read([7])


def test_a_folder_that_may_not_be_entered_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:  # as Linux does to all but root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        UserError, match=r"ants: cannot be read \(Permission denied\); make it readable, or take it away"
    ):
        read(root)
