"""What leaves a run folder comes back to the same bytes, whatever the format, and says how it is used."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export

from configs import base
from tests.conftest import CHECKOUT
from tests.train.weights.conftest import fresh_run
from train import devices
from train.checkpoints import load_network
from train.errors import UserError
from train.run import RunFolder
from train.weights import exporting, importing

FILES = {"safetensors": "net.safetensors", "torch": "net.pth", "keras": "net.weights.h5", "onnx": "net.onnx"}
ALL_FILES = FILES | {"stablehlo": "net.stablehlo"}  # of which the last is a program, and comes to no run again
NETWORKS = {
    "lenet5": ("lenet5", "modern", 32, {}),
    "average pooling": ("lenet5", "modern", 28, {"pooling": "average", "activation": "tanh", "padding": (2, 1)}),
    "mlp": ("mlp", None, 8, {"hidden": (12, 7)}),
    "scaled tanh": ("lenet5", "modern", 32, {"activation": "scaled_tanh"}),
    "lenet1d": ("lenet1d", None, 8, {}),
    "alexnet 2012": ("alexnet", "2012", 67, {}),
}
# The large ones once, in the format whose names are the most of a table.
PAIRS = [(name, kind) for name in ("lenet5", "average pooling", "mlp") for kind in FILES]
PAIRS += [
    *[(name, kind) for name in ("lenet1d", "scaled tanh") for kind in ("safetensors", "onnx")],
    ("alexnet 2012", "onnx"),
]


def parameters(run: Path) -> tuple[nnx.GraphDef, dict, dict]:
    return load_network(RunFolder(run), devices.make_mesh(1))


def bring_back(weights: Path, workdir: Path) -> importing.Plan:
    plan = importing.plan(base.get_config(), (), weights, preprocessing=None, head="keep")
    importing.write(plan, importing.read(plan), workdir, None)
    return plan


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_out_and_in_again_is_the_same_to_the_byte(name: str, kind: str, tmp_path: Path) -> None:
    network, variant, size, model = NETWORKS[name]
    run = fresh_run(tmp_path / "run", network, variant, size, **model)
    output = tmp_path / FILES[kind]
    exporting.export(RunFolder(run), kind, output)
    bring_back(output, tmp_path / "back")
    (_, *there), (_, *here) = parameters(run), parameters(tmp_path / "back")
    assert jax.tree.structure(there) == jax.tree.structure(here)
    pairs = zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True)
    assert all(np.asarray(one).tobytes() == np.asarray(other).tobytes() for one, other in pairs)
    one, other = RunFolder(run).config, RunFolder(tmp_path / "back").config
    assert one.model.to_dict() == other.model.to_dict()
    for key in ("image_size", "channels", "channel_order", "resize", "crop", "mean", "std", "classes"):
        assert one.dataset[key] == other.dataset[key]


@pytest.mark.parametrize("kind", ALL_FILES)
def test_the_same_run_makes_the_same_file(kind: str, tmp_path: Path) -> None:
    run = RunFolder(fresh_run(tmp_path / "run", "lenet5", "modern", 32))
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        exporting.export(run, kind, tmp_path / folder / ALL_FILES[kind])
    one, other = (tmp_path / folder / ALL_FILES[kind] for folder in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("name", "variant", "size"), [("lenet5", "modern", 32), ("lenet5", "1998", 32), ("mlp", None, 8)]
)
def test_stablehlo_answers_as_the_network_for_any_number_of_images(
    name: str, variant: str | None, size: int, tmp_path: Path
) -> None:
    run = fresh_run(tmp_path / "run", name, variant, size, classes=10)
    exporting.export(RunFolder(run), "stablehlo", tmp_path / "net.stablehlo")
    network = nnx.merge(*parameters(run))
    exported = jax_export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    for count in (1, 3):
        images = jax.random.normal(jax.random.key(count), (count, size, size, 1))
        np.testing.assert_allclose(exported.call(images), network(images), rtol=1e-4, atol=1e-5)


def test_no_file_names_a_folder_of_the_machine(tmp_path: Path) -> None:
    run = RunFolder(fresh_run(tmp_path / "run", "mlp", None, 8))
    run.config.dataset.update(source=f"folder:{tmp_path}/photos", data_dir=str(tmp_path))
    run.config.precision = "bfloat16"
    for kind, name in ALL_FILES.items():
        exporting.export(run, kind, tmp_path / name)
        content = (tmp_path / name).read_bytes() + (tmp_path / f"{name}.md").read_bytes()
        assert b'"source": "folder:photos"' in content
        for folder in (CHECKOUT, tmp_path, Path(jax.__file__).parent.parent):
            assert str(folder).encode() not in content, kind
        assert (b"logits. These are bfloat16." in content) == (kind == "stablehlo")


def test_the_card_says_what_one_must_know(tmp_path: Path) -> None:
    run = fresh_run(tmp_path / "run", "alexnet", "torchvision", 63)
    exporting.export(RunFolder(run), "safetensors", tmp_path / "net.safetensors")
    card = (tmp_path / "net.safetensors.md").read_text()
    for fact in (
        "alexnet torchvision, 57,024,325 parameters",
        "63x63 pixels with 3 channels, in the order RGB",
        "minus the mean 0.5, 0.5, 0.5, over the deviation 0.25, 0.25, 0.25",
        "0, 1, 2, 3, 4",
        '"image_size": 63',
        "load_file('net.safetensors')",
        "None measured",
    ):
        assert fact in card, fact


def test_a_network_that_a_format_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    run = RunFolder(fresh_run(tmp_path / "run", "lenet5", "1998", 32, classes=10))
    for kind, name in FILES.items():
        with pytest.raises(UserError, match=r"stage S2: no other format has a layer like it"):
            exporting.export(run, kind, tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_keras_has_no_normalisation_of_2012(tmp_path: Path) -> None:
    run = RunFolder(fresh_run(tmp_path / "run", "alexnet", "2012", 67, classes=3))
    with pytest.raises(UserError, match=r"--format=keras: Keras has no local response normalisation; choose onnx"):
        exporting.export(run, "keras", tmp_path / "net.weights.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("kind", "package"), [("keras", "h5py"), ("onnx", "onnx"), ("safetensors", "safetensors")])
def test_a_package_that_is_missing_is_named(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"--format={kind}: takes the package {package}; pip install -e"):
        exporting.check(kind, Path("net"))


@pytest.mark.parametrize(("kind", "name"), [("keras", "net.h5"), ("onnx", "net"), ("torch", "net.onnx")])
def test_a_file_is_called_by_its_format(kind: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"--output={name}: a file of --format={kind} ends in "):
        exporting.check(kind, Path(name))
