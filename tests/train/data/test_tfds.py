"""TensorFlow Datasets read without TensorFlow: small sets in its own format, made without it too."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import base
from train.data import dataset, tfds_build
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.tfds import read
from train.errors import UserError


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(index: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.2.3")
    SHAPE: tuple[int | None, ...] = (6, 6, 1)
    SPLITS: ClassVar[dict[str, int]] = {"train": 12, "test": 4}
    SECRET_TEST = False
    KEYS: tuple[str, str] | None = ("image", "label")

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=["no", "yes", "perhaps"])
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=self.SHAPE), "label": label}),
            supervised_keys=self.KEYS,
        )

    def _split_generators(self, manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split, count) for split, count in self.SPLITS.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(count):
            shape = tuple(side or 8 + index for side in self.SHAPE)
            secret = self.SECRET_TEST and split == "test"
            yield index, {"image": png(pixels(index, *shape)), "label": -1 if secret else index % 3}


class OldmastersDigits(_Builder):
    """Images of one size."""


class OldmastersPhotos(_Builder):
    """Images of many sizes, with a test whose labels are secret, as ImageNet's is."""

    SHAPE = (None, None, 3)
    SPLITS: ClassVar[dict[str, int]] = {"train": 12, "validation": 6, "test": 3}
    SECRET_TEST = True


class OldmastersUnlabelled(_Builder):
    """Does not say what is to be learnt."""

    KEYS = None


class OldmastersMasks(_Builder):
    """An image for each image."""

    KEYS = ("image", "image")


class OldmastersWindows(_Builder):
    """Images of four channels."""

    SHAPE = (6, 6, 4)


class OldmastersExam(_Builder):
    """A test alone."""

    SPLITS: ClassVar[dict[str, int]] = {"test": 4}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tfds"))
    for name in ("digits", "photos", "unlabelled", "masks", "windows", "exam"):
        tfds.builder(f"oldmasters_{name}", data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_images_of_one_size_are_the_pixels_that_were_stored(prepared: str) -> None:
    source = read("oldmasters_digits", data_dir=prepared, stream=None)
    assert source.class_names == ("no", "yes", "perhaps")
    examples = source.splits["train"]
    assert isinstance(examples, Examples)
    assert examples.images.shape == (12, 6, 6, 1)
    # tfds shuffles what it stores.
    stored = {pixels(index, 6, 6, 1).tobytes(): index % 3 for index in range(12)}
    found = {image.tobytes(): label for image, label in zip(examples.images, examples.labels.tolist(), strict=True)}
    assert found == stored
    assert source.splits["test"].total == 4


def test_images_of_many_sizes_stay_encoded(prepared: str) -> None:
    source = read("oldmasters_photos", data_dir=prepared, stream=None)
    photos = source.splits["train"]
    assert isinstance(photos, Photos)
    stored = {png(pixels(index, 8 + index, 8 + index, 3)): index % 3 for index in range(12)}
    assert dict(photos.records.read(range(12))) == stored
    assert [stored[data] for data, _ in photos.records.read(range(12))] == photos.labels.tolist()


def test_a_test_whose_labels_are_secret_does_not_count(prepared: str) -> None:
    config = base.get_config().dataset
    config.update(source="tfds:oldmasters_photos", data_dir=prepared, image_size=8, validation=0.0)
    data = dataset.load(config)
    assert (data.train.total, data.test.total, data.test_split) == (12, 6, "val")
    assert config.classes == 3
    assert config.channels == 3


def test_one_size_is_streamed_on_demand(prepared: str) -> None:
    photos = read("oldmasters_digits:1.2.3", data_dir=prepared, stream=True).splits["train"]
    assert isinstance(photos, Photos)
    held = read("oldmasters_digits", data_dir=prepared, stream=False).splits["train"]
    np.testing.assert_array_equal(photos.whole().images, held.images)
    np.testing.assert_array_equal(photos.labels, held.labels)


def test_what_fills_memory_is_streamed(prepared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.tfds._RESIDENT_BYTES", 16 * 36 - 1)
    assert isinstance(read("oldmasters_digits", data_dir=prepared, stream=None).splits["train"], Photos)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "TensorFlow Datasets has no set of that name; nearest: mnist"),
        ("mnist", r"tfds:mnist: is not prepared in .*; prepare it with: python -m scripts.prepare --source=tfds:mnist"),
        ("mnist:7.7.7", "cannot be loaded at version 7.7.7, only: 3.0.1"),
        ("oldmasters_unlabelled", r"does not say which of its features are image and label \(supervised_keys\)"),
        ("oldmasters_masks", "is no set of images with one label each"),
        ("oldmasters_windows", r"images must be bytes with 1 or 3 channels, are .*uint8.* \(6, 6, 4\); choose another"),
        ("oldmasters_exam", "has no split `train`, but test; choose another set"),
    ],
)
def test_what_cannot_be_read_says_how_to_go_on(prepared: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(name, data_dir=prepared, stream=None)


def test_reading_takes_no_tensorflow(prepared: str) -> None:
    read("oldmasters_digits", data_dir=prepared, stream=None)
    assert "tensorflow" not in sys.modules


@pytest.mark.peer
def test_a_copy_in_tfrecord_files_gets_array_record_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason='needs the peer tensorflow (pip install -e ".[prepare]")')
    builder = tfds.builder("oldmasters_digits", data_dir=tmp_path, file_format="tfrecord")
    builder.download_and_prepare()
    before = {path: path.read_bytes() for path in Path(builder.data_path).iterdir()}
    with pytest.raises(UserError, match=f"add array_record files with: .*digits --data_dir={tmp_path}"):
        read("oldmasters_digits", data_dir=str(tmp_path), stream=None)
    said = tfds_build.build("oldmasters_digits", tmp_path, None)
    assert "12 train, 4 test" in said
    examples = read("oldmasters_digits", data_dir=str(tmp_path), stream=None).splits["train"]
    assert isinstance(examples, Examples)
    found = {image.tobytes(): label for image, label in zip(examples.images, examples.labels.tolist(), strict=True)}
    assert found == {pixels(index, 6, 6, 1).tobytes(): index % 3 for index in range(12)}
    kept = {path: path.read_bytes() for path in before if path.name != "dataset_info.json"}
    assert kept.items() <= before.items()
    assert tfds_build.build("oldmasters_digits", tmp_path, None) == said  # nothing is left to do


@pytest.mark.peer
def test_a_damaged_copy_in_tfrecord_files_stays_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason='needs the peer tensorflow (pip install -e ".[prepare]")')
    builder = tfds.builder("oldmasters_digits", data_dir=tmp_path, file_format="tfrecord")
    builder.download_and_prepare()
    (shard,) = builder.info.splits["train"].filepaths
    shard.write_bytes(shard.read_bytes()[:-5])
    for _ in range(2):
        with pytest.raises(UserError, match=r"train.tfrecord-00000-of-00001: cannot be read as a TFRecord file"):
            tfds_build.build("oldmasters_digits", tmp_path, None)
        assert not list(Path(builder.data_path).glob("*array_record*"))
        assert tfds.builder("oldmasters_digits", data_dir=tmp_path).info.available_file_formats() == {
            tfds.core.FileFormat.TFRECORD
        }
