import json
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.conftest import Command
from tests.train.report import photos
from train.benchmark import maps, own
from train.errors import UserError


def test_sides_take_turns_and_the_first_turn_does_not_count(
    config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    def side(name: str, figures: list[float]) -> own.Measurement:
        remaining = iter(figures)

        def measure() -> float:
            order.append(name)
            return next(remaining)

        return measure

    sides = {"a": side("a", [1000, 6, 2, 4]), "b": side("b", [0, 1, 2, 3])}
    monkeypatch.setattr(own, "SUITES", {"suite": ("seconds", lambda config, launch: sides)})
    row = own.measure("suite", config, lambda flags: None, repeats=3)
    assert order == ["b", "a", "a", "b"] * 2  # each comes first every other time
    assert row == {
        "suite": "suite",
        "peer": "oldmasters",
        "fraction_of_limit": None,
        "setting": "a",
        "seconds": 4,
        "spread": [2, 6],
        "peer_setting": "b",
        "peer_seconds": 2,
        "peer_spread": [1, 3],
        "ratio": 2,
    }


def test_a_map_takes_images_in_memory_and_openTSNE(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photos.folder_of(tmp_path / "photos", train=12)
    config.dataset.update(source=f"folder:{root}", stream=True, validation=0.0)
    with pytest.raises(UserError, match=r"--suite=tsne: folder:.* has no images in memory; try idx:FOLDER"):
        maps.tsne(config)
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(UserError, match=r'openTSNE is not installed; pip install -e "\.\[explore\]"'):
        maps.tsne(config)


def test_command_writes_figures(command: Command, tmp_path: Path) -> None:
    process = command("benchmark", "--suite=start", "--repeats=1", f"--output={tmp_path}/b.json")
    assert process.returncode == 0, process.stderr
    figures = json.loads((tmp_path / "b.json").read_text())
    (row,) = figures["rows"]
    assert row["setting"] == "warm cache"
    assert row["seconds_to_first_step"] > 0
    assert "ratio" in process.stdout
