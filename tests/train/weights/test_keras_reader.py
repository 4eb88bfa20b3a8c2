"""Keras's files, made with h5py and by Keras: their layers, their order, and what HDF5 could be talked into."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.train.weights.test_torch_reader import every, read_all, refused
from train.weights import keras_reader
from train.weights.opening import open_weights

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.normal(size=(3, 3, 1, 2)).astype(np.float32), np.array([5, 6], np.float32)
DENSE, UNITS = RANDOM.normal(size=(18, 3)).astype(np.float32), np.arange(3, dtype=np.float32)
LAYERS = {"conv": [KERNEL, BIAS], "pool": [], "head": [DENSE, UNITS]}


def keras2(path: Path, layers: Mapping[str, list[np.ndarray]], root: str = "/", texts: Any = np.bytes_) -> Path:
    """Weights as Keras 2 saves them, and Keras 3 into `.h5`; of a whole model below `model_weights`."""
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = np.array(list(layers), texts)
        for layer, arrays in layers.items():
            names = [f"{layer}/{name}:0" for name in ("kernel", "bias")[: len(arrays)]]
            below = group.create_group(layer)
            below.attrs["weight_names"] = np.array(names, texts) if names else np.array([])
            for name, array in zip(names, arrays, strict=True):
                below[name] = array
    return path


def keras3(path: Path, layers: Mapping[str, list[np.ndarray]], names: Mapping[str, str] | None = None) -> Path:
    """Weights as Keras 3 saves them: layers by their classes, counted."""
    with h5py.File(path, "w") as file:
        for layer, arrays in layers.items():
            group = file.create_group(f"layers/{layer}/vars")
            if names:
                group.attrs["name"] = names[layer]
            for place, array in enumerate(arrays):
                group[str(place)] = array
    return path


def leaves(path: Path) -> dict[str, list[str]]:
    return {layer: list(tensors) for layer, tensors in open_weights(path).layers.items()}


@pytest.mark.parametrize("texts", [np.bytes_, h5py.string_dtype()], ids=["bytes", "text"])
@pytest.mark.parametrize("root", ["/", "model_weights"])
def test_layers_of_keras_2_are_in_the_order_of_their_names_list(root: str, texts: Any, tmp_path: Path) -> None:
    path = keras2(tmp_path / "net.h5", dict(reversed(LAYERS.items())), root, texts)
    assert leaves(path) == {"head": ["kernel", "bias"], "conv": ["kernel", "bias"]}
    assert not open_weights(path).channels_first
    for back, wanted in zip(read_all(path).values(), (DENSE, UNITS, KERNEL, BIAS), strict=True):
        np.testing.assert_array_equal(back, wanted)


def test_layers_of_keras_3_are_counted_and_not_spelled(tmp_path: Path) -> None:
    convolutions = {f"conv2d_{place}" if place else "conv2d": [KERNEL + place, BIAS] for place in range(12)}
    file = open_weights(keras3(tmp_path / "net.weights.h5", convolutions | {"dense": [DENSE, UNITS]}))
    assert list(file.layers) == [*convolutions, "dense"]
    for layer, (kernel, _) in convolutions.items():
        np.testing.assert_array_equal(file.layers[layer]["kernel"].read(), kernel)


def test_layers_of_keras_3_have_the_names_that_people_gave_them(tmp_path: Path) -> None:
    layers = {"conv2d": [KERNEL, BIAS], "dense": [DENSE, UNITS], "flatten": []}
    names = {"conv2d": "block1_conv1", "dense": "predictions", "flatten": "flat"}
    path = keras3(tmp_path / "net.weights.h5", layers, names)
    assert leaves(path) == {"block1_conv1": ["kernel", "bias"], "predictions": ["kernel", "bias"]}


def test_what_training_and_dropout_remember_is_no_layer(tmp_path: Path) -> None:
    path = keras3(tmp_path / "net.weights.h5", {"dense": [DENSE]})
    with h5py.File(path, "a") as file:
        for place in range(6):
            file[f"optimizer/vars/{place}"] = DENSE
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    assert leaves(path) == {"dense": ["kernel"]}


def test_batch_norms_are_read_of_our_own_files_alone(tmp_path: Path) -> None:
    four = [np.full(2, value, np.float32) for value in (1, 2, 3, 4)]
    path = keras3(tmp_path / "net.weights.h5", {"batch_normalization": four})
    assert "is a batch normalisation, whose epsilon is not in the file" in refused(path)
    with h5py.File(path, "a") as file:
        file["oldmasters.json"] = '{"model.name": "vgg16", "dataset.mean": [0.5]}'
    assert leaves(path) == {"batch_normalization": ["scale", "bias", "mean", "var"]}
    assert open_weights(path).states == {"model.name": "vgg16", "dataset.mean": (0.5,)}


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_numbers_of_other_precisions(dtype: str, tmp_path: Path) -> None:
    (back,) = read_all(keras3(tmp_path / "net.weights.h5", {"dense": [DENSE.astype(dtype)]})).values()
    np.testing.assert_array_equal(back, DENSE.astype(dtype))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_both_generations_of_the_format(libver: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w", libver=libver, track_order=True) as file:
        file["layers/dense/vars/0"] = DENSE
        file["layers/dense/vars/1"] = UNITS
    np.testing.assert_array_equal(next(iter(read_all(tmp_path / "net.weights.h5").values())), DENSE)


@pytest.mark.parametrize("strange", ["integers", "texts", "pairs", "none", "three", "nothing", "names", "twice"])
def test_what_is_no_layer_of_ours_is_refused(strange: str, tmp_path: Path) -> None:
    path = tmp_path / "net.weights.h5"
    content: Any = {
        "integers": [np.arange(3)],
        "texts": [np.array(["a", "b"], object)],
        "pairs": [np.zeros(2, "f4,f4")],
        "none": [h5py.Empty("f4")],
        "three": [UNITS] * 3,
        "nothing": [],
        "names": [DENSE],
        "twice": [DENSE],
    }[strange]
    layers = {"dense": content} | ({"dense_1": content} if strange == "twice" else {})
    keras3(path, layers, {"names": {"dense": "a\nb"}, "twice": {"dense": "a", "dense_1": "a"}}.get(strange))
    words = {
        "three": "layer dense has 3 arrays, as no layer of our networks has",
        "nothing": "holds no layer of Keras; save the model's weights with save_weights",
        "names": "is no name of a layer",
        "twice": "there are two layers a",
    }
    assert words.get(strange, "cannot be read as a Keras file (/layers/dense/vars/0 ") in refused(path)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Another file, which a file of weights has no business with."""
    return keras3(tmp_path / "secret.h5", {"dense": [DENSE]})


