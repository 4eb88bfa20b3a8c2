"""Caches hold what their photos show, and say so where they do not."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from tests.conftest import Command
from tests.train.data.test_decode import encode, scene
from train import settings
from train.data import dataset, sources
from train.data.boxes import ChooseBox, random_box
from train.data.photos import Photos
from train.data.predecoded import write
from train.data.stream import TrainingBatches, stream
from train.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """As ImageNet's are: JPEG of several sizes, among them gray, CMYK, and a PNG that is called .JPEG."""
    root = tmp_path / "photos"
    files = {
        "train/n01/a.JPEG": encode(scene(120, 90)),
        "train/n01/b.JPEG": encode(scene(90, 140).convert("L")),
        "train/n02/ç d.JPEG": encode(scene(80, 81).convert("CMYK")),
        "train/n02/e.JPEG": encode(scene(100, 75).rotate(180), "PNG"),
        "val/n01/a.JPEG": encode(scene(60, 60)),
        "val/n02/b.JPEG": encode(scene(64, 100)),
    }
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def cache(photos: Path, tmp_path: Path) -> Path:
    make(photos, tmp_path / "cache")
    return tmp_path / "cache"


def read(uri: str, **options: object) -> sources.Source:
    config = base.get_config().dataset
    config.update(source=uri, **options)
    return sources.read(uri, config)


def at_random(place: int) -> ChooseBox:
    return partial(random_box, random=np.random.default_rng(place), smallest=0.9)


def make(photos: Path, folder: Path, shorter: int = 40) -> str:
    uri = f"folder:{photos}"
    return write(read(uri), uri, folder, shorter, "bilinear")


def test_it_holds_each_photo_scaled(photos: Path, cache: Path) -> None:
    before, after = read(f"folder:{photos}"), read(f"cache:{cache}", image_size=32)
    assert after.class_names == before.class_names
    assert list(after.splits) == ["train", "validation"]
    for split, was in before.splits.items():
        held = after.splits[split]
        assert isinstance(was, Photos)
        assert isinstance(held, Photos)
        every = np.arange(was.total)
        np.testing.assert_array_equal(held.labels, was.labels)
        for one, other in zip(was.scaled(every, 40, "bilinear"), held.scaled(every, 40, "bilinear"), strict=True):
            np.testing.assert_array_equal(one, other)
        for index in range(was.total):
            assert held.records.id(index) == was.records.id(index)
            image = held.records.read([index])[0][0]
            assert held.records.digest(index) == hashlib.sha256(image.tobytes()).hexdigest()
        crops = [part.load(every, 32, "bilinear", at_random).images.astype(int) for part in (was, held)]
        assert np.abs(crops[0] - crops[1]).mean() < 12  # drawn from the same places


def test_its_middles_are_those_of_the_photos(photos: Path, cache: Path) -> None:
    """Of what is scaled to 40 pixels, 35 in the middle are cut out: the same, whenever it is scaled."""
    one, other = (
        read(uri, image_size=35, crop=0.875).splits["train"] for uri in (f"folder:{photos}", f"cache:{cache}")
    )
    expected, found = (part.middles(35, "bilinear", 0.875).images.astype(int) for part in (one, other))
    assert np.abs(expected - found).max() <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_it_is_streamed(cache: Path, config: ConfigDict, workers: int) -> None:
    config.dataset.update(source=f"cache:{cache}", image_size=32, validation=0.0)
    config.augment.random_resized_crop = 0.3
    config.train.batch_size = 2
    settings.resolve(config)
    make_batch = TrainingBatches(dataset.load(config.dataset).train, config)
    with stream(make_batch, 0, 3, workers) as batches:
        for step, batch in enumerate(batches):
            np.testing.assert_array_equal(batch.images, make_batch(step).images)


def test_a_run_trains_on_it_and_is_evaluated_on_the_photos(command: Command, photos: Path, tmp_path: Path) -> None:
    cache, run = tmp_path / "cache", tmp_path / "run"
    process = command("prepare", f"--source=folder:{photos}", f"--cache={cache}", "--image_size=40")
    assert process.returncode == 0, process.stderr
    assert "4 train, 2 validation" in process.stdout
    small = ["--config.model.name=mlp", "--config.model.hidden=(4,)", "--config.train.batch_size=2"]
    small += ["--config.dataset.image_size=32", "--config.dataset.validation=0.0", "--config.train.epochs=1"]
    small += ["--config.evaluate.report=False", f"--config.dataset.source=cache:{cache}"]
    process = command("train", "--config=configs/base.py", f"--workdir={run}", *small)
    assert process.returncode == 0, process.stderr
    figures = []
    for source in (f"cache:{cache}", f"folder:{photos}"):
        output = tmp_path / "figures.json"
        process = command("evaluate", f"--run={run}", f"--source={source}", f"--output={output}")
        assert process.returncode == 0, process.stderr
        figures.append(json.loads(output.read_text()))
    assert figures[0]["count"] == figures[1]["count"] == 2
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=0.02)


