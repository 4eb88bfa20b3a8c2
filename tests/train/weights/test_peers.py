"""What is imported and exported, beside those it comes from and goes to: PyTorch, Keras and onnxruntime."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from configs import base
from tests.train.weights import test_caffe_reader as caffe
from tests.train.weights.conftest import fresh_run
from train import devices
from train.checkpoints import load_network
from train.data import idx
from train.run import RunFolder
from train.weights import exporting, importing, proof

pytestmark = pytest.mark.peer
torch: Any = None  # imported where these tests run, which is not everywhere where they are collected
torch_network: Any = None
EVERY = ["alexnet", *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))]


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    global torch, torch_network
    torch = pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')
    from tests.train.weights import torch_networks

    torch_network = torch_networks.torch_network


def bring(weights: Path, workdir: Path, pairs: Path | None = None, **keys: object) -> float:
    """Import as scripts.import_weights does; return how far the outputs lie apart, relative to the largest."""
    config = base.get_config()
    preprocessing = keys.pop("preprocessing", None)
    config.update_from_flattened_dict(keys)
    plan = importing.plan(config, keys, weights, preprocessing=preprocessing, head="keep")
    made = importing.read(plan)
    differences, _ = importing.verify(plan, made, pairs) if pairs else ([], 0)
    importing.write(plan, made, workdir, None)
    return max((each.relative for each in differences), default=0.0)


def check_torch(name: str, folder: Path, *, strict: bool = True) -> None:
    network, images = torch_network(name), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.save(network.state_dict(), folder / "net.pth")
    with torch.no_grad():
        np.savez(folder / "pairs.npz", inputs=images.numpy(), outputs=network(images).numpy())
    keys = {"model.name": name.removesuffix("_bn"), "preprocessing": "torchvision"}
    assert bring(folder / "net.pth", folder / "run", folder / "pairs.npz", **keys) < proof.TOLERANCE
    if strict:
        exporting.export(RunFolder(folder / "run"), "torch", folder / "back.pth")
        back = torch.load(folder / "back.pth", weights_only=True, mmap=True)
        torch_network(name).load_state_dict(back, strict=True)
        wanted = network.state_dict()
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in back.items())


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn"])
def test_torchs_networks_come_and_go_unchanged(name: str, tmp_path: Path) -> None:
    check_torch(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_network_of_torchvision_comes_unchanged(name: str, tmp_path: Path) -> None:
    check_torch(name, tmp_path)


def test_torch_reads_our_safetensors_under_strict_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    network = torch_network("alexnet", classes=7)
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    keys = {"model.name": "alexnet", "preprocessing": "torchvision"}
    bring(tmp_path / "net.safetensors", tmp_path / "run", **keys)
    exporting.export(RunFolder(tmp_path / "run"), "safetensors", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    network.load_state_dict(back, strict=True)
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in back.items())


def test_timms_names_and_convolutions_are_torchvisions_dense_layers(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network, images = torch_network("vgg11", classes=10), torch.randn(1, 3, 224, 224)
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    sides = {"classifier.0.weight": (4096, 512, 7, 7), "classifier.3.weight": (4096, 4096, 1, 1)}
    tensors = {}
    for name, tensor in network.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        tensors[f"{names.get(layer, layer)}.{leaf}"] = tensor.reshape(sides.get(name, tensor.shape))
    save_file(tensors, tmp_path / "net.safetensors")
    with torch.no_grad():
        np.savez(tmp_path / "pairs.npz", inputs=images.numpy(), outputs=network(images).numpy())
    keys = {"model.name": "vgg11", "preprocessing": "torchvision"}
    assert bring(tmp_path / "net.safetensors", tmp_path / "run", tmp_path / "pairs.npz", **keys) < proof.TOLERANCE


@pytest.mark.parametrize(("variant", "other", "old"), [("caffenet", "bvlc", False), ("bvlc", "caffenet", True)])
def test_caffes_networks_are_those_of_torch_in_their_own_variant_alone(
    variant: str, other: str, old: bool, tmp_path: Path
) -> None:
    from tests.train.weights.torch_networks import CaffeNetwork

    torch.manual_seed(0)
    network, images = CaffeNetwork(variant, classes=10), 100 * torch.randn(1, 3, 227, 227)
    modules = [*network.convolutions, *network.dense]
    names = [f"conv{number}" for number in range(1, 6)] + ["fc6", "fc7", "fc8"]
    layers = [
        caffe.layer(name, *(caffe.blob(tensor.detach().numpy(), old) for tensor in module.parameters()), old=old)
        for name, module in zip(names, modules, strict=True)
    ]
    (tmp_path / "net.caffemodel").write_bytes(caffe.network(*layers))
    with torch.no_grad():
        np.savez(tmp_path / "pairs.npz", inputs=images.numpy(), outputs=network(images).numpy())
    keys = {"model.name": "alexnet", "preprocessing": "caffe"}
    for chosen, equal in ((variant, True), (other, False)):
        keys["model.variant"] = chosen
        gap = bring(tmp_path / "net.caffemodel", tmp_path / chosen, tmp_path / "pairs.npz", **keys)
        assert (gap < proof.TOLERANCE) == equal


KERAS = """
import keras, numpy as np
keras.utils.set_random_seed(0)
net = keras.applications.VGG16(weights=None, classifier_activation=None)
random = np.random.default_rng(0)
for layer in net.layers:
    if layer.weights:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, random.normal(size=bias.shape).astype("f") / 10])