@pytest.mark.parametrize(
    "kind", ["soft", "external", "array", "group", "root", "record", "dangling", "virtual", "storage", "cycle", "self"]
)
def test_nothing_leads_out_of_the_file_or_round_in_it(kind: str, secret: Path, tmp_path: Path) -> None:
    path = keras2(tmp_path / "net.h5", {"conv": [KERNEL, BIAS]})
    elsewhere = h5py.ExternalLink(str(secret), "/layers/dense/vars/0")
    with h5py.File(path, "a") as file:
        if kind == "soft":
            file["layers/dense/vars/0"] = h5py.SoftLink("/conv/conv/kernel:0")
        elif kind == "external":
            file["layers/dense/vars/0"] = elsewhere
        elif kind == "array":
            del file["conv/conv/kernel:0"]
            file["conv/conv/kernel:0"] = elsewhere
        elif kind == "group":
            del file["conv"]
            file["conv"] = h5py.ExternalLink(str(secret), "/layers")
        elif kind == "root":
            file["model_weights"] = h5py.ExternalLink(str(secret), "/")
        elif kind == "record":
            file["oldmasters.json"] = elsewhere
        elif kind == "dangling":
            file["layers"] = h5py.ExternalLink("/nowhere/at/all.h5", "/")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((18, 3), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "layers/dense/vars/0", (18, 3))
            del file["conv/conv/kernel:0"]
            file.create_virtual_dataset("conv/conv/kernel:0", layout)
        elif kind == "storage":
            del file["conv/conv/kernel:0"]
            file["conv"].create_dataset("conv/kernel:0", (18, 3), "f4", external=[(str(secret), 0, 216)])
        elif kind == "cycle":
            file["conv/up"] = file["/"]
        elif kind == "self":
            file["conv/self"] = file["conv"]
    line = refused(path)
    assert "is a link, which Keras writes none of" in line or "does not lie in one piece in this file" in line


