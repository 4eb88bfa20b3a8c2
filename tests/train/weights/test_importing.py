"""From a file to a run folder: what must be stated, what is named when it does not fit, and what is left behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from configs import base
from tests.train.weights.conftest import fresh_run
from train import devices
from train.checkpoints import load_network
from train.errors import UserError
from train.run import RunFolder
from train.weights import exporting, importing, layout, published, torch_writer
from train.weights.file import reading
from train.weights.operations import Operation, Operations, small_network
from train.weights.settling import Statements

GRAY = {"dataset.resize": "pad", "dataset.mean": (0.1307,), "dataset.std": (0.3081,), "dataset.image_size": 28}
NET = {"model.activation": "relu", "model.pooling": "max", "model.padding": (0, 0), "model.pools": (1, 2)}
EVERYTHING = {"model.name": "lenet5"} | GRAY | NET
RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def mnist_example() -> dict[str, np.ndarray]:
    """The tensors of PyTorch's basic MNIST example."""
    return {
        "conv1.weight": drawn(32, 1, 3, 3),
        "conv1.bias": drawn(32),
        "conv2.weight": drawn(64, 32, 3, 3),
        "conv2.bias": drawn(64),
        "fc1.weight": drawn(128, 64 * 12 * 12),
        "fc1.bias": drawn(128),
        "fc2.weight": drawn(10, 128),
        "fc2.bias": drawn(10),
    }


def plan(
    weights: Path, keys: Mapping[str, Any], head: str = "keep", preprocessing: str | None = None
) -> importing.Plan:
    config = base.get_config()
    config.update_from_flattened_dict(keys)
    return importing.plan(config, keys, weights, preprocessing=preprocessing, head=head)