images = random.normal(size=(1, 224, 224, 3)).astype("f")
np.savez("vgg16.npz", inputs=images, outputs=net.predict(images, verbose=0))
net.save_weights("vgg16.weights.h5")
net.save("vgg16.h5")

net = keras.Sequential([
    keras.layers.Input((28, 28, 1)),
    keras.layers.Conv2D(8, 5, padding="same", activation="tanh"), keras.layers.AveragePooling2D(2),
    keras.layers.Conv2D(12, 3), keras.layers.Activation("tanh"), keras.layers.AveragePooling2D(2),
    keras.layers.Flatten(), keras.layers.Dropout(0.5),
    keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(10, activation="softmax"),
])
images = random.normal(size=(5, 28, 28, 1)).astype("f")
np.savez("small.npz", inputs=images, probabilities=net.predict(images, verbose=0))
net.save("small.h5")
net.save_weights("small.weights.h5")
"""
GRAY = {"dataset.resize": "pad", "dataset.mean": (0.0,), "dataset.std": (1.0,)}
SMALL = {
    "dataset.image_size": 28,
    "model.activation": "tanh",
    "model.pooling": "average",
    "model.padding": (2, 0),
    "model.pools": (2, 2),
}
BACK_IN_KERAS = """
import keras, numpy as np
net = keras.models.load_model("small.h5", compile=False)
wanted = net.get_weights()
net.set_weights([array * 0 for array in wanted])
net.load_weights("back.weights.h5")
assert all(np.array_equal(*pair) for pair in zip(net.get_weights(), wanted, strict=True))
net = keras.applications.VGG16(weights=None)
net.load_weights("vgg16.weights.h5")
wanted = net.get_weights()
net.set_weights([array * 0 for array in wanted])
net.load_weights("vgg16_back.weights.h5")
assert all(np.array_equal(*pair) for pair in zip(net.get_weights(), wanted, strict=True))
"""


def keras(code: str, folder: Path) -> None:
    """Run Keras on its JAX backend, in a process of its own: the backend is chosen by the environment."""
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "HOME": str(folder), "PATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr


def test_keras_networks_come_and_go_unchanged(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    keras(KERAS, tmp_path)
    for weights in ("vgg16.weights.h5", "vgg16.h5"):
        keys = {"model.name": "vgg16", "preprocessing": "keras"}
        assert bring(tmp_path / weights, tmp_path / f"{weights}.run", tmp_path / "vgg16.npz", **keys) < proof.TOLERANCE
    for weights, keys in (("small.h5", GRAY), ("small.weights.h5", GRAY | SMALL)):
        keys = {"model.name": "lenet5"} | keys
        assert bring(tmp_path / weights, tmp_path / f"{weights}.run", tmp_path / "small.npz", **keys) < proof.TOLERANCE
    exporting.export(RunFolder(tmp_path / "small.h5.run"), "keras", tmp_path / "back.weights.h5")
    exporting.export(RunFolder(tmp_path / "vgg16.h5.run"), "keras", tmp_path / "vgg16_back.weights.h5")
    keras(BACK_IN_KERAS, tmp_path)


def answers(model: Path, images: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of images `[B, C, H, W]`."""
    session = pytest.importorskip("onnxruntime").InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def ours(run: Path, images: np.ndarray) -> np.ndarray:
    """What a run's network makes of images `[B, C, H, W]`."""
    graph, params, stats = load_network(RunFolder(run), devices.make_mesh(1))
    step = jax.jit(lambda params, stats, images: nnx.merge(graph, params, stats)(images))
    return np.asarray(step(params, stats, np.moveaxis(images, 1, -1)))


