"""Photos into batches, beside those who do the same."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.conftest import Command
from tests.train.report import photos
from train.benchmark import input as reading
from train.data import predecoded, sources
from train.errors import UserError


def test_small_photos_are_enlarged_and_large_ones_are_not() -> None:
    def encoded(width: int, height: int) -> bytes:
        out = io.BytesIO()
        photos.scene(0, width, height).save(out, "JPEG")
        return out.getvalue()

    large = encoded(600, 400)
    assert reading._enlarged(large) == large
    assert Image.open(io.BytesIO(reading._enlarged(encoded(128, 96)))).size == (500, 375)
    assert Image.open(io.BytesIO(reading._enlarged(encoded(96, 128)))).size == (375, 500)


def test_what_has_no_photos_is_refused(one_line_error: Callable[..., str]) -> None:
    assert "--suite=input: needs --peer=torch or tensorflow" in one_line_error("benchmark", "--suite=input")


def test_what_leaves_nothing_to_decode_is_refused(config: ConfigDict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cuts random crops; set config.augment.random_resized_crop=0.08"):
        reading.measure(config.copy_and_resolve_references(), "torch", 1, 1)
    config.augment.random_resized_crop = 0.08
    folder = f"folder:{photos.folder_of(tmp_path / 'photos', train=4)}"
    predecoded.write(sources.read(folder, config.dataset), folder, tmp_path / "cache", 32, "bilinear")
    for source, words in (
        ("digits", "holds pixels; name photos"),
        (f"cache:{tmp_path}/cache", "is decoded already; name the photos"),
    ):
        config.dataset.source = source
        with pytest.raises(UserError, match=f"--suite=input: {source} {words}"), reading._photos(config):
            raise AssertionError


@pytest.mark.peer
@pytest.mark.parametrize("peer", list(reading.PEERS))
def test_both_sides_read(peer: str, command: Command, tmp_path: Path) -> None:
    root = photos.folder_of(tmp_path / "photos", train=12, test=4)
    process = command(
        "benchmark",
        *("--suite=input", f"--peer={peer}", "--config=configs/alexnet_folder.py", "--repeats=1"),
        *(f"--config.dataset.source=folder:{root}", f"--output={tmp_path}/figures.json"),
    )
    assert process.returncode == 0, process.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert row["images_per_second"] > 0
    assert row["peer_images_per_second"] > 0
    assert row["cached_images_per_second"] > 0
    assert np.isfinite(row["memory_growth"])
