"""A deeper VGG begins with net A's layers."""

from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from models.vgg import SHALLOW
from tests.conftest import fresh
from train import devices, net_a, settings
from train.checkpoints import load_network
from train.errors import UserError
from train.loop import train
from train.prepare import prepare
from train.run import RunFolder


@pytest.fixture
def vgg() -> ConfigDict:
    config = base.get_config()
    config.model.update(name="vgg", variant="A", init="he")
    config.schedule.learning_rate = 0.001
    config.train.update(epochs=0.03, batch_size=32)
    config.log.tensorboard = False
    return config


def test_another_network_is_refused(config: ConfigDict, tmp_path: Path) -> None:
    train(fresh(config, epochs=0.1), tmp_path / "mlp")
    state = prepare(_ready(config), 100, devices.make_mesh(1)).state
    with pytest.raises(UserError, match="is a run of mlp, not of VGG's net A"):
        net_a.begin_with(str(tmp_path / "mlp"), state, devices.make_mesh(1))


def test_other_networks_than_vgg_take_none(config: ConfigDict) -> None:
    config.transfer.net_a = "runs/a"
    with pytest.raises(UserError, match=r"config.transfer.net_a=runs/a: mlp does not begin with VGG's A"):
        settings.resolve(config)


def _ready(config: ConfigDict) -> ConfigDict:
    config = config.copy_and_resolve_references()
    settings.resolve(config)
    config.dataset.update(channels=1, classes=10, mean=(0.5,), std=(0.5,))
    return config


@pytest.mark.slow
def test_net_d_begins_with_net_a(vgg: ConfigDict, tmp_path: Path) -> None:
    train(vgg.copy_and_resolve_references(), tmp_path / "a")
    mesh = devices.make_mesh(1)
    _, trained, _ = load_network(RunFolder(tmp_path / "a"), mesh)
    vgg.model.variant = "D"
    state = prepare(_ready(vgg), 100, mesh).state
    before = jax.tree.map(np.asarray, state.params)
    begun = net_a.begin_with(str(tmp_path / "a"), state, mesh).params
    assert begun.keys() == before.keys()
    for name, layer in begun.items():
        expected = trained[name] if name in SHALLOW else before[name]
        for key in ("kernel", "bias"):
            np.testing.assert_array_equal(layer[key], expected[key])
    assert sum(name in SHALLOW for name in begun) == 4 + 3
    # And from the command's side: the run of D starts with it, and says where it came from.
    vgg.transfer.net_a = str(tmp_path / "a")
    train(vgg, tmp_path / "d")
    assert RunFolder(tmp_path / "d").config.transfer.net_a == str(tmp_path / "a")
    # Other classes have another fc8.
    vgg.dataset.classes = 3
    other = _ready(vgg)
    other.dataset.classes = 3
    with pytest.raises(UserError, match=r"its fc8 has the shapes .* train net A on the same classes and channels"):
        net_a.begin_with(str(tmp_path / "a"), prepare(other, 100, mesh).state, mesh)