def saved(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    path = folder / "net.safetensors"
    save_file(tensors, path)
    return path


def test_a_small_net_has_the_sizes_of_its_tensors(tmp_path: Path) -> None:
    tensors = mnist_example()
    made = plan(saved(tmp_path, tensors), EVERYTHING)
    model = made.config.model
    assert (model.widths, model.kernels, model.hidden) == ((32, 64), (3, 3), (128,))
    assert (made.config.dataset.classes, made.config.dataset.channels) == (10, 1)
    _, params, _ = importing.read(made)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(tensor.size for tensor in tensors.values())
    # A pixel of the kernel, and a place of the flattened maps, by hand.
    assert params["C2"]["kernel"][1, 2, 5, 7] == tensors["conv2.weight"][7, 5, 1, 2]
    assert params["C4"]["kernel"][(3 * 12 + 4) * 64 + 5, 6] == tensors["fc1.weight"][6, (5 * 12 + 3) * 12 + 4]


def test_what_a_file_does_not_say_is_asked_for_with_an_example(tmp_path: Path) -> None:
    path = saved(tmp_path, mnist_example())
    for missing in ("model.activation", "model.pooling", "model.padding", "model.pools"):
        with pytest.raises(UserError, match=rf"what is between the layers .* --config.{missing}="):
            plan(path, {key: value for key, value in EVERYTHING.items() if key != missing})
    for missing in ("dataset.image_size", "dataset.resize", "dataset.mean", "dataset.std"):
        with pytest.raises(UserError, match=rf"how images are prepared .* --config.{missing}="):
            plan(path, {key: value for key, value in EVERYTHING.items() if key != missing})
    with pytest.raises(UserError, match=r"--config\.dataset\.crop="):  # which padding does without
        plan(path, EVERYTHING | {"dataset.resize": "bilinear"})
    with pytest.raises(UserError, match="--model=NAME is missing"):
        plan(path, GRAY)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model.widths": (6, 16)}, r"config.model.widths=\(6, 16\): net.safetensors has \(32, 64\)"),
        ({"dataset.classes": 7}, r"config.dataset.classes=7: the head of net.safetensors \(--head=drop .* has 10"),
        ({"dataset.class_names": ("a", "b")}, r"config.dataset.classes=2: the head of net.safetensors .* has 10"),
        ({"model.activation": "swish"}, r"config.model.activation=swish: must be one of"),
        ({"model.name": "lenet6"}, r"--model=lenet6: must be one of .*; nearest: lenet5"),
        (
            {"dataset.std": (0.2, 0.2, 0.2)},
            r"config.dataset.std=\(0.2, 0.2, 0.2\): images have 1 channels; give as many",
        ),
        ({"dataset.image_size": 5000}, r"config.dataset.image_size=5000: must be at most 4,096"),
        ({"dataset.class_names": (1,) * 10}, r"config.dataset.class_names=\(1, .*\): must hold str"),
        ({"dataset.image_size": 4}, r"config.dataset.image_size=4: too small for lenet5"),
    ],
)
def test_what_is_given_and_wrong_is_named(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        plan(saved(tmp_path, mnist_example()), EVERYTHING | keys)


def test_tensors_that_do_not_fit_are_listed_all_at_once(tmp_path: Path) -> None:
    tensors = mnist_example()
    del tensors["fc2.bias"], tensors["conv2.bias"]  # without biases a convolution or a dense layer has none
    tensors["conv1.bias"] = drawn(31)
    tensors["scale"] = drawn(3)
    path = saved(tmp_path, tensors)
    made = plan(path, EVERYTHING | {"dataset.image_size": 32})  # makes other maps
    assert [row.action for row in made.match.rows if row.tensor is None] == ["zeros: the file has no bias"] * 2
    with pytest.raises(UserError) as error:
        importing.read(made)
    assert "3 of its tensors do not fit" in str(error.value)
    assert "another shape: conv1.bias has (31,), C1/bias takes (32,)" in str(error.value)
    assert "another shape: fc1.weight has (128, 9216), C4/kernel takes (128, 12544)" in str(error.value)
    assert "too much: scale (3,)" in str(error.value)


def test_no_bias_is_zeros(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in mnist_example().items() if not name.endswith("bias")}
    _, params, _ = importing.read(plan(saved(tmp_path, tensors), EVERYTHING))
    assert not any(params[layer]["bias"].any() for layer in params)


def test_a_variance_is_no_less_than_what_an_epsilon_makes_of_it() -> None:
    slot = layout.Slot("conv1_1_norm", "var", "norm", (3,))
    assert layout.flaw(np.array([0.0, 1.0, 1e-5 - layout.EPSILON], np.float32), slot) == ""
    assert layout.flaw(np.array([-9e-6], np.float32), slot) == ""  # 0 of a network whose epsilon is 1e-6
    assert layout.flaw(np.array([1, -1e-3, 1], np.float32), slot).startswith("holds a variance below 0")
    assert layout.flaw(np.array([1, np.nan, 1], np.float32), slot) == "holds NaN or Inf"
    assert layout.flaw(np.array([1, -1e-3, 1], np.float32), slot._replace(leaf="mean")) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_by_name(value: float, tmp_path: Path) -> None:
    tensors = mnist_example()
    tensors["fc1.weight"][100, 2000] = value
    with pytest.raises(UserError, match="C4/kernel holds NaN or Inf; --head=drop_dense leaves the dense layers out"):
        importing.read(plan(saved(tmp_path, tensors), EVERYTHING))


@pytest.mark.parametrize(("head", "fresh"), [("drop", ["output"]), ("drop_dense", ["C4", "output"])])
def test_a_head_that_is_left_out_begins_anew(head: str, fresh: list[str], tmp_path: Path) -> None:
    tensors = mnist_example()
    tensors["fc2.weight"][:] = np.nan  # is not read
    path = saved(tmp_path, tensors)
    with pytest.raises(UserError, match=r"give --config.dataset.classes=N"):
        plan(path, EVERYTHING, head)
    made = plan(path, EVERYTHING | {"dataset.classes": 3}, head)
    assert made.match.fresh == fresh
    _, params, _ = importing.read(made)
    assert params["output"]["kernel"].shape == (128, 3)
    assert 0.5 / 128**0.5 < params["output"]["kernel"].std() < 2 / 128**0.5  # LeCun's initializer
    np.testing.assert_array_equal(params["C2"]["bias"], tensors["conv2.bias"])
    assert np.array_equal(params["C4"]["bias"], tensors["fc1.bias"]) == (head == "drop")


def test_the_run_folder_reads_like_any_other_and_is_whole_or_not_there(tmp_path: Path) -> None:
    tensors = mnist_example()
    path = saved(tmp_path, tensors)
    made = plan(path, EVERYTHING | {"dataset.class_names": tuple("abcdefghij")})
    network = importing.read(made)
    importing.write(made, network, tmp_path / "run", {"file": "pairs.npz", "images": 3, "relative": 1e-6})
    folder = RunFolder(tmp_path / "run")
    assert folder.config.dataset.mean == (0.1307,)
    assert folder.config.dataset.class_names == tuple("abcdefghij")
    assert folder.environment["weights"]["sha256"] == published.digests(path)["sha256"]
    assert folder.environment["weights"]["proof"]["relative"] == 1e-6
    assert folder.result is not None
    assert folder.result["parameters"] == 1_199_882
    _, params, _ = load_network(folder, devices.make_mesh(1))
    jax.tree.map(np.testing.assert_array_equal, params, network[1])
    assert [entry.name for entry in tmp_path.iterdir()].count(".run.draft") == 0
    with pytest.raises(UserError, match="is there already, and not empty; choose another --workdir"):
        importing.write(made, network, tmp_path / "run", None)


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(saved(tmp_path, mnist_example()), EVERYTHING)
    network = importing.read(made)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "write_whole", full)
    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        importing.write(made, network, tmp_path / "run", None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.safetensors"]


def test_a_published_file_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_writer.write(tmp_path / "weights.pth", {"features.0.bias": drawn(64)}, "{}")
    digests = published.digests(tmp_path / "weights.pth")
    assert published.recognise(digests) is None
    known = published.Published("alexnet.pth", digests["sha256"][:8], ("alexnet", "torchvision"), "torchvision", None)
    monkeypatch.setattr(published, "PUBLISHED", (known,))
    made = plan(tmp_path / "weights.pth", {"dataset.classes": 1000}, "drop")
    assert made.known == known
    assert (made.config.model.name, made.config.dataset.image_size) == ("alexnet", 224)
    assert made.config.dataset.class_names is None  # a new head knows no class yet
    assert made.preprocessing == "torchvision has it"
    assert made.config.evaluate.batch_size == 50
    for keys, preprocessing, message in (
        ({}, "keras", r"--preprocessing=keras: the published alexnet.pth takes torchvision"),
        ({"dataset.mean": (0.5, 0.5, 0.5)}, None, r"config.dataset.mean=\(0.5, .*: the published alexnet.pth has"),
    ):
        with pytest.raises(UserError, match=message):
            plan(tmp_path / "weights.pth", {"dataset.classes": 1000} | keys, "drop", preprocessing)
    with pytest.raises(UserError, match=r"config\.model\.name=vgg16: the published alexnet\.pth has alexnet"):
        plan(tmp_path / "weights.pth", {"dataset.classes": 1000, "model.name": "vgg16"}, "drop")


def test_a_published_file_without_a_classifier_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_writer.write(tmp_path / "weights.pth", {"features.0.bias": drawn(64)}, "{}")
    digest = published.digests(tmp_path / "weights.pth")["sha256"]
    known = published.Published("f.pth", digest, ("vgg16", "D"), "torchvision_features", None, "drop_dense")
    monkeypatch.setattr(published, "PUBLISHED", (known,))
    with pytest.raises(UserError, match=r"is the published f.pth, whose dense .*; --head=drop_dense --config.dataset"):
        plan(tmp_path / "weights.pth", {})
    made = plan(tmp_path / "weights.pth", {"dataset.classes": 3}, "drop_dense")
    assert made.match.fresh == ["fc6", "fc7", "fc8"]
    assert made.config.dataset.mean == (0.48235, 0.45882, 0.40784)


def test_our_own_file_may_lose_its_head_or_get_other_class_names(tmp_path: Path) -> None:
    run = RunFolder(fresh_run(tmp_path / "run", "lenet5", "modern", 32, classes=4))
    exporting.export(run, "torch", tmp_path / "net.pth")
    assert plan(tmp_path / "net.pth", {"dataset.classes": 7}, "drop").match.fresh == ["output"]
    made = plan(tmp_path / "net.pth", {"dataset.class_names": ("a", "b", "c", "d")})
    assert made.config.dataset.class_names == ("a", "b", "c", "d")
    with pytest.raises(UserError, match=r"config.model.hidden=\(3,\): net.pth has \(120, 84\)"):
        plan(tmp_path / "net.pth", {"model.hidden": (3,)})


def test_the_table_of_published_files_is_sound() -> None:
    digests = [known.digest for known in published.PUBLISHED]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} <= {8, 32, 64}
    assert all(set(digest) <= set("0123456789abcdef") for digest in digests)
    for known in published.PUBLISHED:
        if len(known.digest) == 8:  # torch.hub takes the digits from the name
            assert f"-{known.digest}.pth" in known.name
        assert known.preprocessing in published.PREPROCESSINGS
    # torchvision's _presets.py and Keras's imagenet_utils.py.
    assert published.PREPROCESSINGS["torchvision"]["mean"] == (0.485, 0.456, 0.406)
    assert np.multiply(published.PREPROCESSINGS["keras"]["mean"], 255) == pytest.approx((123.68, 116.779, 103.939))


