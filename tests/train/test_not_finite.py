"""Numbers that are not finite: who says so, where, and what is left."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import save_file

from configs import base
from tests.conftest import CHECKOUT, command_line, fresh
from train import checkpoints, devices, loop, settings
from train.checkpoints import Checkpoints, load_network
from train.data import dataset
from train.data.activations import Activations
from train.embedding.of_run import Options, embed
from train.errors import NotFiniteError, UserError
from train.evaluate import evaluate_run
from train.explaining.of_image import explain
from train.predict import Unusable, predict
from train.prepare import Prepared, prepare
from train.protocols import of_runs as protocols
from train.run import METRICS, RESULT, RunFolder, read_metrics
from train.weights import importing

# Where in the line what stands: which step, which arrays, what is kept, what to try.
LINE = re.compile(
    r"(the loss of step|the validation loss after step|after step) (?P<step>[\d,]+) .*"
    r"not finite are (now )?(?P<names>[\w., ]+); "
    r"(the checkpoint of step (?P<kept>[\d,]+) is kept|there is no checkpoint before it); "
    r"try config.optimizer.clip_norm=1, or a config.schedule.learning_rate below \S+$"
)


def stopped(config: ConfigDict, folder: Path) -> re.Match[str]:
    """Train until it stops, and return what the line says; what is on disk must be finite."""
    with pytest.raises(UserError) as stop:
        loop.train(config, folder)
    said = LINE.search(str(stop.value))
    assert said, stop.value
    assert not (folder / RESULT).exists()
    assert all(np.isfinite(row["loss"]) for row in read_metrics(folder / METRICS))
    there = [path.name for path in (folder / "checkpoints").iterdir()]
    assert there == ([said["kept"]] if said["kept"] else [])
    if said["kept"]:
        load_network(RunFolder(folder), devices.make_mesh(1))
    return said


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule.learning_rate": 1e6},
        {"schedule.learning_rate": 1e6, "precision": "bfloat16"},
        {"schedule.learning_rate": 1e30, "train.accumulate": 4, "train.ema": 0.9},
        pytest.param({"schedule.learning_rate": 1e30, "optimizer.name": "adamw"}, marks=pytest.mark.slow),
        pytest.param(
            {"schedule.learning_rate": 1e30, "train.label_smoothing": 0.1, "augment.mixup": 0.2}, marks=pytest.mark.slow
        ),
    ],
    ids=["float32", "bfloat16", "accumulated, averaged", "adamw", "mixed"],
)
def test_a_learning_rate_beyond_all_measure_stops_before_any_checkpoint(
    config: ConfigDict, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config.update_from_flattened_dict(changes)
    said = stopped(config, tmp_path)
    assert said["kept"] is None
    assert int(said["step"]) <= 20
    assert said["names"].startswith("hidden1.bias, hidden1.kernel, output.bias")


def test_a_moment_that_overflows_is_named_though_no_loss_is_infinite(config: ConfigDict, tmp_path: Path) -> None:
    # Pixels of 1e20: a gradient's squares are infinite, and Adam divides by them: the kernel would stand still.
    config.dataset.std = (1e-20,)
    config.optimizer.name = "adamw"
    said = stopped(fresh(config), tmp_path)
    assert said["names"] == "optimizer.0.nu.output.kernel"
    assert said["kept"] is None


@pytest.fixture
def prepared(config: ConfigDict) -> Prepared:
    config.train.ema = 0.9
    settings.resolve(config)
    return prepare(config, dataset.load(config.dataset).train.total, devices.make_mesh(1))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("params", "hidden1.kernel"),
        ("stats", "stats.norm.var"),
        ("ema", "ema.hidden1.kernel"),
        ("optimizer", "optimizer.1.0.trace.hidden1.kernel"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_part_of_a_state_is_saved_that_is_not_finite(
    prepared: Prepared, tmp_path: Path, part: str, name: str, value: float
) -> None:
    state = prepared.state._replace(stats={"norm": {"var": jnp.ones(3)}})
    with Checkpoints(tmp_path) as folder:
        folder.save(state, {})

        def spoilt(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            there = jax.tree_util.keystr(path, simple=True, separator=".").endswith(name.removeprefix(f"{part}."))
            return leaf.at[(0,) * leaf.ndim].set(value) if there else leaf

        bad = state._replace(
            step=jnp.int32(3), **{part: jax.tree_util.tree_map_with_path(spoilt, getattr(state, part))}
        )
        with pytest.raises(NotFiniteError, match=rf"^after step 3 not finite are {re.escape(name)}$"):
            folder.save(bad, {})
        assert folder.steps() == [0]


def test_a_checkpoint_that_is_not_finite_is_no_good_one(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as were written before anybody looked at all of a state."""
    config.checkpoint.keep = 3
    loop.train(fresh(config), tmp_path)
    (tmp_path / RESULT).unlink()
    settings.resolve(config)
    mesh = devices.make_mesh(1)
    state = prepare(config, dataset.load(config.dataset).train.total, mesh).state
    monkeypatch.setattr(checkpoints, "not_finite", lambda tree: "")
    with Checkpoints(tmp_path, 3) as folder:
        state, progress = folder.restore(61, state)
        kernel = state.params["output"]["kernel"].at[0, 0].set(jnp.nan)
        params = state.params | {"output": state.params["output"] | {"kernel": kernel}}
        folder.save(state._replace(step=jnp.int32(62), params=params), progress)
        folder.wait()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"checkpoints/62: the checkpoint is of no use \(not finite are output.kernel"):
        load_network(RunFolder(tmp_path), mesh, 62)
    loop.train(fresh(config), tmp_path)
    said = capsys.readouterr().out
    assert "checkpoints/62: the checkpoint is of no use" in said
    assert "resuming after step 61" in said
    assert (tmp_path / RESULT).exists()


