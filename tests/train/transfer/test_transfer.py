"""What is kept of a trained network, what learns, and that frozen means frozen."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.conftest import fresh
from train import devices, hosts, network, settings
from train.checkpoints import load_network
from train.data import dataset
from train.errors import UserError
from train.loop import train
from train.network import PyTree
from train.prepare import prepare
from train.records import METRICS, read_metrics
from train.run import RunFolder
from train.transfer import adopting, table, weights


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron that knows the digits 0 to 6."""
    from tests.conftest import config as fixture

    config = fixture.__wrapped__()  # type: ignore[attr-defined]
    config.dataset.only_classes = tuple("0123456")
    config.model.hidden = (24, 16)
    folder = tmp_path_factory.mktemp("source") / "run"
    train(config, folder)
    return folder


def begins_with(config: ConfigDict, source: Path, mode: str, **changes: Any) -> ConfigDict:
    """Return the config of a run on the digits 7 to 9."""
    config = fresh(config)
    config.model.hidden = None
    config.dataset.only_classes = tuple("789")
    config.transfer.mode = mode
    config.transfer.weights = str(source)
    config.update_from_flattened_dict(changes)
    return config


def network_of_run(folder: Path) -> tuple[PyTree, PyTree]:
    return load_network(RunFolder(folder), devices.make_mesh(1))[1:]


def same(one: PyTree, other: PyTree) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