def test_imagenets_classes_are_in_the_common_order(real_data: Path) -> None:
    """Keras's imagenet_class_index.json has them all."""
    index = json.loads((real_data / "imagenet_index" / "imagenet_class_index.json").read_text())
    named = published.class_names("imagenet")
    assert list(named["class_names"]) == [index[str(place)][1].replace("_", " ") for place in range(1000)]
    assert list(named["class_ids"]) == [index[str(place)][0] for place in range(1000)]


def test_class_names_come_from_a_file_with_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ant\nbee or wasp\n")
    assert published.class_names(str(tmp_path / "names.txt")) == {"class_names": ("ant", "bee or wasp")}
    with pytest.raises(UserError, match=r"--class_names=none.txt: cannot be read"):
        published.class_names("none.txt")


@pytest.mark.parametrize("order", [("begin", "middle", "nearly", "over"), ("a", "z", "b", "c")])
def test_an_order_that_nobody_knows_is_refused(order: tuple[str, ...], tmp_path: Path) -> None:
    widths = (64, 32, 32, 32, 10)
    tensors = {
        f"{name}.weight": drawn(after, before) for name, before, after in zip(order, widths, widths[1:], strict=False)
    }
    keys = GRAY | {"model.name": "mlp", "model.activation": "relu", "dataset.image_size": 8, "dataset.channels": 1}
    with pytest.raises(UserError, match=r"which of its layers comes first is not known: .*; save it as .pth"):
        plan(saved(tmp_path, tensors), keys)
    torch_writer.write(tmp_path / "net.pth", tensors, "{}")
    _, params, _ = importing.read(plan(tmp_path / "net.pth", keys))
    for place, name in enumerate(order[:-1], start=1):
        np.testing.assert_array_equal(params[f"hidden{place}"]["kernel"], tensors[f"{name}.weight"].T)


