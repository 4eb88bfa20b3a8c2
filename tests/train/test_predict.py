"""Predictions against the run's own evaluation, and images however they are stored."""

import io
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from tests.train.data.test_folder import photo
from train import predict
from train.data import dataset
from train.data.photos import Photos
from train.errors import UserError
from train.evaluate import evaluate_run
from train.loop import train
from train.predict import Prediction, Unusable, find
from train.run import RunFolder


def perceptron(folder: Path, **section: object) -> RunFolder:
    """A small perceptron, trained in a second on what the section `dataset` says."""
    config: ConfigDict = base.get_config()
    config.evaluate.report = False
    config.model.update(name="mlp", hidden=(16,))
    config.dataset.update(**section)
    config.train.update(epochs=3.0, batch_size=8)
    config.log.tensorboard = False
    train(config, folder)
    return RunFolder(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the embedded digits as they are, 8x8 pixels of gray."""
    return perceptron(tmp_path_factory.mktemp("digits"), image_size=8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on photos of noise in colour, of many sizes, the middle cropped and scaled."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(30):
        photo(root / ("dark", "light")[index % 2] / f"{index}.{('jpg', 'png', 'webp')[index % 3]}", index)
    options = {"source": f"folder:{root}", "image_size": 16, "crop": 0.875, "resize": "bicubic", "test": 0.5}
    return perceptron(tmp_path_factory.mktemp("run"), **options)


@pytest.fixture(scope="module")
def written(digits: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray]:
    """The digits' test images as PNG files, and their labels."""
    test, *_ = dataset.load_test(digits.config.dataset, "digits", digits.environment["data"]["fingerprint"])
    assert not isinstance(test, Photos)
    folder = tmp_path_factory.mktemp("written")
    names = [str(folder / f"{index:03}.png") for index in range(test.total)]
    for name, image in zip(names, test.images, strict=True):
        Image.fromarray(image[..., 0]).save(name)
    return names, test.labels


def all_of(run: RunFolder, names: list[str], top: int = 10) -> list[Prediction]:
    """Predictions of images that can all be used."""
    answers = list(predict.predict(run, names, top))
    assert [answer.image for answer in answers] == names
    for answer in answers:
        assert isinstance(answer, Prediction), answer
    return answers


def agree(found: list[Prediction], figures: dict, labels: np.ndarray) -> None:
    """Hold accuracy and loss of predictions of all classes against an evaluation's."""
    assert len(found) == figures["count"]
    hits = [prediction.guesses[0].index == label for prediction, label in zip(found, labels, strict=True)]
    assert np.mean(hits) == pytest.approx(figures["accuracy"], abs=1e-9)
    losses = [
        -math.log(next(guess.probability for guess in prediction.guesses if guess.index == label))
        for prediction, label in zip(found, labels, strict=True)
    ]
    assert np.mean(losses) == pytest.approx(figures["loss"], rel=1e-4)


def test_digits_are_predicted_as_they_are_evaluated(digits: RunFolder, written: tuple[list[str], np.ndarray]) -> None:
    assert digits.result is not None
    agree(all_of(digits, written[0]), digits.result["test"], written[1])


def test_photos_are_predicted_as_they_are_evaluated(photos: RunFolder) -> None:
    source = photos.config.dataset.source
    test, *_ = dataset.load_test(photos.config.dataset, source, photos.environment["data"]["fingerprint"])
    assert isinstance(test, Photos)
    names = [test.records.name(index) for index in test.index]
    agree(all_of(photos, names), evaluate_run(photos, source), test.labels)


def test_padded_images_are_predicted_as_they_are_evaluated(idx_folder: Path, tmp_path: Path) -> None:
    source = f"idx:{idx_folder}"
    run = perceptron(tmp_path / "run", source=source, resize="pad", image_size=32)
    test = dataset.read(source, run.config.dataset).splits["test"]
    names = [str(tmp_path / f"{index}.png") for index in range(test.total)]
    for name, image in zip(names, test.images, strict=True):
        Image.fromarray(image[..., 0]).save(name)
    agree(all_of(run, names), evaluate_run(run, source), test.labels)

    Image.new("L", (40, 20)).save(tmp_path / "wide.png")
    (wide,) = predict.predict(run, [str(tmp_path / "wide.png")], 1)
    assert isinstance(wide, Unusable)
    assert "has 40x20 pixels and the network sees 32x32: its images were padded, not scaled" in wide.why
    assert (
        "make it as large as the images it was trained on, or train with --config.dataset.resize=bilinear" in wide.why
    )


def test_guesses_are_classes_in_order(digits: RunFolder, written: tuple[list[str], np.ndarray]) -> None:
    everything = all_of(digits, written[0][:5], top=100)  # more than there are
    for prediction in everything:
        probabilities = [guess.probability for guess in prediction.guesses]
        assert sorted(guess.index for guess in prediction.guesses) == list(range(10))
        assert all(guess.name == str(guess.index) for guess in prediction.guesses)
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    for few, many in zip(all_of(digits, written[0][:5], top=3), everything, strict=True):
        assert few.guesses == many.guesses[:3]


def test_classes_have_the_names_of_the_folders(photos: RunFolder) -> None:
    found = find([photos.config.dataset.source.removeprefix("folder:")])
    for prediction in all_of(photos, found):
        assert {(guess.name, guess.index) for guess in prediction.guesses} == {("dark", 0), ("light", 1)}


def test_classes_without_names_have_their_index(digits: RunFolder, written: tuple[list[str], np.ndarray]) -> None:
    nameless = RunFolder(digits.path)
    nameless.config.dataset.class_names = None
    assert all_of(nameless, written[0][:5]) == all_of(digits, written[0][:5])


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batches_of_any_size_say_the_same(
    digits: RunFolder, written: tuple[list[str], np.ndarray], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, traced = written[0][:17], []
    together = all_of(digits, names)
    normalise = predict.normalise
    monkeypatch.setattr(predict, "normalise", lambda *given: traced.append(given[0].shape) or normalise(*given))
    few = RunFolder(digits.path)
    few.config.evaluate.batch_size = batch_size
    for one, other in zip(all_of(few, names), together, strict=True):
        assert [guess.index for guess in one.guesses] == [guess.index for guess in other.guesses]
        assert [guess.probability for guess in one.guesses] == pytest.approx(
            [guess.probability for guess in other.guesses], rel=1e-4
        )
    assert traced == [(batch_size, 8, 8, 1)]  # one program


def test_no_more_is_decoded_than_two_batches_ahead(
    digits: RunFolder, written: tuple[list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    sized = predict.sized
    monkeypatch.setattr(predict, "sized", lambda *given: decoded.append(1) or sized(*given))
    few = RunFolder(digits.path)
    few.config.evaluate.batch_size = 4
    answers = predict.predict(few, written[0], 5)
    assert len(decoded) == 0
    assert len(list(itertools.islice(answers, 5))) == 5
    assert len(decoded) == 12


def test_nothing_is_predicted_of_no_images(digits: RunFolder) -> None:
    assert list(predict.predict(digits, [], 5)) == []


def stored(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image) -> bytes:
    """The image lying on its side, and Exif data that say so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    return stored(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def sixteen_bits(image: Image.Image) -> bytes:
    return stored(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


WAYS: dict[str, Callable[[Image.Image], bytes]] = {
    "RGB": lambda image: stored(image.convert("RGB"), "PNG"),
    "RGBA": lambda image: stored(image.convert("RGBA"), "PNG"),
    "gray with alpha": lambda image: stored(image.convert("LA"), "PNG"),
    "palette": lambda image: stored(image.convert("RGB").quantize(256), "PNG"),
    "WebP": lambda image: stored(image.convert("RGB"), "WEBP", lossless=True),
    "16 bits": sixteen_bits,
    "turned": turned,
}


@pytest.mark.parametrize("way", WAYS)
def test_however_an_image_is_stored_it_is_the_same(
    digits: RunFolder, photos: RunFolder, written: tuple[list[str], np.ndarray], tmp_path: Path, way: str
) -> None:
    for run in (digits, photos):  # gray is shown to a network for colours, and the reverse
        gray = Image.open(written[0][3])
        (tmp_path / "image").write_bytes(WAYS[way](gray))
        (as_stored,) = all_of(run, [str(tmp_path / "image")])
        (plain,) = all_of(run, [written[0][3]])
        assert as_stored.guesses == plain.guesses


def test_a_photo_on_its_side_is_seen_upright(photos: RunFolder, tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:40, 0:30]
    upright = Image.fromarray(np.stack([6 * rows, 8 * columns, 0 * rows], -1).astype(np.uint8))
    (tmp_path / "upright.png").write_bytes(stored(upright, "PNG"))
    (tmp_path / "lying.png").write_bytes(turned(upright))
    (tmp_path / "wrong.png").write_bytes(stored(upright.transpose(Image.Transpose.ROTATE_90), "PNG"))
    names = [str(tmp_path / f"{name}.png") for name in ("upright", "lying", "wrong")]
    upright_says, lying_says, wrong_says = (prediction.guesses for prediction in all_of(photos, names))
    assert upright_says == lying_says
    assert upright_says != wrong_says


def test_what_cannot_be_used_stops_nothing(
    digits: RunFolder, written: tuple[list[str], np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "words.png").write_text("no image")
    (tmp_path / "half.png").write_bytes(Path(written[0][0]).read_bytes()[:-40])
    bad = {
        "words.png": "must be a JPEG, PNG or WebP image, is none of them",
        "half.png": "cannot be decoded",
        "none.png": "cannot be read (No such file or directory)",
        "n" * 300: "cannot be read (File name too long)",
    }
    good = written[0][:4]
    names = find([name for pair in zip(good, (str(tmp_path / name) for name in bad), strict=True) for name in pair])
    few = RunFolder(digits.path)
    few.config.evaluate.batch_size = 3
    answers = list(predict.predict(few, names, 10))
    assert [answer.image for answer in answers] == names
    for answer, plain in zip(answers[::2], all_of(few, good), strict=True):
        assert answer == plain
    for answer, why in zip(answers[1::2], bad.values(), strict=True):
        assert isinstance(answer, Unusable)
        assert answer.why.startswith(why)


def test_a_folder_is_the_images_in_it(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/2.jpg", "a/10.jpeg", "a/deep/1.webp", "c/phone.heic", ".hidden.png", ".cache/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "c" / "Thumbs.db").touch()
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    inside = [f"{tmp_path}/{name}" for name in ("a/10.jpeg", "a/2.jpg", "a/deep/1.webp", "b.PNG", "c/phone.heic")]
    assert find([str(tmp_path)]) == inside
    assert find(["x.jpg", f"{tmp_path}/a/deep/", "-", f"{tmp_path}/notes.txt"]) == [
        "x.jpg",
        f"{tmp_path}/a/deep/1.webp",
        "-",
        f"{tmp_path}/notes.txt",  # who names a file means it
    ]


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=f"{tmp_path}: holds no image"):
        find(["x.jpg", str(tmp_path)])


def test_standard_input_is_one_image() -> None:
    with pytest.raises(UserError, match="-: is given 2 times; standard input is the bytes of one image"):
        find(["-", "x.jpg", "-"])


def test_a_closed_standard_input_is_no_image(digits: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    (found,) = predict.predict(digits, ["-"], 1)
    assert isinstance(found, Unusable)
    assert "closed" in found.why
