"""The table beside a peer: its rows, and that both sides do the same work."""

import json
from pathlib import Path

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import base
from models import NETWORKS
from tests.conftest import Command
from train import settings
from train.benchmark import compare, workloads
from train.benchmark.process import Side
from train.benchmark.workloads import Workload
from train.errors import UserError

# What a row must hold.
KEYS = {
    *("suite", "model", "precision", "images_per_second", "peer", "peer_setting"),
    *("peer_images_per_second", "ratio", "fraction_of_limit"),
}


@pytest.mark.parametrize("name", sorted(workloads.NETWORKS))
def test_macs_are_kernels_times_positions(name: str) -> None:
    measured = workloads.NETWORKS[name]
    counted: list[int] = []

    def count(kernel: jax.Array, positions: int) -> None:
        counted.append(kernel.size * positions)

    def forward(images: jax.Array) -> jax.Array:
        called = next(iter(NETWORKS[name].values()))(
            image_size=measured.image_size, channels=measured.channels, classes=measured.classes, rngs=nnx.Rngs(0)
        )
        return called(images)

    shape = (1, measured.image_size, measured.image_size, measured.channels)
    for equation in jax.make_jaxpr(forward)(jax.ShapeDtypeStruct(shape, jnp.float32)).eqns:
        _walk(equation, count)
    assert compare.flops(Workload("infer", name, "float32")) == 2 * sum(counted)
    # Forward, the gradient of the kernels, and that of the maps, but for the image.
    assert compare.flops(Workload("train", name, "float32")) == 2 * (3 * sum(counted) - counted[0])


def _walk(equation, count) -> None:
    """Find products and convolutions of the traced network, inside other equations too."""
    kind = equation.primitive.name
    if kind == "conv_general_dilated":
        *_, height, width, _ = equation.outvars[0].aval.shape
        count(equation.invars[1].aval, height * width)
    elif kind == "dot_general" and equation.invars[1].aval.ndim == 2:
        count(equation.invars[1].aval, 1)
    for value in equation.params.values():
        if isinstance(value, jax.extend.core.ClosedJaxpr):
            for inner in value.jaxpr.eqns:
                _walk(inner, count)


def test_without_a_peer_a_row_has_our_side_alone(command: Command, tmp_path: Path) -> None:
    output = tmp_path / "b.json"
    process = command("benchmark", "--suite=infer", "--model=lenet5", "--repeats=1", f"--output={output}")
    assert process.returncode == 0, process.stderr
    rows = json.loads(output.read_text())["rows"]
    assert [(row["suite"], row["model"], row["precision"]) for row in rows] == [
        ("infer", "lenet5", "float32"),
        ("infer", "lenet5", "bfloat16"),
    ]
    for row in rows:
        assert row.keys() >= KEYS
        assert row["peer"] is None
        assert row["ratio"] is None
        assert 0 < row["fraction_of_limit"] < 1
        assert row["first_step_seconds"] > row["compile_seconds"] > 0
        assert row["peak_bytes"] > 0
    assert "lenet5" in process.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suite=trian"], "--suite=trian: must be of train, infer, compiler"),
        (["--model=lenet"], "--model=lenet: must be of lenet5, alexnet, vgg16"),
        (["--precision=float16"], "--precision=float16: must be of float32, bfloat16"),
        (["--check"], "--check: needs --peer"),
    ],
    ids=lambda value: "says" if isinstance(value, str) else value[0],
)
def test_what_is_wrong_is_one_line(one_line_error, flags: list[str], message: str) -> None:
    assert message in one_line_error("benchmark", *flags)


def test_a_side_that_fails_says_why() -> None:
    config = settings.to_json(base.get_config())
    with Side("jax_side", 1) as side:
        with pytest.raises(UserError, match=r"jax_side: prepare .*KeyError: 'lenet6'"):
            side.ask("prepare", workload=Workload("infer", "lenet6", "float32"), config=config)
        assert side.ask("matrix_rate", precision="float32", seconds=0.1)["flops"] > 1e8  # and goes on


@pytest.mark.peer
@pytest.mark.parametrize("name", sorted(workloads.NETWORKS))
def test_both_sides_compute_the_same(name: str) -> None:
    pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')
    compare.check(Workload("train", name, "float32"), settings.to_json(base.get_config()), "torch", 2)


@pytest.mark.peer
def test_check_finds_another_network() -> None:
    pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')
    config = base.get_config()
    config.model.activation = "tanh"
    with pytest.raises(UserError, match=r"--check: lenet5 in float32: logits_error is .* do not compute the same"):
        compare.check(Workload("train", "lenet5", "float32"), settings.to_json(config), "torch", 2)


@pytest.mark.peer
def test_a_row_beside_a_peer(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')
    output = tmp_path / "b.json"
    flags = ["--suite=train", "--model=lenet5", "--precision=float32", "--repeats=1", "--peer=torch", "--check"]
    process = command("benchmark", *flags, f"--output={output}")
    assert process.returncode == 0, process.stderr
    (row,) = json.loads(output.read_text())["rows"]
    assert row.keys() >= KEYS
    assert row["peer"] == "torch"
    assert row["logits_error"] < 1e-4
    assert row["gradient_error"] < 1e-3
    assert row["ratio"] == pytest.approx(row["images_per_second"] / row["peer_images_per_second"])
    np.testing.assert_array_less(0, [row["peer_peak_bytes"], row["peer_fraction_of_limit"]])
