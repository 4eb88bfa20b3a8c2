"""Run folders from strangers: what stands in their files is read rightly, or is one line; nothing else is touched."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from tests.conftest import READING_LEFT_BEGUN
from train import network, settings, side_by_side
from train.checkpoints import Checkpoints, load_network
from train.devices import make_mesh
from train.errors import UserError
from train.integrity import hold_size
from train.loop import train
from train.protocols import published
from train.records import CONFIG, ENVIRONMENT, METRICS, RESULT
from train.report import again
from train.run import MetricsLog, RunFolder
from train.sweep.folder import SweepFolder
from train.weights import card
from train.whole import lock

pytestmark = READING_LEFT_BEGUN

EVIL = '\x1b]0;title\x07<script>alert(1)</script>"><img onerror=x>$(touch x)`y`\n[bold]../../\ud800'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a perceptron on the embedded digits."""
    config: ConfigDict = base.get_config()
    config.evaluate.report = False
    config.model.update(name="mlp", hidden=(4,))
    config.dataset.image_size = 8
    config.train.update(epochs=1.0, batch_size=256)
    config.log.update(every_steps=2, tensorboard=False)
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(config, folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def deep(levels: int) -> bytes:
    return b'{"a": ' + b"[" * levels + b"]" * levels + b"}"


FILES = {
    "empty": b"",
    "no JSON": b"{",
    "binary": bytes(range(256)),
    "UTF-16 cut off": "{}".encode("utf-16")[:-1],
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "an empty object": b"{}",
    "nested 100,000 times": b"[" * 100_000,
    "nested 900 times": deep(900),
    "nested 100,000 times in an object": deep(100_000),
    "infinite": b'{"step": 1e999}',
    "no number": b'{"step": NaN, "seconds": -Infinity}',
    "ten thousand digits": b'{"step": 1' + b"0" * 10_000 + b"}",
    "four hundred digits": b'{"step": 1' + b"0" * 400 + b', "split": "train"}',
}
VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "", EVIL, [], [[None]], {}, {"a": {}}, [1] * 1000)


