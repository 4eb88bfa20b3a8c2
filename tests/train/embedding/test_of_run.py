"""Maps of a run that is trained in a second, the files that are written of them, and the page."""

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.train.report import photos
from train import loop
from train.data import dataset
from train.embedding import of_run, palette, writing
from train.embedding.of_run import Embedding, Options
from train.errors import UserError
from train.run import RunFolder

ATTACK = "<script>alert(1)</script>"


@pytest.fixture
def run(config: ConfigDict, tmp_path: Path) -> RunFolder:
    config.checkpoint.keep = 3
    loop.train(config, tmp_path / "digits")
    return RunFolder(tmp_path / "digits")


def payload(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_maps_are_of_the_same_images_in_every_order(run: RunFolder) -> None:
    told: list[str] = []
    options = Options(stages=("all",), points=40, perplexity=5, every_checkpoint=True)
    found = of_run.embed(run, options, told.append)
    assert found.stages == ("pixels", "hidden1", "output")
    steps = [seen.step for seen in found.seen]
    assert len(steps) == 3
    assert [(one.step, one.stage, one.method) for one in found.maps] == [
        (step, stage, method) for step in steps for stage in found.stages for method in ("pca", "tsne")
    ]
    test = dataset.load_test(run.config.dataset, "digits", run.environment["data"]["fingerprint"])
    assert (found.total, len(found.ids)) == (test.images.total, 40)
    places = [test.ids.index(name) for name in found.ids]
    np.testing.assert_array_equal(found.labels, test.images.labels[places])
    np.testing.assert_array_equal(found.images.images, test.images.images[places])
    assert [round(seen.epoch) for seen in found.seen] == [1, 2, 3]
    assert len(told) == 1 + 2 * 3  # pixels are mapped once
    pixels = [one for one in found.maps if one.stage == "pixels"]
    np.testing.assert_array_equal(pixels[0].points, pixels[-2].points)
    for row in found.panels("tsne"):
        for one, other in itertools.pairwise(row):  # nothing is turned any more
            centred = [points - points.mean(0) for points in (one.points, other.points)]
            overlap = centred[0].T @ centred[1]
            assert np.linalg.det(overlap) > -1e-3 * np.linalg.norm(overlap) ** 2


def test_points_stay_where_they_were_from_one_checkpoint_to_the_next(run: RunFolder) -> None:
    found = of_run.embed(run, Options(points=60, perplexity=10, every_checkpoint=True))
    for method in ("pca", "tsne"):
        rows = found.panels(method)
        for (one,), (other,) in itertools.pairwise(rows):
            moved = np.linalg.norm(one.points - one.points.mean(0) - other.points, axis=1).mean()
            random = np.random.default_rng(0).permutation(60)
            assert moved < 0.6 * np.linalg.norm(one.points - one.points[random], axis=1).mean()


def test_files_hold_what_was_found(run: RunFolder, tmp_path: Path) -> None:
    found = of_run.embed(run, Options(points=30, perplexity=5, every_checkpoint=True, stages=("pixels", "hidden1")))
    folder = tmp_path / "maps"
    folder.mkdir()
    paths = writing.write(found, folder)
    assert sorted(path.name for path in paths) == sorted(path.name for path in folder.iterdir())
    with np.load(folder / "embedding.npz") as arrays:  # nothing in it is a pickle
        assert arrays["coordinates"].shape == (3, 2, 2, 30, 2)
        np.testing.assert_array_equal(arrays["coordinates"][2, 1, 0], found.maps[-2].points)
        np.testing.assert_array_equal(arrays["predictions"][1], found.seen[1].taken_for)
        np.testing.assert_array_equal(arrays["confidence"][2], found.seen[2].confidence)
        assert arrays["ids"].tolist() == list(found.ids)
        assert arrays["stages"].tolist() == ["pixels", "hidden1"]
    figures = json.loads((folder / "embedding.json").read_text())
    assert (figures["points"], figures["perplexity"], len(figures["maps"])) == (30, 5, 12)
    assert figures["maps"][-1]["trustworthiness"] == found.maps[-1].quality.trustworthiness
    for method in ("pca", "tsne"):
        with Image.open(folder / f"{method}.png") as picture:
            assert min(picture.size) > 300
    writing.check(folder)
    writing.write(of_run.embed(run, Options(points=30, methods=("pca",))), folder)  # again, and less
    assert not (folder / "tsne.png").exists()


def test_the_page_has_the_maps_and_the_images(run: RunFolder) -> None:
    found = of_run.embed(run, Options(points=25, methods=("pca",)))
    data = payload(writing.explorer.build(found))
    assert data["ids"] == list(found.ids)
    assert data["labels"] == found.labels.tolist()
    assert data["looks"] == [list(look) for look in palette.looks(10)]
    places = np.frombuffer(base64.b64decode(data["maps"][0]["places"]), "<u2").reshape(-1, 2) / 65_535
    points = found.maps[0].points
    wide = (points.max(0) - points.min(0)).max()
    np.testing.assert_allclose(places - places[0], (points - points[0]) / wide, atol=1e-4)
    assert (places.min(), places.max()) == (0, 1)
    (sheet,) = data["thumbnails"]["sheets"]
    with Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2]))) as picture:
        tiles = np.asarray(picture).reshape(8, 25, 8).swapaxes(0, 1)
    np.testing.assert_array_equal(tiles, found.images.images.squeeze(-1))


