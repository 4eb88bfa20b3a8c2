"""Arrows run one way: scripts -> train -> models; configs knows ml_collections alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = ("models", "train", "configs", "scripts")
# What each room may import of ours. Scripts and tests may import everything.
MAY = {"models": {"models"}, "train": {"train", "models"}, "configs": {"configs"}, "scripts": set(ROOMS)}
PEERS = ("torch", "tensorflow", "keras", "onnxruntime")
# Peers, each run in a process of its own.
TORCH, TENSORFLOW = {"torch_side", "torch_networks", "torch_mnist", "torch_input"}, {"tensorflow_input"}
FILES = [file for room in ROOMS for file in sorted((CHECKOUT / room).rglob("*.py"))]


def imports(file: Path) -> set[str]:
    """Top-level names of every import in the file, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.peer
def test_nothing_but_the_peer_loads_torch_and_nothing_tensorflow_where_they_are_installed() -> None:
    names = [
        ".".join(file.relative_to(CHECKOUT).with_suffix("").parts)
        for file in FILES
        if file.stem not in TORCH | TENSORFLOW and file.parent.name != "scripts"  # each defines flags of the same names
    ]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    code += f"print({set(PEERS)} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "set()\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_arrows_run_one_way(file: Path) -> None:
    room = file.relative_to(CHECKOUT).parts[0]
    assert imports(file) & set(ROOMS) <= MAY[room]


def third_party(room: str) -> set[str]:
    """What the room imports that is neither ours nor Python's."""
    names = set().union(*(imports(file) for file in (CHECKOUT / room).rglob("*.py")))
    return names - set(ROOMS) - sys.stdlib_module_names


def test_configs_import_ml_collections_alone() -> None:
    assert third_party("configs") == {"ml_collections"}


def test_models_know_no_data_and_no_runs() -> None:
    assert third_party("models") == {"jax", "flax", "numpy"}


def importers(package: str) -> set[str]:
    return {file.stem for file in FILES if package in imports(file)}


def test_torch_is_the_peers_alone_and_tensorflow_the_builders() -> None:
    there = {package: importers(package) for package in PEERS}
    assert there == {
        "torch": TORCH,
        "tensorflow": {"tfds_build", *TENSORFLOW},
        "keras": set(),
        "onnxruntime": set(),
    }
    named = {"train.benchmark.torch_side", "train.benchmark.torch_networks"}
    peers = ("torch_side", "torch_mnist")
    assert not any(name in file.read_text() for file in FILES for name in named if file.stem not in peers)


def test_what_an_extra_brings_is_imported_where_it_is_needed() -> None:
    assert importers("safetensors") == {"safetensors_reader", "exporting"}
    assert importers("h5py") == {"hdf5_listing", "keras_writer"}
    assert importers("onnx") == {"onnx_reader", "onnx_writer"}
    assert importers("ray") == {"by_ray"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_rooms_are_small_and_named(file: Path) -> None:
    assert not {"utils", "helpers", "common", "misc"} & {
        part.removesuffix(".py") for part in file.relative_to(CHECKOUT).parts
    }
    limit = 100 if file.parent.name == "scripts" else 350
    assert len(file.read_text().splitlines()) <= limit


def test_modules_do_not_shadow_packages() -> None:
    # `scripts/inspect.py` or `train/optax.py` would confuse readers, and break `python scripts/NAME.py`.
    ours = {file.stem for file in FILES} - {"__init__"}
    third_party = {
        "jax",
        "flax",
        "optax",
        "orbax",
        "absl",
        "numpy",
        "rich",
        "PIL",
        "sklearn",
        "matplotlib",
        "grain",
        "torch",
        "tensorflow",
        "tensorflow_datasets",
        "onnx",
        "h5py",
        "safetensors",
        "keras",
        "ray",
    }
    assert not ours & (third_party | sys.stdlib_module_names)
