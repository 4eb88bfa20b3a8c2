"""The proof finds what differs, and is not satisfied by what cannot be compared."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from models import LeNet5
from train.errors import UserError
from train.weights import proof

Made = tuple[nnx.GraphDef, dict, dict]


@pytest.fixture(scope="module")
def made() -> Made:
    graph, params, stats = nnx.split(LeNet5(classes=4, rngs=nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


@pytest.fixture(scope="module")
def pairs(made: Made) -> dict[str, np.ndarray]:
    """Images and what the network makes of them, channels first."""
    images = jax.random.normal(jax.random.key(0), (40, 32, 32, 1))
    stages = dict(nnx.merge(*made).stages(images))
    logits = stages.pop("output")
    maps = {name: np.asarray(stages[name]) for name in ("C1", "S4", "F6")}
    arrays = {"inputs": np.asarray(images), "outputs": np.asarray(logits), **maps}
    arrays["probabilities"] = np.asarray(jax.nn.softmax(logits))
    return {name: np.moveaxis(array, -1, 1) if array.ndim == 4 else array for name, array in arrays.items()}


def compare(made: Made, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    np.savez(folder / "pairs.npz", **arrays)
    found, images = proof.compare(*made, folder / "pairs.npz", channels_first=True)
    assert images == len(arrays["inputs"])
    return {name: (absolute, relative) for name, absolute, relative in found}


def test_the_same_network_is_proved_in_the_order_of_its_stages(made: Made, pairs, tmp_path: Path) -> None:
    found = compare(made, tmp_path, pairs)
    assert list(found) == ["C1", "S4", "F6", "outputs", "probabilities"]
    assert max(relative for _, relative in found.values()) < 1e-5


@pytest.mark.parametrize(("name", "value"), [("S4", 1.5), ("outputs", np.nan), ("probabilities", np.inf)])
def test_one_number_that_differs_is_found_wherever_it_is(name: str, value: float, made, pairs, tmp_path: Path) -> None:
    changed = pairs | {name: pairs[name].copy()}
    changed[name].reshape(-1)[-1] += value  # of the last image, in the second batch
    np.savez(tmp_path / "pairs.npz", **changed)
    found, _ = proof.compare(*made, tmp_path / "pairs.npz", channels_first=True)
    over = proof.first_over(found, proof.TOLERANCE)
    assert over is not None
    assert over.name == name
    if np.isfinite(value):
        assert over.absolute == pytest.approx(value, rel=1e-4)
        assert over.relative == pytest.approx(value / np.abs(changed[name]).max(), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda arrays: {"outputs": arrays["outputs"]},
            r"takes inputs and at least one of C1, .*; it has \['outputs'\]",
        ),
        (lambda arrays: {"inputs": arrays["inputs"]}, "takes inputs and at least one of"),
        (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "must be numbers, and some"),
        (lambda arrays: arrays | {"C1": np.array(["one"])}, "C1 must be numbers, and some"),
        (lambda arrays: arrays | {"conv9": arrays["C1"]}, "conv9 are no stages; there are C1, S2, C3, S4, C5, F6"),
        (lambda arrays: arrays | {"inputs": arrays["inputs"][..., :30]}, r"inputs are \(32, 30, 1\), .* \(32, 32, 1\)"),
        (
            lambda arrays: arrays | {"C1": arrays["C1"][:, :5]},
            r"C1 has \(40, 28, 28, 5\), the network makes \(40, 28, 28, 6\)",
        ),
        (lambda arrays: arrays | {"outputs": arrays["outputs"][:39]}, r"outputs has \(39, 4\), .* makes \(40, 4\)"),
    ],
)
def test_what_cannot_be_compared_is_named(change, message: str, made: Made, pairs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        compare(made, tmp_path, change(pairs))


def test_a_file_that_is_no_npz_is_one_line(made: Made, tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"no archive"):
        (tmp_path / "pairs.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"pairs.npz: cannot be read as a .npz file"):
            proof.compare(*made, tmp_path / "pairs.npz", channels_first=True)
    with pytest.raises(UserError, match=r"cannot be read as a .npz file"):
        proof.compare(*made, tmp_path / "none.npz", channels_first=True)


def test_one_image_needs_no_batch(made: Made, pairs, tmp_path: Path) -> None:
    one = {"inputs": pairs["inputs"][0], "outputs": pairs["outputs"][0], "C1": pairs["C1"][0]}
    np.savez(tmp_path / "pairs.npz", **one)
    found, images = proof.compare(*made, tmp_path / "pairs.npz", channels_first=True)
    assert images == 1
    assert proof.first_over(found, proof.TOLERANCE) is None
    assert proof.first_over(found, float("nan")) is found[0]  # a tolerance that is none excuses nothing
