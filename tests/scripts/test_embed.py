"""What scripts.embed prints, writes and refuses. tests/train/embedding is about the maps."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.conftest import Command
from train import loop


@pytest.fixture
def run(config: ConfigDict, tmp_path: Path) -> str:
    """The flag of a run of a second."""
    loop.train(config, tmp_path / "run")
    return f"--run={tmp_path}/run"


def test_maps_are_written_and_named(command: Command, run: str, tmp_path: Path) -> None:
    output = tmp_path / "maps" / "digits"
    flags = [run, "--layer=pixels,hidden1", "--points=40", "--lower_perplexity", f"--output={output}"]
    process = command("embed", *flags)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    names = ["embedding.npz", "embedding.json", "pca.png", "tsne.png", "explorer.html"]
    *said, note = (lines := process.stdout.splitlines())[: -len(names)]
    assert lines[-len(names) :] == [str(output / name) for name in names]
    assert note == "note: the perplexity is 13: there are 40 images"
    assert [line.partition(" ")[0] for line in said] == ["pixels", "hidden1"]
    assert all("trustworthiness pca 0." in line and "tsne 0." in line for line in said)


def test_what_is_wrong_is_one_line(one_line_error: Callable[..., str], run: str, tmp_path: Path) -> None:
    for flag, message in (
        ("--layer=fc7", "mlp has no stage 'fc7'; it has pixels, hidden1, output (or all)"),
        ("--points=20", "--perplexity=6 is possible, and --lower_perplexity takes it"),
    ):
        assert message in one_line_error("embed", run, flag, f"--output={tmp_path}/maps")


def test_flags_that_are_missing_and_folders_that_are_not_ours(
    one_line_error: Callable[..., str], run: str, tmp_path: Path
) -> None:
    assert "--output=FOLDER" in one_line_error("embed", run)
    (tmp_path / "notes.txt").touch()
    assert "holds other files (notes.txt)" in one_line_error("embed", run, f"--output={tmp_path}")