def values(content: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where a value of an object stands, objects too."""
    for key, value in content.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from values(value, (*before, key))


def with_value(content: Any, where: tuple[str, ...], value: Any) -> str:
    """Return as JSON what has another value in a place; of `...`, nothing."""
    copy = inside = json.loads(json.dumps(content))
    for key in where[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[where[-1]]
    else:
        inside[where[-1]] = value
    return json.dumps(copy)


def look(path: Path) -> None:
    """Read all that is read of a run before its data is: what commands print of it, and what they would compute."""
    run = RunFolder(path)
    network.describe_parts(run.config)
    settings.class_names(run.config.dataset)
    published.figures(run.config, run.environment["data"])
    card._text(run, "onnx", "net.onnx")
    if run.result is not None:
        side_by_side.figures(run)
    for plot in ("accuracy", "loss"):
        side_by_side.curve(run, plot, 0)


def refused(read: Callable[[], object]) -> str:
    """Return the line that reading ends in, or nothing where it does not; any other exception fails the test."""
    try:
        read()
    except UserError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 2000
        return line
    return ""


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("name", [CONFIG, ENVIRONMENT, METRICS, RESULT])
def test_a_file_of_something_else_is_named(run: Path, name: str, what: str) -> None:
    (run / name).write_bytes(FILES[what] + (b"\n" + FILES[what] if name == METRICS else b""))
    line = refused(lambda: look(run))
    assert str(run / name) in line or "has no validation images" in line


@pytest.mark.parametrize("name", [CONFIG, ENVIRONMENT, METRICS, RESULT])
def test_every_value_may_be_of_any_kind(run: Path, name: str) -> None:
    text = (run / name).read_text()
    content = json.loads(text.splitlines()[0] if name == METRICS else text)
    lines = 0
    for where in values(content):
        for value in (*VALUES, ...):
            (run / name).write_text(with_value(content, where, value) + "\n" + text * (name == METRICS))
            lines += bool(refused(lambda: look(run)))
    assert lines > 20


def test_every_value_of_what_an_import_says_may_be_of_any_kind(run: Path) -> None:
    environment = json.loads((run / ENVIRONMENT).read_text())
    weights: dict[str, Any] = dict.fromkeys(("file", "sha256", "published", "preprocessing", "class_names"), "a")
    weights |= {"new_layers": ["F6"], "proof": {"of": ["logits"], "images": 3, "relative": 1e-6}}
    lines = 0
    for where in (*values(weights), ("new_layers", 0), ("proof", "of", 0)):
        for value in VALUES:
            changed = json.loads(with_value(weights, where, value))
            (run / ENVIRONMENT).write_text(json.dumps(environment | {"weights": changed}))
            lines += bool(refused(lambda: look(run)))
    assert lines > 50


def test_what_is_too_large_is_not_read(run: Path) -> None:
    for name in (ENVIRONMENT, METRICS, RESULT, CONFIG):
        content = (run / name).read_bytes()
        os.truncate(run / name, 2**40)  # which takes no room on the disk
        assert "takes too much memory" in refused(lambda: look(run))
        (run / name).write_bytes(content)
    (run / CONFIG).write_bytes(b"[" + b"[]," * 11_000_000)  # 33 MB, of which Python might make 2 GB
    assert "takes too much memory" in refused(lambda: look(run))
    (run / CONFIG).write_bytes(content)
    assert refused(lambda: look(run)) == ""


OF_CHECKPOINTS = ["_CHECKPOINT_METADATA", "metrics/metrics", "progress/metadata", "network/_METADATA"]


@pytest.mark.parametrize("name", OF_CHECKPOINTS)
def test_a_damaged_checkpoint_is_named(run: Path, name: str) -> None:
    (step,) = (run / "checkpoints").iterdir()
    for what in ("empty", "binary", "a list", "nested 100,000 times", "four hundred digits"):
        (step / name).write_bytes(FILES[what])
        line = refused(lambda: load_network(RunFolder(run), make_mesh(None)))
        assert str(run / "checkpoints") in line or name == "_CHECKPOINT_METADATA"  # without which Orbax does


def test_arrays_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "array").write_bytes(bytes(1000))
    giant = {"kernel": jax.ShapeDtypeStruct((2**24, 2**24), np.float32)}
    with pytest.raises(ValueError, match="it would be 1,125,899,906,842,624 bytes, and is far fewer"):
        hold_size(giant, tmp_path)
    hold_size({"kernel": jax.ShapeDtypeStruct((2**14, 2**14), np.float32)}, tmp_path)


def test_a_config_of_another_network_is_named(run: Path) -> None:
    content = json.loads((run / CONFIG).read_text())
    for hidden in ([], [5], [2**24]):
        content["model"]["hidden"] = hidden
        (run / CONFIG).write_text(json.dumps(content))
        assert "the checkpoint cannot be read" in refused(lambda: load_network(RunFolder(run), make_mesh(None)))


def test_links_in_a_run_are_not_written_through(run: Path, tmp_path: Path) -> None:
    """Whatever of a run is written again: a link that somebody has laid in its place leads to what is left alone."""
    found = RunFolder(run)
    assert found.result is not None
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (CONFIG, ENVIRONMENT, METRICS, RESULT, "report.html"):
        (run / name).touch()
        shutil.move(run / name, mine / name)
        for link in (name, f".{name}.draft"):
            (run / link).symlink_to(mine / name)
    before = {path: path.read_bytes() for path in mine.iterdir()}
    (run / RESULT).unlink()
    RunFolder.create(run, found.config, found.environment).finish(found.result)  # a resumption, which is noted
    with MetricsLog(run, 1, tensorboard=False):
        pass
    again.write(RunFolder(run), None)
    assert {path: path.read_bytes() for path in mine.iterdir()} == before
    for name in (ENVIRONMENT, METRICS, RESULT, "report.html"):
        assert not (run / name).is_symlink()
        assert not (run / f".{name}.draft").is_symlink()


@pytest.mark.parametrize("name", ["report", "checkpoints", "frozen", "damaged", "tensorboard"])
def test_a_folder_that_leads_elsewhere_is_not_written_into(run: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(mine)
    with pytest.raises(UserError, match=f"{name}: is a link to a folder"), lock(run):
        pass
    with pytest.raises(UserError, match=f"{name}: is a link to a folder"):
        again.write(RunFolder(run), None) if name != "checkpoints" else train(RunFolder(run).config, run)
    assert not list(mine.iterdir())


def test_a_sweeps_folders_lead_nowhere(tmp_path: Path, config: ConfigDict) -> None:
    sweep, mine = tmp_path / "sweep", tmp_path / "mine"
    mine.mkdir()
    SweepFolder.create(sweep, config)
    for place in ("runs", "logs", "runs/seed=0"):
        (sweep / place).parent.mkdir(exist_ok=True)
        (sweep / place).symlink_to(mine)
        with pytest.raises(UserError, match="is a link to a folder"):
            SweepFolder.create(sweep, config)
        (sweep / place).unlink()
    (sweep / ".table").unlink()
    (sweep / ".table").symlink_to(mine / "new")
    with pytest.raises(UserError, match=r"\.table: is a link"):
        SweepFolder.create(sweep, config)
    assert not list(mine.iterdir())


@pytest.mark.parametrize("what", FILES)
def test_the_config_of_a_sweep_may_be_anything(tmp_path: Path, config: ConfigDict, what: str) -> None:
    (tmp_path / "base.json").write_bytes(FILES[what])
    assert "base.json" in refused(lambda: SweepFolder.create(tmp_path, config))


def test_names_on_a_card_are_text(run: Path) -> None:
    content = json.loads((run / CONFIG).read_text())
    names = [EVIL, "[here](javascript:x)", "`", *map(str, range(7))]
    content["dataset"]["class_names"] = names
    (run / CONFIG).write_text(json.dumps(content))
    text = card._text(RunFolder(run), "onnx", "net.onnx")
    classes = text.partition("## Classes")[2].partition("## Config")[0]
    assert "<script" not in classes
    assert r"&lt;script&gt;" in classes
    assert r"\[here\]\(javascript:x\)" in classes
    assert "\x1b" not in text
    assert len(classes.strip().splitlines()) == 1  # and the config is JSON, whose lines begin with quotation marks


def test_checkpoints_of_a_stranger_are_read_only(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    look(run)
    load_network(RunFolder(run), make_mesh(None))
    with Checkpoints(run, read_only=True) as checkpoints:
        assert checkpoints.best() is not None
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
