import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from train import settings
from train.errors import NotFiniteError, UserError
from train.records import METRICS, read_metrics
from train.run import MetricsLog, RunFolder, metrics_line, result_of
from train.whole import lock, write_whole

ENVIRONMENT = {"data": {"fingerprint": "abc", "source": "digits", "counts": {"train": 3}}}


@pytest.fixture
def checked(config: ConfigDict) -> ConfigDict:
    settings.resolve(config)
    config.dataset.update(classes=10, channels=1, mean=(0.5,), std=(0.25,))  # as the data completes it
    return config


def changed(config: ConfigDict, **train: object) -> ConfigDict:
    other = config.copy_and_resolve_references()
    other.train.update(train)
    return other


def test_a_folder_opens_again_for_the_same_run(tmp_path: Path, checked: ConfigDict) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    RunFolder.create(tmp_path / "a" / "b", checked, ENVIRONMENT)
    again = RunFolder.create(tmp_path / "a" / "b", checked, {**ENVIRONMENT, "python": "4.0"})
    assert again.environment == {**ENVIRONMENT, "resumed": [{"python": "4.0"}]}
    assert RunFolder(tmp_path / "a" / "b").environment == again.environment
    assert again.result is None
    again.finish({"step": 3})
    assert RunFolder(tmp_path / "a" / "b").result == {"step": 3}


def test_a_run_that_cannot_note_where_it_goes_on_says_so(
    tmp_path: Path, checked: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    RunFolder.create(tmp_path, checked, ENVIRONMENT)
    monkeypatch.setattr("train.run.write_whole", full)
    with pytest.raises(
        UserError, match=r"cannot be written \(No space left on device\); choose another folder, or make"
    ):
        RunFolder.create(tmp_path, checked, ENVIRONMENT)


def test_another_config_is_refused_and_nothing_touched(tmp_path: Path, checked: ConfigDict) -> None:
    RunFolder.create(tmp_path, checked, ENVIRONMENT)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"another config \(train.batch_size: 64 there, 32 here; train.ema: 0.0 there"):
        RunFolder.create(tmp_path, changed(checked, batch_size=32, ema=0.9), ENVIRONMENT)
    with pytest.raises(UserError, match="the content of digits is not what digits was"):
        RunFolder.create(tmp_path, checked, {"data": {**ENVIRONMENT["data"], "fingerprint": "other"}})
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()} == before


def test_a_longer_run_is_no_longer_finished(tmp_path: Path, checked: ConfigDict) -> None:
    checked.schedule.name = "constant"
    RunFolder.create(tmp_path, checked, ENVIRONMENT).finish({"step": 3})
    longer = RunFolder.create(tmp_path, changed(checked, epochs=9.0), ENVIRONMENT)
    assert longer.result is None
    assert RunFolder(tmp_path).config.train.epochs == 9
    with pytest.raises(UserError, match=r"train.epochs: 9.0 there, 3.0 here"):
        RunFolder.create(tmp_path, checked, ENVIRONMENT)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, checked: ConfigDict) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="holds files that are no run's"):
        RunFolder.create(tmp_path, checked, ENVIRONMENT)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]


def test_imported_weights_are_not_trained_on(tmp_path: Path, checked: ConfigDict) -> None:
    RunFolder.create(tmp_path, checked, ENVIRONMENT | {"weights": {}})
    with pytest.raises(UserError, match="holds imported weights, which no training goes on; choose another --workdir"):
        RunFolder.create(tmp_path, checked, ENVIRONMENT)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is no folder; choose another"), lock(tmp_path / "file"):
        pass


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_written_nowhere(tmp_path: Path, loss: float) -> None:
    with pytest.raises(NotFiniteError, match=f"the validation loss after step 1,000 is {loss}"):
        metrics_line("validation", 1000, 10, {"loss": loss}, 0.1, 1.0)
    with pytest.raises(NotFiniteError, match=f"the test loss after step 900 is {loss}"):
        result_of(tmp_path, 1000, 900, 1.0, 10, 1.0, {"test": {"loss": loss}})


def test_a_creation_that_was_killed_is_repeated(tmp_path: Path, checked: ConfigDict) -> None:
    write_whole(tmp_path / "environment.json", "{}")
    (tmp_path / ".config.json.draft").write_text("{")
    assert RunFolder.create(tmp_path, checked, ENVIRONMENT).environment == ENVIRONMENT


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, checked: ConfigDict) -> None:
    with pytest.raises(UserError, match=r"no run folder \(config.json is missing\)"):
        RunFolder(tmp_path)
    RunFolder.create(tmp_path, checked, ENVIRONMENT)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"config.json: cannot be read \(not a JSON object\)"):
        RunFolder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        RunFolder.create(tmp_path / "file", checked, ENVIRONMENT)


def test_a_damaged_line_of_metrics_costs_nothing(tmp_path: Path) -> None:
    text = "".join(json.dumps(line(step)) + "\n" for step in (10, 20, 30)).replace('{"step": 20', '{"step" 20')
    (tmp_path / METRICS).write_text(text)
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: is no JSON"):
        MetricsLog(tmp_path, 30, tensorboard=False)
    assert (tmp_path / METRICS).read_text() == text


def line(step: int, split: str = "train") -> dict:
    return {"step": step, "epoch": step / 10, "split": split, "loss": 1 / step, "seconds": 0.1}


def test_metrics_are_cut_back_to_the_step(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, tensorboard=False) as log:
        for step in (10, 20, 30):
            log.write(line(step))
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 40, "ep')  # torn by a kill
    with MetricsLog(tmp_path, 20, tensorboard=False) as log:
        log.write(line(21, "validation"))
    assert read_metrics(tmp_path / METRICS) == [line(10), line(20), line(21, "validation")]


def test_tensorboard_has_the_same_scalars(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    for start in (0, 20):
        with MetricsLog(tmp_path, start, tensorboard=True) as log:
            for step in (start + 10, start + 20, start + 30):
                log.write(line(step))
    scalars = []
    for file in (tmp_path / "tensorboard").iterdir():
        content, position = file.read_bytes(), 0
        while position < len(content):  # TFRecord: length, its checksum, the event, its checksum
            length = int.from_bytes(content[position : position + 8], "little")
            event = Event.FromString(content[position + 12 : position + 12 + length])
            scalars += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            position += length + 16
    expected = [(f"{row['split']}/loss", row["step"], row["loss"]) for row in read_metrics(tmp_path / METRICS)]
    assert [(tag, step) for tag, step, _ in scalars if tag.endswith("loss")] == [row[:2] for row in expected]
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [10, 20, 30, 40, 50]


def test_switching_tensorboard_off_deletes_nothing(tmp_path: Path) -> None:
    for tensorboard in (True, False):
        with MetricsLog(tmp_path, 0, tensorboard=tensorboard):
            pass
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
