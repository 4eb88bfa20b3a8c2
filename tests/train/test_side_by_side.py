import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.conftest import Command
from train import side_by_side
from train.errors import UserError
from train.loop import train
from train.run import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """The perceptron of conftest.py and one with fewer units, trained on the embedded digits."""
    from configs import base

    folders = []
    for units in (16, 4):
        config: ConfigDict = base.get_config()
        config.evaluate.report = False
        config.model.update(name="mlp", hidden=(units,))
        config.dataset.image_size = 8
        config.train.update(epochs=3.0, batch_size=64)
        config.log.update(every_steps=10, tensorboard=False)
        folder = tmp_path_factory.mktemp("runs") / f"units_{units}"
        train(config, folder)
        folders.append(RunFolder(folder))
    return folders


def test_no_shift_is_the_test_and_a_large_one_is_chance(runs: list[RunFolder]) -> None:
    accuracies = side_by_side.under_shift(runs[0], 7)
    assert runs[0].result is not None
    assert accuracies[0] == pytest.approx(runs[0].result["test"]["accuracy"])
    assert len(accuracies) == 8
    assert accuracies[7] < 0.3 < accuracies[0]
    with pytest.raises(UserError, match=r"--shift=8: must be below 8, the side of .*units_16's images"):
        side_by_side.under_shift(runs[0], 8)


def test_curves_are_those_of_the_metrics(runs: list[RunFolder]) -> None:
    assert [epoch for epoch, _ in side_by_side.curve(runs[0], "accuracy", 0)] == pytest.approx([1, 2, 3], abs=0.1)
    losses = [loss for _, loss in side_by_side.curve(runs[0], "loss", 0)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("plot", side_by_side.PLOTS)
def test_the_command(command: Command, runs: list[RunFolder], tmp_path: Path, plot: str) -> None:
    flags = [f"--runs={','.join(str(run.path) for run in runs)}", f"--plot={plot}", "--shift=2"]
    process = command("compare", *flags, f"--output={tmp_path}/c.png")
    assert process.returncode == 0, process.stderr
    assert "units_16" in process.stdout
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    if plot == "shift":
        rows = json.loads(command("compare", *flags, "--json").stdout)["runs"]
        assert [row["network"] for row in rows] == ["mlp", "mlp"]
        assert [pixels for pixels, _ in rows[0]["curve"]] == [0, 1, 2]


def test_a_run_without_validation_has_no_accuracy_to_show(config: ConfigDict, tmp_path: Path) -> None:
    config.dataset.validation = 0.0
    config.train.epochs = 0.1
    train(config, tmp_path / "run")
    with pytest.raises(UserError, match=r"has no validation images to show the accuracy of; try --plot=loss"):
        side_by_side.curve(RunFolder(tmp_path / "run"), "accuracy", 0)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(UserError, match=r"run: is not finished; run its command again"):
        side_by_side.open_runs([str(tmp_path / "run")])


def test_what_is_wrong_is_one_line(one_line_error, tmp_path: Path) -> None:
    assert "--runs=FOLDER,FOLDER is missing" in one_line_error("compare")
    assert "no run folder" in one_line_error("compare", f"--runs={tmp_path}")
