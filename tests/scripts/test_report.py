"""The report of a run, by a command."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.conftest import Command
from tests.train.report import photos
from train.loop import train


@pytest.fixture
def run(config: ConfigDict, tmp_path: Path) -> Path:
    """A finished run on photos, without a report."""
    config.dataset.update(source=f"folder:{photos.folder_of(tmp_path / 'photos')}", image_size=16, validation=0.0)
    config.train.update(epochs=1.0, batch_size=8)
    train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists()
    return tmp_path / "run"


def test_a_run_without_a_report_gets_one_wherever_its_photos_lie(run: Path, command: Command, tmp_path: Path) -> None:
    process = command("report", f"--run={run}")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f"report: {run}/report.html"
    assert (run / "report" / "stages.png").is_file()
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    process = command("report", f"--run={run}", f"--source=folder:{tmp_path}/elsewhere")
    assert process.returncode == 0, process.stderr


def test_what_is_no_finished_run_of_this_data_is_refused(
    run: Path, one_line_error: Callable[..., str], tmp_path: Path
) -> None:
    assert "--run=FOLDER is missing" in one_line_error("report")
    assert "no run folder" in one_line_error("report", f"--run={tmp_path}")
    photos.save(tmp_path / "photos" / "train" / "ants" / "another.jpg", photos.scene(77))
    assert "is not the data that" in one_line_error("report", f"--run={run}")
    (run / "result.json").unlink()
    assert "this run is not finished" in one_line_error("report", f"--run={run}")
