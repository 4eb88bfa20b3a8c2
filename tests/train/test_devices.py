"""Devices that share a batch, and the kernels of dense layers: the same run on any mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.conftest import CHECKOUT, command_line
from train import devices, hosts
from train.errors import UserError
from train.records import METRICS, read_metrics

EIGHT = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
LENET5 = (
    *("--config=configs/lenet5_digits.py", "--config.train.batch_size=64", "--config.model.dropout=0.5"),
    *("--config.log.every_steps=1", "--config.evaluate.report=False", "--config.log.tensorboard=False"),
    *("--config.model.activation=relu", "--config.schedule.warmup_epochs=0.1", "--config.schedule.learning_rate=0.01"),
)


def train(workdir: Path, *flags: str) -> list[float]:
    """Return the losses of each step."""
    line = command_line("train", f"--workdir={workdir}", *LENET5, *flags)
    process = subprocess.run(line, env=EIGHT, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr
    return [record["loss"] for record in read_metrics(workdir / METRICS) if record["split"] == "train"]


@pytest.mark.parametrize("mesh", [("4", "2"), pytest.param(("1", "4"), marks=pytest.mark.slow)])
def test_the_same_losses_on_any_mesh(tmp_path: Path, mesh: tuple[str, str]) -> None:
    one = train(tmp_path / "one", "--config.mesh.data=1", "--config.train.epochs=1.0")
    many = train(
        tmp_path / "many",
        f"--config.mesh.data={mesh[0]}",
        f"--config.mesh.model={mesh[1]}",
        "--config.train.epochs=1.0",
    )
    assert len(one) >= 20
    assert many[:20] == pytest.approx(one[:20], rel=1e-5)
    results = [json.loads((tmp_path / name / "result.json").read_text())["test"] for name in ("one", "many")]
    assert results[0]["count"] == results[1]["count"]


def test_a_checkpoint_goes_on_on_another_mesh(tmp_path: Path) -> None:
    constant = ("--config.schedule.name=constant", "--config.schedule.warmup_epochs=0.0", "--config.train.ema=0.9")
    whole = train(tmp_path / "whole", *constant, "--config.mesh.data=1", "--config.train.epochs=2.0")
    for data, model in (("1", "1"), ("2", "2")):
        run = tmp_path / f"{data}x{model}"
        train(run, *constant, "--config.mesh.data=4", "--config.mesh.model=2", "--config.train.epochs=1.0")
        goes_on = (f"--config.mesh.data={data}", f"--config.mesh.model={model}", "--config.train.epochs=2.0")
        assert train(run, *constant, *goes_on) == pytest.approx(whole, rel=1e-4)


def test_kernels_of_dense_layers_lie_in_parts() -> None:
    code = """
import jax
from configs import alexnet_imagenet
from train import devices, network, settings
from train.prepare import prepare
config = alexnet_imagenet.get_config("torchvision")
settings.resolve(config)
config.dataset.update(classes=10, channels=3, image_size=64)
config.train.batch_size = 8
config.train.ema = 0.9
state = prepare(config, 1000, devices.make_mesh(4, 2)).state
shapes = {}
for part, tree in (("params", state.params), ("ema", state.ema), ("momentum", state.optimizer)):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = [str(getattr(key, "key", "")) for key in path]
        if names[-1] == "kernel" and names[-2] in ("conv5", "fc6", "fc7", "fc8"):
            shapes[part, names[-2]] = (leaf.shape, leaf.sharding.shard_shape(leaf.shape))
for part in ("params", "ema", "momentum"):
    assert shapes[part, "conv5"] == ((3, 3, 256, 256), (3, 3, 256, 256)), shapes
    assert shapes[part, "fc6"] == ((9216, 4096), (9216, 2048)), shapes
    assert shapes[part, "fc7"] == ((4096, 4096), (2048, 4096)), shapes
    assert shapes[part, "fc8"] == ((4096, 10), (4096, 5)), shapes
"""
    process = subprocess.run([sys.executable, "-c", code], env=EIGHT, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr


def test_batch_statistics_are_of_the_whole_batch() -> None:
    """What eight devices find of mean and variance is what one finds, and not what each finds of its part."""
    code = """
import jax, numpy as np
from flax import nnx
from configs import base
from train import devices, network, settings
config = base.get_config()
config.model.name, config.model.variant, config.model.batch_norm = "vgg", "A", True
config.dataset.image_size = 32
settings.resolve(config)
config.dataset.update(classes=10, channels=3)
graph, params, stats = network.build(config, jax.random.key(0))
# Each device's images are of another brightness than the others'.
images = np.random.default_rng(0).random((16, 32, 32, 3), np.float32)
images *= np.linspace(0.1, 4, 16, dtype=np.float32)[:, None, None, None]

def statistics(params, stats, images):
    whole = nnx.merge(graph, params, stats)
    whole(images, key=jax.random.key(1))
    return nnx.to_pure_dict(nnx.state(whole, nnx.BatchStat))

found = []
for mesh in (devices.make_mesh(1), devices.make_mesh(4, 2)):
    everywhere = devices.replicated(mesh)
    step = jax.jit(statistics, in_shardings=(everywhere, everywhere, devices.by_batch(mesh)))
    found.append(jax.tree.leaves(jax.device_get(step(params, stats, images))))
assert len(found[0]) == 16
for one, eight in zip(*found, strict=True):
    np.testing.assert_allclose(one, eight, rtol=1e-4, atol=1e-5)
"""
    process = subprocess.run([sys.executable, "-c", code], env=EIGHT, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr


def test_several_hosts_take_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(UserError, match=r"config.mesh: 1 x 2 devices; over several hosts it takes all 4: leave"):
        devices.make_mesh(1, 2)