def test_another_classifier_than_the_tables_can_be_left_out(tmp_path: Path) -> None:
    """VGG-11's convolutions under torchvision's names, and one dense layer behind them, as people have on CIFAR."""
    channels, tensors = 3, {}
    for place, width in zip((0, 3, 6, 8, 11, 13, 16, 18), (64, 128, 256, 256, 512, 512, 512, 512), strict=True):
        tensors |= {f"features.{place}.weight": drawn(width, channels, 3, 3), f"features.{place}.bias": drawn(width)}
        channels = width
    tensors |= {"classifier.weight": drawn(10, 512), "classifier.bias": drawn(10)}
    path = saved(tmp_path, tensors)
    keys = {"model.name": "vgg11", "dataset.classes": 2, "dataset.image_size": 32}
    made = plan(path, keys, "drop_dense", "torchvision")
    assert made.match.fresh == ["fc6", "fc7", "fc8"]
    assert {tensor.name for tensor in made.match.left_out} == {"classifier.weight", "classifier.bias"}
    assert not made.match.problems


@pytest.mark.parametrize("head", ["keep", "drop", "drop_dense"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_graph_that_does_something_else_is_refused_with_or_without_its_head(
    stride: int, head: str, tmp_path: Path
) -> None:
    side = 28 // stride
    nodes = [
        onnx.helper.make_node("Conv", ["x", "k"], ["c"], strides=[stride] * 2, pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["c"], ["r"]),
        onnx.helper.make_node("Flatten", ["r"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    arrays = {"k": drawn(4, 1, 3, 3), "w": drawn(4 * side**2, 10)}
    values = [
        onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 1, 28, 28]), ("y", [1, 10]))
    ]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "net", values[:1], values[1:], weights)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "net.onnx")
    keys = {key: value for key, value in GRAY.items() if key != "dataset.image_size"} | {"model.name": "lenet5"}
    keys |= {} if head == "keep" else {"dataset.classes": 3}
    if stride == 1:
        assert plan(tmp_path / "net.onnx", keys, head).config.model.padding == (1,)
    else:
        with pytest.raises(UserError, match=r"is not lenet5 modern: its step 1 is convolution to 14x14x4 \(.*stride"):
            plan(tmp_path / "net.onnx", keys, head)


