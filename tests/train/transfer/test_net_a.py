"""A deeper VGG begins with net A's layers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from models.vgg import SHALLOW
from tests.conftest import fresh
from train import devices, settings
from train.checkpoints import load_network
from train.errors import UserError
from train.loop import train
from train.run import RunFolder
from train.transfer import net_a
from train.transfer.beginning import begin

D_LAYERS = (*SHALLOW, "conv1_2", "conv2_2", "conv5_3")


@pytest.fixture
def vgg() -> ConfigDict:
    config = base.get_config()
    config.evaluate.report = False
    config.model.update(name="vgg", variant="A", init="he")
    config.schedule.learning_rate = 0.001
    config.train.update(epochs=0.03, batch_size=32)
    config.log.tensorboard = False
    return config


def completed(config: ConfigDict, **dataset: Any) -> ConfigDict:
    """Return a copy, completed as data would."""
    config = config.copy_and_resolve_references()
    settings.resolve(config)
    config.dataset.update(**{"channels": 1, "classes": 10, "mean": (0.5,), "std": (0.5,)} | dataset)
    return config


def a_run_of(config: ConfigDict, path: Path, *, finished: bool = True) -> Path:
    """Make a run folder without the training."""
    path.mkdir()
    folder = RunFolder.create(path, config, {"data": {"fingerprint": "x", "source": "digits"}})
    if finished:
        folder.finish({"step": 1})
    return path


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({"name": "mlp", "variant": None, "init": None}, {}, "is a run of mlp, not of VGG's net A"),
        ({"variant": "B"}, {}, "is a run of vgg B, not of VGG's net A"),
        ({"batch_norm": True}, {}, "starts nets without batch normalisation"),
        ({}, {"batch_norm": True}, "starts nets without batch normalisation"),
        ({}, {"classes": 3}, r"its fc8 has the shapes .*\(4096, 10\).*, here they are .*\(4096, 3\)"),
    ],
)
def test_a_run_that_does_not_suit_is_refused_before_the_folder_is_made(
    vgg: ConfigDict, tmp_path: Path, theirs: dict, ours: dict, message: str
) -> None:
    net = vgg.copy_and_resolve_references()
    net.model.update(**theirs)
    run = a_run_of(completed(net), tmp_path / "a")
    vgg.model.variant = "D"
    vgg.transfer.net_a = str(run)
    dataset = {"classes": ours.pop("classes")} if "classes" in ours else {}
    vgg.model.update(**ours)
    with pytest.raises(UserError, match=message):
        net_a.check(completed(vgg, **dataset))


def test_a_run_that_is_not_finished_is_refused(vgg: ConfigDict, tmp_path: Path) -> None:
    run = a_run_of(completed(vgg), tmp_path / "a", finished=False)
    vgg.model.variant = "D"
    vgg.transfer.net_a = str(run)
    with pytest.raises(UserError, match="is not finished; run its command again"):
        net_a.check(completed(vgg))


def test_a_wrong_folder_leaves_no_workdir(vgg: ConfigDict, tmp_path: Path) -> None:
    vgg.transfer.net_a = str(tmp_path / "none")
    with pytest.raises(UserError, match="no run folder"):
        train(vgg, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_four_convolutions_and_the_dense_layers_are_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def layers(names: tuple[str, ...], value: float) -> dict[str, dict[str, jax.Array]]:
        return {name: {"kernel": jnp.full((2, 2), value), "bias": jnp.full(2, value)} for name in names}

    trained = layers((*SHALLOW, "conv4_1"), 1.0)
    monkeypatch.setattr(net_a, "load_network", lambda folder, mesh: (None, trained, {}))
    monkeypatch.setattr(net_a, "RunFolder", lambda path: None)
    monkeypatch.setattr(net_a, "check", lambda config: None)
    config = base.get_config()
    config.transfer.net_a = "a"
    given = net_a.given_by(config, devices.make_mesh(1))
    assert given["stats"] == {}
    assert given["params"].keys() == set(SHALLOW)
    for layer in given["params"].values():
        assert float(layer["kernel"][0, 0]) == float(layer["bias"][0]) == 1


def test_another_net_a_does_not_slip_in_before_the_first_checkpoint(
    vgg: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"params": {"conv1_1": {"kernel": jnp.ones(2)}}, "stats": {}}
    monkeypatch.setattr(net_a, "given_by", lambda config, mesh: given)
    vgg.transfer.update(mode="scratch", net_a="a")
    began = {"transfer": {"sha256": net_a.digests(vgg, devices.make_mesh(1))}}
    folder: Any = SimpleNamespace(path="d", environment=began)
    nothing_saved: Any = SimpleNamespace(latest=lambda: None)
    data: Any = None
    assert begin(vgg, data, folder, nothing_saved, devices.make_mesh(1)).given is given
    given["params"]["conv1_1"]["kernel"] *= 2
    with pytest.raises(UserError, match=r"net_a=a: are not the weights that d was to begin with"):
        begin(vgg, data, folder, nothing_saved, devices.make_mesh(1))


def test_other_networks_than_vgg_take_none(config: ConfigDict) -> None:
    config.transfer.net_a = "runs/a"
    with pytest.raises(UserError, match=r"config.transfer.net_a=runs/a: mlp does not begin with VGG's A"):
        settings.resolve(config)


def test_net_a_may_move_but_not_come_or_go(config: ConfigDict) -> None:
    here, there = fresh(config), fresh(config)
    here.transfer.net_a, there.transfer.net_a = "runs/a", "elsewhere/a"
    assert settings.differences(there, here) == []
    assert settings.differences(config, here) == ["transfer.net_a: None there, runs/a here"]


@pytest.mark.slow
def test_net_d_trains_from_net_a(vgg: ConfigDict, tmp_path: Path) -> None:
    train(vgg.copy_and_resolve_references(), tmp_path / "a")
    vgg.model.variant = "D"
    vgg.schedule.learning_rate = 1e-12
    vgg.transfer.net_a = str(tmp_path / "a")
    train(vgg, tmp_path / "d")
    mesh = devices.make_mesh(1)
    (_, a, _), (_, d, _) = (load_network(RunFolder(tmp_path / name), mesh) for name in ("a", "d"))
    for layer in SHALLOW:
        np.testing.assert_allclose(d[layer]["kernel"], a[layer]["kernel"], atol=1e-6)