def test_photos_are_shown_as_the_network_sees_them(config: ConfigDict, tmp_path: Path) -> None:
    root = photos.folder_of(tmp_path / "photos", train=12, test=8)
    config.dataset.update(source=f"folder:{root}", image_size=16, crop=0.875, validation=0.0)
    config.train.epochs = 1.0
    config.train.batch_size = 4
    loop.train(config, tmp_path / "run")
    found = of_run.embed(RunFolder(tmp_path / "run"), Options(methods=("pca",)))
    assert all(name.endswith(".jpg") for name in found.ids)
    data = payload(writing.explorer.build(found))
    with Image.open(io.BytesIO(base64.b64decode(data["thumbnails"]["sheets"][0].partition(",")[2]))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (8 * 16, 16))
        tiles = np.asarray(picture, np.float64).reshape(16, 8, 16, 3).swapaxes(0, 1)
    expected = found.images.middles(16, "bilinear", 0.875).images
    apart = [[np.abs(tile - image).mean() for image in expected] for tile in tiles]
    np.testing.assert_array_equal(np.argmin(apart, axis=1), np.arange(8))
    assert np.diagonal(apart).mean() < 0.3 * np.mean(apart)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        if tag == "script":
            self.scripts.append(dict(attributes))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset")]


def test_names_are_text_and_nothing_is_fetched(run: RunFolder) -> None:
    found = of_run.embed(run, Options(points=20, methods=("pca",)))
    run.config.dataset.class_names = (ATTACK, *"123456789")
    hostile = Embedding(**vars(found) | {"ids": [f"</script>{ATTACK}{i}" for i in range(20)], "source": ATTACK})
    page = writing.explorer.build(hostile)
    assert ATTACK not in page
    tags = _Tags()
    tags.feed(page)
    assert tags.scripts == [{"type": "application/json", "id": "data"}, {}]
    assert tags.addresses == ["data:,"]
    assert payload(page)["classes"][0] == ATTACK
    script = page.rpartition("<script>")[2].rpartition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    for call in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "http"):
        assert call not in script


WRONG = [
    (Options(stages=("fc7",)), "mlp has no stage 'fc7'; it has pixels, hidden1, output"),
    (Options(methods=("umap",)), "--method=umap: must be one of pca, tsne"),
    (Options(methods=()), "--method is empty"),
    (Options(points=2), "--points=2: a map takes 3 images or more"),
    (Options(points=50), "--perplexity=30 takes 91 points or more, and there are 50; --perplexity=16 is possible"),
    (Options(points=6, lower_perplexity=True), "t-SNE takes 7 points or more, and there are 6"),
]


def test_what_cannot_be_mapped(run: RunFolder) -> None:
    for options, message in WRONG:
        with pytest.raises(UserError, match=re.escape(message)):
            of_run.embed(run, options)
    np.savez(run.path / "two.npz", image=np.zeros((2, 8, 8), np.uint8), label=[0, 1])
    with pytest.raises(UserError, match=r"two\.npz: has 2 images, and a map takes 3 or more; name a --source"):
        of_run.embed(run, Options(source=f"npz:{run.path / 'two.npz'}"))
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="there is no checkpoint yet; the command that trains the run makes one"):
        of_run.embed(run, Options())
    run.config.dataset.source = ""  # as where weights have been imported
    with pytest.raises(UserError, match="--source=URI is missing"):
        of_run.embed(run, Options())


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "embedding.npz").touch()
    writing.check(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds other files \(thesis\.tex\)"):
        writing.check(tmp_path)


def test_forty_classes_look_different() -> None:
    looks = palette.looks(45)
    assert len(set(looks[:40])) == 40
    assert looks[40:] == looks[:5]


def test_each_thumbnail_stands_where_the_page_looks_for_it(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 250 images, 100 a row and, here, 200 a sheet."""
    monkeypatch.setattr(writing.explorer, "_ON_A_SHEET", 200)
    config.train.epochs = 1.0
    loop.train(config, tmp_path / "run")
    found = of_run.embed(RunFolder(tmp_path / "run"), Options(points=250, methods=("pca",)))
    thumbnails = payload(writing.explorer.build(found))["thumbnails"]
    side, across, each = (thumbnails[name] for name in ("side", "across", "each"))
    sheets = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        for address in thumbnails["sheets"]
    ]
    assert (side, across, each, len(sheets)) == (8, 100, 200, 2)
    for place, image in enumerate(found.images.images[..., 0]):
        row, column = divmod(place % each, across)  # as explorer.js has it
        tile = sheets[place // each][row * side : (row + 1) * side, column * side : (column + 1) * side]
        np.testing.assert_array_equal(tile, image)
