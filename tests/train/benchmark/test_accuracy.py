"""Time to accuracy: both sides learn, and what has no peer is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command, write_idx
from train.data.idx import read_file


def test_what_has_no_peer_is_refused(one_line_error: Callable[..., str]) -> None:
    assert "needs --peer=torch, whom to compare with" in one_line_error("benchmark", "--suite=accuracy")


@pytest.mark.peer
def test_another_source_is_refused(one_line_error: Callable[..., str]) -> None:
    line = one_line_error("benchmark", "--suite=accuracy", "--peer=torch")
    assert "the peer trains LeNet-5 on idx:FOLDER, not lenet5 on digits" in line


@pytest.mark.peer
def test_both_sides_learn(command: Command, real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for prefix, count in (("train", 6_000), ("t10k", 1_000)):
        for name, dimensions in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
            write_idx(tmp_path / "mnist" / name, read_file(real_data / "mnist" / f"{name}.gz", dimensions)[:count])
    process = command(
        "benchmark",
        *("--suite=accuracy", "--peer=torch", "--config=configs/lenet5_mnist_fast.py", "--repeats=2"),
        *(f"--config.dataset.source=idx:{tmp_path}/mnist", f"--output={tmp_path}/figures.json"),
    )
    assert process.returncode == 0, process.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert row["peer_setting"] in ("contiguous", "channels_last")
    for prefix in ("", "peer_"):
        low, high = row[f"{prefix}spread"]
        assert 0 < low <= row[f"{prefix}seconds_in_all"] <= high
        assert len(set(row[f"{prefix}accuracies"])) == 2, "each turn has a seed of its own"
        assert row[f"{prefix}accuracy"] == sum(row[f"{prefix}accuracies"]) / 2 > 0.8
    assert row["first_seconds"] > row["spread"][0], "in the first turn all is compiled"
    assert "accuracy" in process.stdout