def test_frozen_layers_are_the_same_to_the_bit(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    changes = {"optimizer.weight_decay": 0.1, "optimizer.decay_all": True, "train.ema": 0.9, "model.dropout": 0.5}
    train(begins_with(config, source, "frozen", **changes), tmp_path / "run")
    theirs, ours = network_of_run(source)[0], network_of_run(tmp_path / "run")[0]
    assert ours.keys() == {"hidden1", "hidden2", "output"}
    for layer in ("hidden1", "hidden2"):
        assert same(theirs[layer], ours[layer])
    assert ours["output"]["bias"].shape == (3,)
    result = RunFolder(tmp_path / "run").result
    assert result is not None
    assert result["frozen"]["until"] == "hidden2"
    assert result["frozen"]["parameters"] == 64 * 24 + 24 + 24 * 16 + 16
    assert result["parameters"] == result["frozen"]["parameters"] + 16 * 3 + 3
    assert result["test"]["accuracy"] > 0.7  # by chance a third


def test_finetuned_layers_are_not(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    train(begins_with(config, source, "finetune"), tmp_path / "run")
    theirs, ours = network_of_run(source)[0], network_of_run(tmp_path / "run")[0]
    assert not same(theirs["hidden1"], ours["hidden1"])


def test_stored_activations_train_as_frozen_layers_do(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    # Dropout in the part that learns; that of the frozen part does not count any more.
    for mode in ("frozen", "stored"):
        changes = {"transfer.frozen_until": "hidden1", "model.dropout": 0.3}
        train(begins_with(config, source, mode, **changes), tmp_path / mode)
    (frozen, _), (stored, _) = (network_of_run(tmp_path / mode) for mode in ("frozen", "stored"))
    for one, other in zip(jax.tree.leaves(frozen), jax.tree.leaves(stored), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    lines = [
        [(line["step"], line["split"], line["accuracy"]) for line in read_metrics(tmp_path / mode / METRICS)]
        for mode in ("frozen", "stored")
    ]
    assert lines[0] == lines[1]
    tests = [json.loads((tmp_path / mode / "result.json").read_text())["test"] for mode in ("frozen", "stored")]
    assert tests[0]["accuracy"] == tests[1]["accuracy"]
    assert tests[0]["loss"] == pytest.approx(tests[1]["loss"], abs=1e-5)


def test_a_stored_run_answers_to_photos(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    trained = begins_with(config, source, "stored")
    train(trained, tmp_path / "run")
    graph, params, stats = load_network(RunFolder(tmp_path / "run"), devices.make_mesh(1))
    from train.evaluate import make_evaluator

    test = dataset.load(trained.dataset).test
    figures = make_evaluator(graph, trained, devices.make_mesh(1))(params, stats, test)
    result = RunFolder(tmp_path / "run").result
    assert result is not None
    assert figures["accuracy"] == result["test"]["accuracy"]
    assert figures["loss"] == pytest.approx(result["test"]["loss"], abs=1e-5)


def test_no_gradient_is_computed_for_what_is_frozen(config: ConfigDict) -> None:
    config.model.name, config.model.hidden, config.dataset.image_size = "lenet5", None, 32
    flops = {}
    for mode, last in (("finetune", None), ("frozen", "S4")):
        one = fresh(config)
        one.dataset.update(classes=10, channels=1, mean=(0.5,), std=(0.5,))
        one.transfer.update(mode=mode, weights="w", frozen_until=last)
        settings.resolve(one)
        prepared = prepare(one, 640, devices.make_mesh(1), tuned=False)  # XLA does not count what handlers compute
        flops[mode] = prepared.train_step.cost_analysis()["flops"]
        shapes = jax.tree.map(np.shape, prepared.state.optimizer)
        assert ("C1" in str(shapes)) == (mode == "finetune"), "no momentum for what does not learn"
    # The convolutions have four fifths of the multiplications and take them once instead of almost three times.
    assert flops["frozen"] < 0.55 * flops["finetune"]


def test_rates_fall_towards_the_input(config: ConfigDict) -> None:
    config.model.hidden = (24, 16)
    config.optimizer.momentum = 0.0
    config.optimizer.nesterov = False
    config.dataset.update(classes=10, channels=1, mean=(0.5,), std=(0.5,))
    config.transfer.update(mode="finetune", weights="w")
    moved = {}
    for decay in (1.0, 0.5):
        one = fresh(config)
        one.transfer.layer_decay = decay
        settings.resolve(one)
        prepared = prepare(one, 640, devices.make_mesh(1))
        before = jax.tree.map(np.asarray, jax.device_get(prepared.state.params))
        images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
        batch = dataset.Examples(images, np.arange(64, dtype=np.int32) % 10)
        after, _ = prepared.train_step(prepared.state, jax.device_put(batch))
        moved[decay] = jax.tree.map(lambda a, b: a - b, jax.device_get(after.params), before)
    for layer, rate in {"output": 1.0, "hidden2": 0.5, "hidden1": 0.25}.items():
        there, here = moved[1.0][layer]["kernel"], moved[0.5][layer]["kernel"]
        assert np.abs(there).max() > 0
        np.testing.assert_allclose(here, rate * there, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("classes", "names", "kept"),
    [(7, tuple("0123456"), True), (7, None, True), (7, tuple("abcdefg"), False), (3, None, False)],
)
def test_the_head_is_kept_for_the_same_classes(
    config: ConfigDict, source: Path, tmp_path: Path, classes: int, names: tuple[str, ...] | None, kept: bool
) -> None:
    config.model.hidden = None
    config.transfer.update(mode="finetune", weights=str(source))
    config.dataset.update(classes=classes, class_names=names)
    begun_with = adopting.adopt(config, tmp_path / "run")
    assert begun_with is not None
    settings.resolve(config)
    given = weights.kept(config, begun_with)
    assert given["params"].keys() == {"hidden1", "hidden2"} | ({"output"} if kept else set())
    rows = table.describe(config, given["params"])
    assert [row[2] for row in rows] == ["weights", "weights", "weights" if kept else "new"]


def test_the_weights_say_what_the_config_leaves_open(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    config.model.hidden = None
    config.transfer.update(mode="finetune", weights=str(source))
    adopting.adopt(config, tmp_path / "run")
    theirs = RunFolder(source).config
    assert config.model.hidden == (24, 16)
    assert (config.dataset.mean, config.dataset.std) == (theirs.dataset.mean, theirs.dataset.std)
    scrambled = shutil.copytree(source, tmp_path / "scrambled")
    text = (scrambled / "config.json").read_text()
    (scrambled / "config.json").write_text(text.replace('"permutation": null', '"permutation": 3'))
    other = fresh(config)
    other.transfer.weights = str(scrambled)
    adopting.adopt(other, tmp_path / "run")
    assert other.dataset.permutation == 3
    config.dataset.channel_order = "BGR"
    with pytest.raises(UserError, match=r"channel_order=BGR: config.transfer.weights=.* take RGB; leave the key out"):
        adopting.adopt(config, tmp_path / "run", ["dataset.channel_order"])


def test_a_run_goes_on_when_its_weights_are_gone(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(source, tmp_path / "moved")
    config.schedule.name, config.schedule.learning_rate = "constant", 0.05
    for mode in ("finetune", "frozen", "stored"):
        whole = begins_with(config, source, mode, **{"train.epochs": 4.0})
        train(whole, tmp_path / f"{mode}_whole")
        part = begins_with(config, moved, mode, **{"train.epochs": 2.0})
        train(part, tmp_path / mode)
    shutil.rmtree(moved)
    for mode in ("finetune", "frozen", "stored"):
        train(begins_with(config, moved, mode, **{"train.epochs": 4.0}), tmp_path / mode)
        assert same(network_of_run(tmp_path / mode), network_of_run(tmp_path / f"{mode}_whole"))


def test_a_file_of_weights_is_as_good_as_its_run(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    from train.weights import exporting

    file = tmp_path / "weights.safetensors"
    exporting.export(RunFolder(source), "safetensors", file)
    for name, given in (("run", source), ("file", file)):
        one = begins_with(config, given, "frozen")
        train(one, tmp_path / name)
    assert same(network_of_run(tmp_path / "run"), network_of_run(tmp_path / "file"))
    exporting.export(RunFolder(tmp_path / "file"), "safetensors", tmp_path / "net.safetensors")
    card = (tmp_path / "net.safetensors.md").read_text()
    assert "began with layers of `weights.safetensors`" in card
    assert "up to hidden2 are still as they were" in card
    assert '"weights": "weights.safetensors"' in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer.mode": "frozen", "transfer.weights": None}, "mode=frozen: needs config.transfer.weights"),
        ({"transfer.mode": "scratch"}, "starts with random weights"),
        ({"transfer.mode": "finetune", "transfer.frozen_until": "hidden1"}, "frozen_until=hidden1: .* lets all layers"),
        ({"transfer.layer_decay": 0.5}, "layer_decay=0.5: is for config.transfer.mode=finetune, not frozen"),
        ({"transfer.store": "x"}, "store=x: config.transfer.mode=frozen stores nothing"),
        ({"transfer.net_a": "x"}, "net_a=x: .* starts with config.transfer.weights"),
        ({"transfer.frozen_until": "hidden3"}, "frozen_until=hidden3: must be one of hidden1, hidden2"),
        ({"transfer.frozen_until": "output"}, "frozen_until=output: must be one of hidden1, hidden2"),
        (
            {"transfer.mode": "stored", "augment.flip": True},
            "augment.flip=True: stored activations are of middle crops",
        ),
        ({"transfer.weights": "nowhere"}, "weights=nowhere: there is neither"),
        ({"model.name": "lenet5", "dataset.image_size": 32}, "is mlp, not lenet5; set --config.model.name=mlp"),
        ({"model.hidden": (24, 8)}, r"config.model.hidden=\(24, 8\): config.transfer.weights=.* has \(24, 16\); leave"),
        ({"dataset.image_size": 16}, r"hidden1's kernel is \(64, 24\) there and \(256, 24\) here; .*image_size=8"),
        ({"transfer.mode": "thawed"}, "mode=thawed: must be one of scratch, finetune, frozen, stored"),
    ],
)
def test_what_cannot_be_is_said(
    config: ConfigDict, source: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(begins_with(config, source, "frozen", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_finished_is_none_to_begin_with(config: ConfigDict, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "begun")
    (tmp_path / "begun" / "result.json").unlink()
    with pytest.raises(UserError, match=r"config.transfer.weights=.*begun: is not finished; run its command again"):
        train(begins_with(config, tmp_path / "begun", "frozen"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_frozen_layer_that_has_changed_is_noticed(
    config: ConfigDict, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, asked = network.digests, []

    def one_bit_off(params: PyTree, stats: PyTree) -> dict[str, str]:
        asked.append(len(params))
        if len(asked) == 3:  # before the run, at its beginning, at its end
            bias = np.array(params["hidden1"]["bias"])
            bias.view(np.uint32)[3] ^= 1
            params = params | {"hidden1": {**params["hidden1"], "bias": bias}}
        return digests(params, stats)

    monkeypatch.setattr(network, "digests", one_bit_off)
    with pytest.raises(UserError, match="the frozen layers hidden1 are not what the run began with"):
        train(begins_with(config, source, "frozen"), tmp_path / "run")
    assert RunFolder(tmp_path / "run").result is None


def test_other_weights_do_not_slip_in_before_the_first_checkpoint(
    config: ConfigDict, source: Path, tmp_path: Path
) -> None:
    train(begins_with(config, source, "finetune"), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "result.json").unlink()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    environment["transfer"]["sha256"]["hidden1"] = "0" * 64
    (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(UserError, match=r"are not the weights that .*run was to begin with"):
        train(begins_with(config, source, "finetune"), tmp_path / "run")


def test_stored_activations_are_of_one_host(
    config: ConfigDict, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "count", lambda: 2)
    with pytest.raises(UserError, match=r"mode=stored: trains a small head on one host; choose finetune or frozen"):
        train(begins_with(config, source, "stored"), tmp_path / "run")