@pytest.mark.parametrize("how", [{"chunks": (2, 2)}, {"compression": "gzip"}, {"maxshape": (None, None)}, {}], ids=str)
def test_numbers_that_are_not_in_one_piece_are_refused_and_take_no_memory(how: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", (10**6, 10**6), "f4", **how)  # none of which is written
    assert "does not lie in one piece in this file" in refused(tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=DENSE, **how)
    if how:
        assert "does not lie in one piece in this file" in refused(tmp_path / "net.weights.h5")


def patched(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    return path


def test_a_shape_that_claims_more_than_there_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keras3(tmp_path / "net.weights.h5", {"dense": [np.zeros((12345, 1), np.float32)]})
    patched(path, struct.pack("<Q", 12345), struct.pack("<Q", 10**12))
    assert "invalid dataset size" in refused(path)
    # And where the library does not look at it.
    array = {"attributes": {}, "shape": [10**6, 10**6], "dtype": "<f4", "offset": 800}
    items = {"": {"attributes": {}}, "/layers/d/vars": {"attributes": {}}, "/layers/d/vars/0": array}
    monkeypatch.setattr(keras_reader, "_listing", lambda path: items)
    assert "/layers/d/vars/0 claims 1,000,000,000,000 numbers" in refused(path)


def test_a_text_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    path = keras2(tmp_path / "net.h5", LAYERS)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = "a" * 54321
    # HDF5 takes as much memory as the length says, before it looks for the text.
    patched(path, struct.pack("<I", 54321), struct.pack("<I", 2**32 - 1))
    assert refused(path).startswith("cannot be read as a Keras file (")


# Whole models.


def layer(kind: str, name: str = "it", **config: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "InputLayer": {"batch_shape": [None, 8, 8, 1]},
        "Conv2D": {"filters": 2, "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid"},
        "MaxPooling2D": {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"},
        "AveragePooling2D": {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"},
        "Dense": {"units": 3},
    }.get(kind, {})
    return {"class_name": kind, "config": {"name": name} | defaults | config}


INPUT = layer("InputLayer")
SEQUENCE = [
    INPUT,
    layer("Conv2D", activation="tanh"),
    layer("MaxPooling2D"),
    layer("Dropout"),
    layer("Flatten"),
    layer("Dense", activation="softmax"),
]


def whole(path: Path, layers: list[dict[str, Any]], kind: str = "Sequential") -> Path:
    keras2(path, LAYERS, "model_weights")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": kind, "config": {"name": "net", "layers": layers}})
    return path


def steps(path: Path) -> list[str]:
    operations = open_weights(path).operations
    assert operations is not None
    return [f"{step.kind} {'x'.join(map(str, step.shape))}" for step in operations]


def test_a_whole_sequential_model_says_what_it_does(tmp_path: Path) -> None:
    path = whole(tmp_path / "net.h5", SEQUENCE)
    assert steps(path) == ["convolution 6x6x2", "tanh 6x6x2", "max_pool 3x3x2", "dense 3"]
    assert open_weights(path).states == {"dataset.image_size": 8, "dataset.channels": 1}
    # Keras 2 has the size of the image in the first layer.
    first = layer("Conv2D", activation="tanh", batch_input_shape=[None, 8, 8, 1])
    assert steps(whole(tmp_path / "net.h5", [first, *SEQUENCE[2:]])) == steps(path)[:1] + steps(path)[1:]
    assert open_weights(whole(tmp_path / "net.h5", SEQUENCE, "Functional")).operations is None


@pytest.mark.parametrize(
    ("padding", "strides", "shape"), [("same", [1, 1], 8), ("same", [3, 3], 3), ("valid", [3, 3], 2)]
)
def test_padding_is_as_keras_has_it(padding: str, strides: list[int], shape: int, tmp_path: Path) -> None:
    for kind in ("Conv2D", "MaxPooling2D"):
        size = {"kernel_size" if kind == "Conv2D" else "pool_size": [3, 3]}
        layers = [INPUT, layer(kind, padding=padding, strides=strides, **size)]
        assert steps(whole(tmp_path / "net.h5", layers))[0].split()[1].startswith(f"{shape}x{shape}x")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([INPUT, layer("LeakyReLU")], "layer it is a LeakyReLU, which none of our networks has"),
        ([INPUT, layer("Lambda", function="exec")], "layer it is a Lambda, which none of our networks has"),
        ([INPUT, layer("ZeroPadding2D")], "layer it is a ZeroPadding2D, which"),
        ([INPUT, layer("Sequential", layers=[])], "layer it is a Sequential, which"),
        ([INPUT, layer("ReLU", max_value=6.0)], "layer it is a ReLU with bounds, which"),
        ([INPUT, layer("ReLU", negative_slope=0.1)], "layer it is a ReLU with bounds, which"),
        ([INPUT, layer("Conv2D", activation="gelu")], "layer it activates with gelu, as none of our networks does"),
        ([INPUT, layer("Conv2D", activation={"class_name": "F"})], "layer it activates with {'class_name': 'F'}"),
        ([INPUT, layer("Conv2D", data_format="channels_first")], "layer it has its channels first"),
        ([INPUT, layer("AveragePooling2D", padding="same")], "layer it averages over padding"),
        ([INPUT, layer("Rescaling", scale=0.1, offset=0.0)], "layer it prepares images; save the model without it"),
        ([INPUT, layer("Dense", "a", activation="softmax"), layer("Dense")], "it stands behind the softmax of a"),
        ([INPUT, layer("Softmax", "a"), layer("ReLU")], "layer it stands behind the softmax of a, not before it"),
        ([INPUT, layer("Conv2D", padding="causal")], "it has no 'causal'"),
        ([INPUT, layer("Conv2D", filters=0)], "layer it has 0 filters"),
        ([INPUT, layer("Dense", units=None)], "layer it has None units"),
        ([layer("InputLayer", batch_shape=[None, 8, 9, 1])], "takes [None, 8, 9, 1], not square images"),
        ([layer("InputLayer", batch_shape=[None, None, None, 1])], "takes [None, None, None, 1], not square"),
        ([layer("InputLayer", batch_shape=[None, "8", "8", 1])], "not square images"),
        ([layer("InputLayer", batch_shape=[None, -8, -8, 1])], "not square images"),
        ([layer("InputLayer", batch_shape=[None, 64])], "not square images"),
        ([layer("Dense")], "takes None, not square images"),
        ([], "is it whole?"),
    ],
)
def test_what_none_of_our_networks_does_is_refused_by_its_layer(
    layers: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    assert words in refused(whole(tmp_path / "net.h5", layers))


# What Keras itself writes.


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras", reason="needs the peer keras")


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("trained", [False, True])
def test_what_keras_saves_of_a_sequence(suffix: str, trained: bool, keras: Any, tmp_path: Path) -> None:
    path, layers = tmp_path / f"net{suffix}", keras.layers
    net = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, activation="relu", name="z")])
    for made in (layers.MaxPooling2D(), layers.Dropout(0.5), layers.Flatten(), layers.Dense(4, "tanh", name="a")):
        net.add(made)
    net.add(layers.Dense(3, "softmax"))
    if trained:
        net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        net.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0)
    net.save_weights(path) if suffix == ".weights.h5" else net.save(path)
    if suffix == ".keras":
        assert "is a whole model of Keras; save its weights with model.save_weights" in refused(path)
        return
    for back, wanted in zip(read_all(path).values(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(back, wanted)
    if suffix == ".h5":
        kinds = ["convolution 6x6x2", "relu 6x6x2", "max_pool 3x3x2", "dense 4", "tanh 4", "dense 3"]
        assert steps(path) == kinds


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_what_keras_saves_of_more_than_ten_convolutions(suffix: str, keras: Any, tmp_path: Path) -> None:
    images = maps = keras.Input((16, 16, 3))
    for place in range(12):
        maps = keras.layers.Conv2D(2, 2, name=f"block_{place}")(maps)
    net = keras.Model(images, keras.layers.Dense(2, name="predictions")(keras.layers.Flatten()(maps)))
    path = tmp_path / f"net{suffix}"
    net.save_weights(path) if suffix == ".weights.h5" else net.save(path)
    assert list(open_weights(path).layers) == [*(f"block_{place}" for place in range(12)), "predictions"]
    for back, wanted in zip(read_all(path).values(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(back, wanted)
    assert {each.shape for each in every(open_weights(path)).values()} == {array.shape for array in net.get_weights()}


def test_a_library_that_crashes_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = tmp_path / "listing.py"
    listing.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(keras_reader, "_LISTING", listing)
    assert "HDF5's library does not come to its end" in refused(keras2(tmp_path / "net.h5", LAYERS))