def test_stored_activations_are_blamed_for_what_they_hold(config: ConfigDict, tmp_path: Path) -> None:
    config.model.hidden = (16, 12)
    loop.train(fresh(config, epochs=1.0), tmp_path / "source")
    config.model.hidden = None
    config.transfer.update(mode="stored", weights=str(tmp_path / "source"), store=str(tmp_path / "store"))
    loop.train(fresh(config, epochs=1.0), tmp_path / "first")
    (file,) = (tmp_path / "store").glob("train-hidden2-00001.npy")
    array = np.load(file)
    array[7, 3] = np.nan
    np.save(file, array)
    with pytest.raises(UserError, match=rf"^{file}: row 7 is not finite; remove {tmp_path / 'store'} and run its"):
        loop.train(fresh(config, epochs=1.0), tmp_path / "second")
    assert not (tmp_path / "second" / RESULT).exists()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_stored_activations_of_any_type_are_looked_at(dtype: Any) -> None:
    shards = [np.ones((4, 2, 3), dtype) for _ in range(2)]
    Activations(tuple(shards), np.zeros(8, np.int32)).check_finite()
    shards[1][2, 1, 0] = np.inf
    with pytest.raises(UserError, match="row 2 is not finite"):
        Activations(tuple(shards), np.zeros(8, np.int32)).check_finite()


@pytest.mark.parametrize(
    "mesh",
    [
        ("--config.mesh.model=2", "--config.train.accumulate=4"),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("--config.train.accumulate=4",), marks=pytest.mark.slow),
        pytest.param(("--config.train.ema=0.9", "--config.precision=bfloat16"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_two_devices_stop_alike(tmp_path: Path, mesh: tuple[str, ...]) -> None:
    flags = (
        *("--config.model.name=mlp", "--config.dataset.image_size=8", "--config.schedule.learning_rate=1e30"),
        *("--config.train.batch_size=64", "--config.evaluate.report=False", "--config.log.every_steps=1"),
        *("--config.augment.rotate=0", "--config.augment.scale=0", "--config.augment.shear=0"),
    )
    line = command_line("train", f"--workdir={tmp_path}/run", *flags, *mesh)
    two = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    process = subprocess.run(line, capture_output=True, text=True, cwd=CHECKOUT, timeout=300, env=two)
    assert "cpu x 2" in process.stdout
    assert process.returncode == 1
    assert process.stderr.startswith("error: the loss of step 2 is ")
    assert process.stderr.count("\n") == 1
    assert LINE.search(process.stderr.strip())


# Finite weights that make infinite numbers of any image.
HUGE = {"0.weight": (16, 64), "0.bias": (16,), "2.weight": (10, 16), "2.bias": (10,)}


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huge")
    random = np.random.default_rng(0)
    tensors = {name: (random.standard_normal(shape) * 1e30).astype(np.float32) for name, shape in HUGE.items()}
    save_file(tensors, folder / "huge.safetensors")
    keys = {"model.name": "mlp", "model.activation": "relu", "dataset.channels": 1, "dataset.image_size": 8}
    keys |= {"dataset.mean": (0.3,), "dataset.std": (0.3,), "dataset.resize": "bilinear", "dataset.crop": 1.0}
    config = base.get_config()
    config.update_from_flattened_dict(keys)
    plan = importing.plan(config, keys, folder / "huge.safetensors", preprocessing=None, head="keep")
    importing.write(plan, importing.read(plan), folder / "run", None)
    for name, step in (("gray", 3), ("black", 0)):
        Image.fromarray((step * np.arange(64)).astype(np.uint8).reshape(8, 8)).save(folder / f"{name}.png")
    return folder / "run"


def test_answers_that_are_no_numbers_are_no_answers(huge: Path, tmp_path: Path) -> None:
    """NaN is smaller than nothing, so it would rank first: an accuracy of 100 %."""
    run, image = RunFolder(huge), str(huge.parent / "gray.png")
    for protocol in ("center", "ten_crop"):
        with pytest.raises(
            UserError, match=f"^{huge}: the answer to train/0 is not finite; with these weights numbers"
        ):
            protocols.answer([run], "digits", [protocol])
    with pytest.raises(UserError, match=f"^{huge}: the answer to the images of digits is not finite"):
        evaluate_run(run, "digits")
    with pytest.raises(UserError, match=f"^{huge}: the answer to {image} is not finite"):
        explain(run, image)
    with pytest.raises(UserError, match=r"^mlp: the answer to image 0 is not finite"):
        embed(run, Options(source="digits", stages=("hidden1",), methods=("pca",)))
    answers = list(predict(run, [image, str(huge.parent / "black.png")], 5))
    assert [type(answer) for answer in answers] == [Unusable, Unusable]
    assert answers[0].why.startswith("the answer to it is not finite; with these weights numbers overflow")


def test_no_nan_is_printed_where_json_is_wanted(huge: Path, command: Callable[..., Any]) -> None:
    process = command(
        "predict", f"--run={huge}", "--json", *(f"{huge.parent}/{name}.png" for name in ("gray", "black"))
    )
    assert process.returncode == 1
    assert json.loads(process.stdout) == []
    assert process.stderr.endswith("error: 2 of 2 images cannot be used; they are named above\n")


def test_a_run_that_begins_with_such_weights_says_which_step(huge: Path, config: ConfigDict, tmp_path: Path) -> None:
    config.model.hidden = None
    config.transfer.update(mode="finetune", weights=str(huge))
    said = stopped(fresh(config), tmp_path / "run")
    assert said["step"] == "1"