def test_onnxruntime_answers_as_we_do_on_mnist(real_data: Path, tmp_path: Path) -> None:
    keys = {"model.name": "lenet5", **GRAY}
    bring(real_data / "onnx_mnist" / "model.onnx", tmp_path / "run", **keys)
    exporting.export(RunFolder(tmp_path / "run"), "onnx", tmp_path / "back.onnx")
    images = dict(idx.read_folder(real_data / "mnist"))["test"].images[:1000]
    images = np.moveaxis(images.astype(np.float32) / 255, -1, 1)
    there, here = answers(tmp_path / "back.onnx", images), ours(tmp_path / "run", images)
    assert np.abs(there - here).max() < proof.TOLERANCE * np.abs(here).max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_graph_that_torch_has_exported_answers_as_in_onnxruntime(tmp_path: Path) -> None:
    network = torch_network("vgg11_bn", classes=10)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3  # not ours
    images = torch.randn(1, 3, 224, 224)
    torch.onnx.export(
        network,
        (images,),
        tmp_path / "net.onnx",
        dynamo=False,  # the newer exporter takes a further package
        training=torch.onnx.TrainingMode.PRESERVE,  # else it folds the normalisations into the convolutions
        do_constant_folding=False,
    )
    np.savez(tmp_path / "pairs.npz", inputs=images.numpy(), outputs=answers(tmp_path / "net.onnx", images.numpy()))
    keys = {"model.name": "vgg11", "preprocessing": "torchvision"}
    assert bring(tmp_path / "net.onnx", tmp_path / "run", tmp_path / "pairs.npz", **keys) < proof.TOLERANCE
    exporting.export(RunFolder(tmp_path / "run"), "onnx", tmp_path / "back.onnx")
    there, here = answers(tmp_path / "back.onnx", images.numpy()), ours(tmp_path / "run", images.numpy())
    assert np.abs(there - here).max() < proof.TOLERANCE * np.abs(here).max()


@pytest.mark.parametrize(
    ("name", "variant", "size"),
    [("alexnet", "2012", 67), ("alexnet", "caffenet", 67), ("alexnet", "torchvision", 96)],
)
def test_onnxruntime_answers_as_our_networks_do(name: str, variant: str, size: int, tmp_path: Path) -> None:
    """Groups, local response normalisation, sizes rounded up, and adaptive pooling of small maps."""
    run = fresh_run(tmp_path / "run", name, variant, size)
    exporting.export(RunFolder(run), "onnx", tmp_path / "net.onnx")
    images = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    there, here = answers(tmp_path / "net.onnx", images), ours(run, images)
    assert np.abs(there - here).max() < proof.TOLERANCE * np.abs(here).max()