def test_a_stated_depth_says_that_the_file_has_no_head(tmp_path: Path) -> None:
    tensors = mnist_example()
    del tensors["fc2.weight"], tensors["fc2.bias"]
    path = saved(tmp_path, tensors)
    made = plan(path, EVERYTHING | {"dataset.classes": 3, "model.hidden": (128,)}, "drop")
    assert made.match.fresh == ["output"]
    assert not made.match.problems
    np.testing.assert_array_equal(importing.read(made)[1]["C4"]["bias"], tensors["fc1.bias"])


def test_a_network_with_other_layers_is_refused(tmp_path: Path) -> None:
    keys = GRAY | {"model.name": "lenet5", "model.variant": "1998", "dataset.image_size": 32}
    with pytest.raises(UserError, match=r"stage S2: no other format has a layer like it \(Subsampling\)"):
        plan(saved(tmp_path, mnist_example()), keys)


def test_what_another_version_states_is_named() -> None:
    said = Statements(base.get_config(), [])
    with pytest.raises(UserError, match=r"net.pth states config.model.newer, which this version does not have; export"):
        said.add({"model.newer": 1}, "net.pth")
    with pytest.raises(UserError, match=r"net.pth: config.dataset.image_size cannot be 'large'; export it again"):
        said.add({"dataset.image_size": "large"}, "net.pth")


def test_layers_that_differ_in_what_ours_have_once_are_named() -> None:
    steps = Operations((8, 8, 1))
    for kind in ("relu", "tanh"):
        steps.append(Operation(kind, (8, 8, 1)))
    with pytest.raises(UserError, match=r"net.onnx: has more than one activation: relu, tanh; our networks have one"):
        small_network(steps, "net.onnx")


def test_a_file_that_claims_more_than_the_memory_is_named() -> None:
    claims = pytest.raises(
        UserError, match=r"net.pth: claims more than the memory there is; it is damaged, or no PyTorch"
    )
    with claims, reading(Path("net.pth"), "PyTorch"):
        raise MemoryError
