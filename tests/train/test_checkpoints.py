"""Checkpoints whose bytes have changed are found, and the newest that has not is gone on with."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from tests.conftest import READING_LEFT_BEGUN, fresh
from train import devices, loop
from train import settings as train_settings
from train.checkpoints import Checkpoints, load_network
from train.errors import UserError
from train.integrity import checksums, not_finite
from train.records import METRICS, RESULT, read_metrics
from train.run import RunFolder

KINDS = {"float32": np.uint32, "bfloat16": np.uint16, "int32": np.uint32, "uint8": np.uint8}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4)]),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_a_bit_that_has_changed_shows(kind: str, shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    bits = np.random.default_rng(seed).integers(0, np.iinfo(KINDS[kind]).max, shape or (1,), KINDS[kind], endpoint=True)
    changed = bits.copy()
    place = data.draw(st.integers(0, bits.size - 1))
    changed.flat[place] ^= KINDS[kind](1) << KINDS[kind](data.draw(st.integers(0, bits.itemsize * 8 - 1)))
    one, other = (jnp.asarray(array.view(jnp.dtype(kind)).reshape(shape)) for array in (bits, changed))
    assert checksums({"a": one}) != checksums({"a": other})
    assert checksums({"a": one}) == checksums({"a": jnp.array(one)})


def test_places_count_and_nothing_is_nothing() -> None:
    array = jnp.arange(6.0).reshape(2, 3)
    assert checksums([array]) != checksums([array[:, ::-1]])
    assert checksums({}) == []
    assert checksums([jnp.zeros((0, 3)), array, jnp.array([True, False])]) == [0, *checksums([array]), 1]


pytestmark = READING_LEFT_BEGUN


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConfigDict]:
    """A run of three epochs with a checkpoint of each."""
    from tests.conftest import config

    experiment = config.__wrapped__()
    experiment.checkpoint.keep = 3
    folder = tmp_path_factory.mktemp("runs") / "run"
    loop.train(fresh(experiment), folder)
    return folder, experiment


@pytest.fixture
def run(finished: tuple[Path, ConfigDict], tmp_path: Path) -> tuple[Path, ConfigDict]:
    """A copy of it that lacks the end."""
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / RESULT).unlink()
    return tmp_path / "run", finished[1]


def data_files(checkpoint: Path, item: str) -> list[Path]:
    files = [path for path in (checkpoint / item).rglob("*") if path.is_file() and path.parent.name == "d"]
    return sorted(files, key=lambda path: path.stat().st_size)


def flip(path: Path, share: float, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1 << bit
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte of the network": lambda step: flip(data_files(step, "network")[-1], 0.5),
    "a byte of the optimizer": lambda step: flip(data_files(step, "optimizer")[-1], 0.4),
    "a byte of its progress": lambda step: flip(step / "progress" / "metadata", 0.9),
    "cut off": lambda step: data_files(step, "network")[-1].write_bytes(b""),
    "a file gone": lambda step: data_files(step, "optimizer")[-1].unlink(),
    "an item gone": lambda step: shutil.rmtree(step / "network"),
    "no progress": lambda step: (step / "progress" / "metadata").write_text("{}"),
}


@pytest.mark.parametrize("part", ["all", "no network", "its metrics"])
def test_what_a_kill_has_left_of_a_removal_goes(config: ConfigDict, tmp_path: Path, part: str) -> None:
    """Orbax removes old checkpoints when a new one is there; after the last one, nobody else would."""
    loop.train(fresh(config), tmp_path / "run")
    there = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    left = tmp_path / "run" / "checkpoints" / "7"
    shutil.copytree(left.with_name(there[0]), left)
    (left / "metrics" / "metrics").write_text('{"accuracy": 0.1}')
    for item in {"all": [], "no network": ["network"], "its metrics": ["network", "optimizer", "progress"]}[part]:
        shutil.rmtree(left / item)
    (tmp_path / "run" / RESULT).unlink()
    loop.train(fresh(config), tmp_path / "run")
    assert sorted(path.name for path in left.parent.iterdir()) == there


@pytest.mark.parametrize("what", DAMAGE)
def test_the_newest_good_one_is_gone_on_with(
    what: str, run: tuple[Path, ConfigDict], finished: tuple[Path, ConfigDict], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, config = run
    with Checkpoints(folder, 3, read_only=True) as checkpoints:
        before, newest = checkpoints.steps()[-2:]
    DAMAGE[what](folder / "checkpoints" / str(newest))
    loop.train(fresh(config), folder)
    said = capsys.readouterr().out
    assert f"{folder}/checkpoints/{newest}: the checkpoint cannot be read" in said
    assert f"resuming after step {before}" in said
    assert [path.name for path in (folder / "damaged").iterdir()] == [str(newest)]
    mesh = devices.make_mesh(1)
    (_, *one), (_, *other) = (load_network(RunFolder(path), mesh, newest) for path in (folder, finished[0]))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    lines = [[line["loss"] for line in read_metrics(path / METRICS)] for path in (folder, finished[0])]
    assert lines[0] == lines[1]


def test_where_none_can_be_read_a_line_says_so_and_the_run_begins_again(run: tuple[Path, ConfigDict]) -> None:
    folder, config = run
    for checkpoint in (folder / "checkpoints").glob("[0-9]*"):
        flip(data_files(checkpoint, "network")[-1], 0.5)
    with pytest.raises(UserError, match="there is no other; run the same command again, which begins anew"):
        loop.train(fresh(config), folder)
    loop.train(fresh(config), folder)
    assert (folder / RESULT).exists()


def test_a_changed_network_is_not_evaluated(run: tuple[Path, ConfigDict]) -> None:
    folder, _ = run
    with Checkpoints(folder, 3, read_only=True) as checkpoints:
        best = checkpoints.best()
    flip(data_files(folder / "checkpoints" / str(best), "network")[-1], 0.3)
    with pytest.raises(UserError, match="bytes of its network have changed since it was written"):
        load_network(RunFolder(folder), devices.make_mesh(1))


def test_what_is_not_finite_is_named() -> None:
    good, bad = jnp.ones((2, 3)), jnp.array([1.0, jnp.inf])
    assert not_finite({"C1": {"kernel": good}}) == not_finite({}) == ""
    assert not_finite({"C1": {"kernel": good, "bias": bad}, "F6": {"bias": bad * 0}}) == "C1.bias, F6.bias"
    many = {f"conv{number}": {"kernel": bad} for number in range(1, 6)}
    assert not_finite(many) == "conv1.kernel, conv2.kernel, conv3.kernel and 2 more"
    assert not_finite({"C1": {"kernel": jnp.full(3, 1e30)}}) == ""  # large is not infinite, though its square is


def _from(cause: Exception) -> Exception:
    """As Orbax raises what has hindered it from reading an array."""
    error = Exception("Encountered error while reading array index: (slice(None),).")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("out of memory"), "Cannot allocate memory"),
        (_from(MemoryError()), "Cannot allocate memory"),
        (_from(ValueError("Error opening file [os_error_code='13']")), "Permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (ValueError("UNKNOWN: Error opening file [os_error_code='13']\n[source locations=...]"), "Permission denied"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "Cannot allocate memory"),
    ],
)
def test_what_is_of_the_machine_leaves_a_checkpoint_where_it_is(
    run: tuple[Path, ConfigDict], error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise error

    folder, config = run
    there = sorted(path.name for path in (folder / "checkpoints").iterdir())
    monkeypatch.setattr(ocp.CheckpointManager, "restore", refused)
    with pytest.raises(UserError, match=rf"cannot be read here \({said}\); mend that, and run the same command again"):
        loop.train(fresh(config), folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == there
    assert not (folder / "damaged").exists()


def test_a_run_without_a_checkpoint_says_who_makes_one(run: tuple[Path, ConfigDict]) -> None:
    folder, _ = run
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"there is no checkpoint yet; the command that trains the run makes one"):
        load_network(RunFolder(folder), devices.make_mesh(1))


def test_what_cannot_be_written_is_said_whenever_it_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    line = r"checkpoints: a checkpoint cannot be written \(No space left on device\); make room or mend the folder, and"
    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, "save", full)
            with pytest.raises(UserError, match=line):
                checkpoints.save_network({"F6": {"bias": np.ones(3, np.float32)}}, {})
        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, "wait_until_finished", full)
            with pytest.raises(UserError, match=line):
                checkpoints.wait()
    close = ocp.CheckpointManager.close

    def closed(manager: ocp.CheckpointManager) -> None:
        close(manager)
        full()

    monkeypatch.setattr(ocp.CheckpointManager, "close", closed)
    with pytest.raises(UserError, match=line), Checkpoints(tmp_path):
        pass
    with pytest.raises(KeyError, match="first"), Checkpoints(tmp_path):
        raise KeyError("first")  # and not what comes of it


def test_frozen_layers_that_are_gone_are_named(config: ConfigDict, tmp_path: Path) -> None:
    train_settings.resolve(config)
    config.dataset.update(channels=1, classes=10)
    config.transfer.update(mode="frozen", frozen_until="hidden1")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match=r"frozen: the frozen layers cannot be read .*; remove"),
    ):
        checkpoints.restore_frozen(config, devices.make_mesh(1))


def test_who_reads_while_a_run_trains_gets_what_has_come_in_its_place(
    run: tuple[Path, ConfigDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = run
    before = load_network(RunFolder(folder), devices.make_mesh(1))[1]
    with Checkpoints(folder, read_only=True) as checkpoints:
        best = checkpoints.best()
    restore, replaced = ocp.CheckpointManager.restore, []

    def late(manager: ocp.CheckpointManager, step: int, **more: object) -> object:
        if not replaced:  # the run has saved a better one since the manager looked
            going = folder / "checkpoints" / str(best)
            shutil.copytree(going, folder / "checkpoints" / "9999")
            shutil.rmtree(going / "network")  # and the rest a moment later
            threading.Timer(0.1, shutil.rmtree, [going]).start()
            replaced.append(step)
        return restore(manager, step, **more)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", late)
    after = load_network(RunFolder(folder), devices.make_mesh(1))[1]
    assert replaced == [best]
    jax.tree.map(np.testing.assert_array_equal, before, after)
    with pytest.raises(UserError, match=rf"checkpoints/{best}: has been replaced while it was read; run the same"):
        load_network(RunFolder(folder), devices.make_mesh(1), best)