def test_a_photo_that_cannot_be_decoded_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    source = read(f"folder:{photos}")
    (photos / "val/n02/b.JPEG").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.JPEG: must be a JPEG"):
        write(source, "folder", tmp_path / "cache", 40, "bilinear")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_what_a_killed_one_has_left_goes_and_what_another_makes_stays(photos: Path, tmp_path: Path) -> None:
    draft = tmp_path / ".cache.draft"
    draft.mkdir()
    (draft / "train.pixels").write_bytes(b"half")
    held = os.open(draft, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process writes there"):
        make(photos, tmp_path / "cache")
    assert (draft / "train.pixels").read_bytes() == b"half"
    os.close(held)
    make(photos, tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photos"]
    names = ["cache.json", "train.npz", "train.pixels", "validation.npz", "validation.pixels"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == names


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pixels cut off": (lambda folder: cut(folder / "train.pixels"), "does not hold what its table says"),
    "pixels empty": (lambda folder: (folder / "train.pixels").write_bytes(b""), "cannot be read"),
    "no pixels": (lambda folder: (folder / "train.pixels").unlink(), "cannot be read"),
    "table cut off": (lambda folder: cut(folder / "train.npz"), "cannot be read"),
    "no list": (lambda folder: (folder / "cache.json").unlink(), "is no cache"),
    "no JSON": (lambda folder: (folder / "cache.json").write_text("{"), "cannot be read"),
    "newer": (lambda folder: (folder / "cache.json").write_text('{"format": 2}'), "format 2"),
    "other": (lambda folder: (folder / "cache.json").write_text('{"format": 1}'), "cannot be read"),
    "nested": (lambda folder: (folder / "cache.json").write_text("[" * 100_000), "nested too deeply"),
    "channels": (lambda folder: says(folder, channels=2**40), "channels must be 1 or 3"),
    "size": (lambda folder: says(folder, image_size="large"), "image_size"),
    "classes": (lambda folder: says(folder, classes=[1, 2]), "no texts"),
    "one class": (lambda folder: says(folder, classes=["a"]), "does not hold what its table says"),
    "skipped": (lambda folder: says(folder, skipped="x"), "skipped"),
    "splits": (lambda folder: says(folder, splits=["train"]), "splits"),
    "elsewhere": (lambda folder: says(folder, splits={"../train": {"fingerprint": "a"}}), "splits must be train"),
    "no splits": (lambda folder: says(folder, splits={}), "splits must be train"),
    "fingerprint": (lambda folder: says(folder, splits={"train": {"fingerprint": 1}}), "fingerprint"),
    "no fingerprint": (lambda folder: says(folder, splits={"train": 1}), "cannot be read"),
    "negative": (lambda folder: tabled(folder, side=lambda side: -side), "does not hold what its table says"),
    "huge": (lambda folder: tabled(folder, side=lambda side: side + 2**30), "does not hold what its table says"),
    "offset": (lambda folder: tabled(folder, offset=lambda offset: offset - 2**40), "does not hold"),
    "one offset": (lambda folder: tabled(folder, offset=lambda offset: offset[:1]), "does not hold"),
    "texts": (lambda folder: tabled(folder, offset=lambda offset: offset.astype(str)), "does not hold"),
    "labels": (lambda folder: tabled(folder, label=lambda label: label + 1), "does not hold"),
    "fewer": (lambda folder: tabled(folder, label=lambda label: label[1:]), "does not hold"),
    "objects": (lambda folder: tabled(folder, label=lambda label: label.astype(object)), "cannot be read"),
}


def says(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps(about | changes))


def tabled(folder: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(folder / "train.npz") as table:
        arrays = {name: changes.get(name, lambda array: array)(table[name]) for name in table.files}
    np.savez(folder / "train.npz", **arrays)


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_said(what: str, cache: Path) -> None:
    damage, message = DAMAGE[what]
    damage(cache)
    with pytest.raises(UserError, match=message):
        read(f"cache:{cache}", image_size=32)


def test_images_smaller_than_wanted_are_refused(cache: Path) -> None:
    with pytest.raises(UserError, match=r"40 pixels along the shorter side, and 64 are wanted.*--image_size=64"):
        read(f"cache:{cache}", image_size=56, crop=0.875)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source=digits"], "held in memory, decoded"),
        (["--source=folder:nowhere"], "there is no such folder"),
        (["--source=foldr:x"], "must start with one of"),
        (["--source="], "--source=... is missing"),
        (["--source=folder:{photos}", "--manual_dir=x"], "--manual_dir: is for sets that are built"),
        (["--source=folder:{photos}", "--cache={photos}/train/n01/a.JPEG/x"], "cannot be written"),
        (["--source=folder:{photos}", "--resize=pad"], "resize"),
        (["--source=folder:{photos}", "--image_size=0"], "image_size"),
        (["--source=folder:{photos}", "--cache={photos}"], "is there already"),
    ],
)
def test_what_is_wrong_is_one_line(
    one_line_error: Callable[..., str], photos: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    flags = [f"--cache={tmp_path / 'cache'}", *(flag.format(photos=photos) for flag in flags)]
    assert message in one_line_error("prepare", *flags)
    assert not (tmp_path / "cache").exists()


KINDS = (("folder", "photos"), ("cache", "cache"))


def test_a_photo_of_the_original_size_is_not_made_smaller(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)).save(
            tmp_path / "photos" / name / "x.png"
        )
    make(tmp_path / "photos", tmp_path / "cache", 48)
    one, other = (read(f"{kind}:{tmp_path / name}", image_size=48) for kind, name in KINDS)
    np.testing.assert_array_equal(one.splits["train"].whole().images, other.splits["train"].whole().images)


def test_names_in_a_cache_are_texts_when_they_are_asked_for(cache: Path) -> None:
    tabled(cache, id=lambda names: np.arange(len(names)))
    records = read(f"cache:{cache}", image_size=32).splits["train"].records
    with pytest.raises(UserError, match="id and digest must be texts"):
        records.id(0)
    tabled(cache, id=lambda names: np.array([b"\xff\xfe"] * len(names)))
    assert read(f"cache:{cache}", image_size=32).splits["train"].records.id(0) == r"\xff\xfe"


def test_where_there_is_no_room_a_line_says_so(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.data.predecoded._write_split", full)
    with pytest.raises(UserError, match=r"--cache=.*cache: cannot be written \(No space left on device\); make room"):
        make(photos, tmp_path / "cache")
    assert {entry.name for entry in tmp_path.iterdir()} == {"photos"}
