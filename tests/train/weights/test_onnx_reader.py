"""ONNX graphs as exporters write them: what they do, step by step, what they hold, and what is refused by its node."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import little_memory
from tests.train.weights.test_torch_reader import every, read_all, refused
from train.weights.opening import open_weights

RANDOM = np.random.default_rng(0)
KERNEL, BIAS = RANDOM.normal(size=(4, 1, 3, 3)).astype(np.float32), RANDOM.normal(size=4).astype(np.float32)
DENSE, UNITS = RANDOM.normal(size=(3, 36)).astype(np.float32), RANDOM.normal(size=3).astype(np.float32)
CONV = helper.make_node("Conv", ["x", "c.weight", "c.bias"], ["c"], name="/c/Conv", kernel_shape=[3, 3])
POOL = helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
RELU = helper.make_node("Relu", ["c"], ["r"])
FLATTEN = helper.make_node("Flatten", ["p"], ["f"])
GEMM = helper.make_node("Gemm", ["f", "d.weight", "d.bias"], ["y"], transB=1)
CONSTANTS = {"c.weight": KERNEL, "c.bias": BIAS, "d.weight": DENSE, "d.bias": UNITS}
LENET = [CONV, RELU, POOL, FLATTEN, GEMM]


def model(
    nodes: list[Any], constants: dict[str, np.ndarray], sides: tuple[Any, ...] = (1, 1, 8, 8), opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def saved(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def steps(path: Path, image_size: int | None = None) -> list[str]:
    """What the graph does, as people would say it, without details."""
    operations = open_weights(path, image_size).operations
    assert operations is not None
    return [f"{step.kind} {'x'.join(map(str, step.shape))}" for step in operations]


def windows(path: Path, step: int = 0) -> dict[str, Any]:
    operations = open_weights(path).operations
    assert operations is not None
    return dict(operations[step].details)


STEPS = ["convolution 6x6x4", "relu 6x6x4", "max_pool 3x3x4", "dense 3"]


def check_lenet(path: Path) -> None:
    """It is the network of LENET with its weights, whatever their names."""
    file = open_weights(path)
    assert steps(path) == STEPS
    assert file.states == {"dataset.image_size": 8, "dataset.channels": 1}
    assert [list(tensors) for tensors in file.layers.values()] == [["kernel", "bias"]] * 2
    arrays = [each.read() for each in every(file).values()]
    for array, wanted in zip(arrays, CONSTANTS.values(), strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_a_graph_as_pytorch_exports_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", model(LENET, CONSTANTS, ("batch", 1, 8, 8)))
    check_lenet(path)
    assert list(open_weights(path).layers) == ["c", "d"]


def test_constants_may_be_nodes_or_inputs_too(tmp_path: Path) -> None:
    made = model(LENET, CONSTANTS)
    made.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in CONSTANTS.items()
    )
    check_lenet(saved(tmp_path / "inputs.onnx", made))
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in CONSTANTS.items()
    ]
    check_lenet(saved(tmp_path / "nodes.onnx", model(nodes + LENET, {})))
    listed = [helper.make_node("Constant", [], ["d.bias"], value_floats=UNITS.tolist())]
    rest = {name: array for name, array in CONSTANTS.items() if name != "d.bias"}
    path = saved(tmp_path / "listed.onnx", model(listed + LENET, rest))
    np.testing.assert_allclose(read_all(path)["d.bias"], UNITS, rtol=1e-7)


def test_dense_layers_are_written_in_four_ways(tmp_path: Path) -> None:
    add = helper.make_node("Add", ["m", "d.bias"], ["y"])
    flipped = helper.make_node("Add", ["d.bias", "m"], ["y"])
    product = helper.make_node("MatMul", ["f", "d.weight"], ["m"])
    transposed = CONSTANTS | {"d.weight": np.ascontiguousarray(DENSE.T)}
    folded = [helper.make_node("Transpose", ["d.weight"], ["t"], perm=[1, 0]), product]
    folded[1] = helper.make_node("MatMul", ["f", "t"], ["m"])
    ways = {
        "gemm": ([helper.make_node("Gemm", ["f", "d.weight", "d.bias"], ["y"])], transposed),
        "matmul": ([product, add], transposed),
        "flipped": ([product, flipped], transposed | {"d.bias": UNITS.reshape(1, 3)}),
        "folded": ([*folded, add], CONSTANTS),
    }
    for name, (nodes, constants) in ways.items():
        check_lenet(saved(tmp_path / f"{name}.onnx", model([*LENET[:-1], *nodes], constants)))


def test_a_convolutions_bias_may_be_added_behind_it(tmp_path: Path) -> None:
    bare = helper.make_node("Conv", ["x", "c.weight"], ["b"])
    for shape, more in (((4, 1, 1), {}), ((1, 4, 1, 1), {}), ((4,), {"axis": 1, "broadcast": 1})):
        add = helper.make_node("Add", ["b", "c.bias"], ["c"], **more)
        constants = CONSTANTS | {"c.bias": BIAS.reshape(shape)}
        check_lenet(saved(tmp_path / "net.onnx", model([bare, add, *LENET[1:]], constants)))
    # Numbers along the last axis, here the columns of 4 x 4 maps, are no bias.
    add = helper.make_node("Add", ["b", "c.bias"], ["y"])
    path = saved(tmp_path / "net.onnx", model([bare, add], CONSTANTS, (1, 1, 6, 6)))
    assert refused(path).endswith("node Add 'y' adds (4,) to (4, 4, 4)")


@pytest.mark.parametrize("how", ["flatten", "minus", "sizes", "attribute", "one", "shape"])
def test_maps_are_flattened_in_many_ways(how: str, tmp_path: Path) -> None:
    target = {"minus": [-1, 36], "sizes": [0, -1], "one": [1, 36]}.get(how, [])
    nodes = {
        "flatten": [FLATTEN],
        "attribute": [helper.make_node("Reshape", ["p"], ["f"], shape=[1, 36])],  # of the first opsets
        # x.view(x.size(0), -1) with any batch
        "shape": [
            helper.make_node("Shape", ["p"], ["s"]),
            helper.make_node("Constant", [], ["zero"], value_int=0),
            helper.make_node("Gather", ["s", "zero"], ["batch"], axis=0),
            helper.make_node("Constant", [], ["axes"], value_ints=[0]),
            helper.make_node("Unsqueeze", ["batch", "axes"], ["first"]),
            helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
            helper.make_node("Concat", ["first", "rest"], ["t"], axis=0),
            helper.make_node("Reshape", ["p", "t"], ["f"]),
        ],
    }.get(how, [helper.make_node("Reshape", ["p", "t"], ["f"])])
    constants = CONSTANTS | ({"t": np.array(target)} if target else {})
    path = saved(tmp_path / "net.onnx", model([*LENET[:3], *nodes, GEMM], constants))
    assert steps(path) == STEPS


def test_what_does_nothing_outside_of_training_is_left_out(tmp_path: Path) -> None:
    def between(kind: str, start: str, end: str, **attributes: Any) -> Any:
        return helper.make_node(kind, [start], [end], **attributes)

    nodes = [
        between("Cast", "x", "float", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "same", "c.bias"], ["c1"]),
        helper.make_node("Identity", ["c.weight"], ["same"]),
        between("Identity", "c1", "c"),
        *LENET[1:3],
        helper.make_node("Dropout", ["p"], ["q", "mask"]),
        between("AveragePool", "q", "a", kernel_shape=[1, 1]),
        between("Flatten", "a", "f"),
        helper.make_node("Gemm", ["f", "d.weight", "d.bias"], ["logits"], transB=1),
        between("Softmax", "logits", "s"),
        between("Identity", "s", "y"),
    ]
    nodes[1], nodes[2] = nodes[2], nodes[1]
    check_lenet(saved(tmp_path / "net.onnx", model(nodes, CONSTANTS)))


def test_batch_norms_epsilon_is_made_up_for_in_the_variance(tmp_path: Path) -> None:
    four = {f"bn.{name}": np.full(4, value, np.float32) for name, value in (("weight", 2), ("bias", 3), ("m", 4))}
    four["bn.v"] = np.array([1e-4, 0.5, 1, 2], np.float32)
    for epsilon in (1e-5, 1e-3, 1e-8):
        norm = helper.make_node("BatchNormalization", ["c", *four], ["r"], epsilon=epsilon)
        path = saved(tmp_path / "net.onnx", model([CONV, norm, *LENET[2:]], CONSTANTS | four))
        assert steps(path)[1] == "batch_norm 6x6x4"
        layer = open_weights(path).layers["bn"]
        assert list(layer) == ["scale", "bias", "mean", "var"]
        # Ours divides by the root of variance + 1e-5.
        np.testing.assert_allclose(layer["var"].read() + 1e-5, four["bn.v"] + epsilon, rtol=1e-6)
    training = helper.make_node("BatchNormalization", ["c", *four], ["r"], training_mode=1)
    line = refused(saved(tmp_path / "net.onnx", model([CONV, training, *LENET[2:]], CONSTANTS | four)))
    assert ": node BatchNormalization 'r' is as in training; export" in line


@pytest.mark.parametrize(
    ("attributes", "shape", "padding"),
    [
        ({}, (5, 5), (0, 0)),
        ({"auto_pad": "VALID"}, (5, 5), (0, 0)),
        ({"pads": [1, 1, 1, 1]}, (7, 7), (1, 1)),
        ({"pads": [0, 1, 1, 2], "strides": [2, 1]}, (3, 8), (0, 1)),
        ({"auto_pad": "SAME_UPPER"}, (7, 7), (1, 1)),
        ({"auto_pad": "SAME_UPPER", "strides": [3, 3], "kernel_shape": [4, 4]}, (3, 3), (1, 1)),
        ({"auto_pad": "SAME_LOWER", "strides": [3, 3], "kernel_shape": [4, 4]}, (3, 3), (2, 2)),
        ({"dilations": [2, 2]}, (3, 3), (0, 0)),
        ({"strides": [3, 3]}, (2, 2), (0, 0)),
        ({"strides": [3, 3], "ceil_mode": 1}, (3, 3), (0, 0)),
        ({"ceil_mode": 0, "strides": [3, 3]}, (2, 2), (0, 0)),
    ],
    ids=str,
)
def test_pooling_windows_are_as_the_standard_has_them(
    attributes: dict[str, Any], shape: tuple[int, int], padding: tuple[int, int], tmp_path: Path
) -> None:
    # Shapes from ONNX's formulas for MaxPool on maps of 7 x 7, worked out by hand.
    node = helper.make_node("MaxPool", ["c"], ["r"], **({"kernel_shape": [3, 3]} | attributes))
    path = saved(tmp_path / "net.onnx", model([CONV, node], CONSTANTS, (1, 1, 9, 9)))
    assert steps(path)[1] == f"max_pool {shape[0]}x{shape[1]}x4"
    assert windows(path, 1)["padding before"] == padding


def test_local_response_norm_has_the_standards_defaults(tmp_path: Path) -> None:
    for given, wanted in (({}, (1e-4, 0.75, 1.0)), ({"alpha": 5e-4, "beta": 0.5, "bias": 2.0}, (5e-4, 0.5, 2.0))):
        node = helper.make_node("LRN", ["c"], ["r"], size=5, **given)
        details = windows(saved(tmp_path / "net.onnx", model([CONV, node], CONSTANTS)), 1)
        assert details["size"] == 5
        assert (details["alpha"], details["beta"], details["k"]) == pytest.approx(wanted)


def test_groups_and_images_of_any_size(tmp_path: Path) -> None:
    constants = {"w": np.zeros((6, 1, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=3)
    path = saved(tmp_path / "net.onnx", model([node], constants, ("b", 3, "h", "w")))
    assert steps(path, image_size=8) == ["convolution 6x6x6"]
    assert "--config.dataset.image_size says how large, as the file does not" in refused(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_precisions(dtype: type, tmp_path: Path) -> None:
    constants = {name: array.astype(dtype) for name, array in CONSTANTS.items()}
    back = read_all(saved(tmp_path / "net.onnx", model(LENET, constants)))
    for name, array in constants.items():
        np.testing.assert_array_equal(back[name], array)
    line = refused(saved(tmp_path / "net.onnx", model(LENET, CONSTANTS | {"c.weight": KERNEL.astype(np.int8)})))
    assert line.startswith("c.weight holds int8")


def behind(kind: str, *constants: str, output: str = "r", **attributes: Any) -> Any:
    return helper.make_node(kind, ["c", *constants], [output], name="it", **attributes)


def scaled(by: float) -> list[Any]:
    value = numpy_helper.from_array(np.float32(by))
    return [CONV, helper.make_node("Constant", [], ["by"], value=value), behind("Mul", "by")]


def columns(shares: np.ndarray) -> list[Any]:
    """Six columns of maps become two, by the shares that each has in them."""
    value = numpy_helper.from_array(shares.astype(np.float32))
    return [CONV, helper.make_node("Constant", [], ["shares"], value=value), behind("MatMul", "shares")]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([CONV, behind("Sigmoid")], "node Sigmoid 'it' is none of what LeNet-5, AlexNet and VGG do"),
        ([CONV, behind("LeakyRelu", alpha=0.1)], "node LeakyRelu 'it' is none of what"),
        ([CONV, behind("Add", "c")], "node Add 'it' is none of what"),
        ([CONV, RELU, helper.make_node("Add", ["r", "c"], ["y"], name="it")], "node Add 'it' is none of what"),
        ([CONV, helper.make_node("Relu", ["x"], ["y"], name="it")], "node Relu 'it' is not on the path from the image"),
        ([CONV, behind("GlobalAveragePool")], "node GlobalAveragePool 'it' is none of what"),
        ([CONV, behind("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1])], "'it' averages over padding"),
        ([CONV, behind("MaxPool", kernel_shape=[2])], "'it' has a window of 1 dimensions on maps of (6, 6, 4)"),
        ([CONV, behind("Flatten", axis=2)], "'it' must flatten all of an image"),
        ([CONV, behind("Reshape", shape=[4, 36])], "'it' must flatten all of an image"),
        ([CONV, behind("Cast", to=TensorProto.INT8)], "node Cast 'it' is none of what"),
        ([CONV, behind("Softmax", output="s"), helper.make_node("Relu", ["s"], ["y"])], "stands behind a softmax"),
        ([CONV, behind("FusedRelu", domain="com.microsoft")], "'it' is of com.microsoft, not of ONNX"),
        ([CONV, behind("Relu", domain="net\nwork")], r"'it' is of net\nwork, not of ONNX"),
        ([CONV, behind("Conv", "nowhere")], "'nowhere' is no constant; a network's weights must be in the file"),
        ([*LENET[:4], helper.make_node("Gemm", ["f", "d.weight"], ["y"], name="it")], "has a kernel (36, 3) for"),
        ([*LENET[:4], helper.make_node("Gemm", ["f", "d.weight"], ["y"], alpha=2.0)], "transposes or scales"),
        ([*LENET[:4], helper.make_node("MatMul", ["d.weight", "f"], ["y"])], "has the image on its right"),
        ([helper.make_node("Constant", [], ["t"], value_string=b"text"), *LENET], "has a value_string, not an array"),
        ([CONV, behind("Conv", "c.weight", output="y", auto_pad="SAME_UPPER", strides=[0, 1])], "is it whole?"),
        ([CONV, behind("MaxPool")], "it has no 'kernel_shape'"),
        (scaled(2.0), "node Mul 'it' multiplies by what none of LeNet-5, AlexNet and VGG does"),
        ([*scaled(2 / 3), helper.make_node("Relu", ["r"], ["y"], name="then")], "node Relu 'then' must be Tanh behind"),
        (columns(np.full((6, 2), 1 / 3, np.float32)), "multiplies maps by what is no average of them"),
        (
            columns(np.kron(np.eye(2), np.ones((3, 1)) / 3)),
            "'it' averages columns, and the node before it not the rows",
        ),
        ([CONV, behind("LRN")], "it has no 'size'"),
    ],
)
def test_what_none_of_our_networks_does_is_refused_by_its_node(nodes: list[Any], words: str, tmp_path: Path) -> None:
    assert words in refused(saved(tmp_path / "net.onnx", model(nodes, CONSTANTS)))


@pytest.mark.parametrize("sides", [(1, 1, 8), (1, 1, 8, 9), (1, 2, 8, 8), (1, 1, -8, -8), (1, 1, 0, 0), (1, "c", 8, 8)])
def test_what_takes_no_images_is_refused(sides: tuple[Any, ...], tmp_path: Path) -> None:
    assert refused(saved(tmp_path / "net.onnx", model(LENET, CONSTANTS, sides))).startswith("takes ")


def test_two_inputs_and_no_graph_are_refused(tmp_path: Path) -> None:
    rest = {name: array for name, array in CONSTANTS.items() if name != "d.bias"}
    made = model(LENET, rest)
    made.graph.input.append(helper.make_tensor_value_info("d.bias", TensorProto.FLOAT, [3]))
    assert "takes 2 inputs" in refused(saved(tmp_path / "net.onnx", made))
    assert (
        refused(saved(tmp_path / "net.onnx", onnx.ModelProto(ir_version=8))) == "holds no ONNX graph; export it again"
    )


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="c.weight", data_type=TensorProto.FLOAT, dims=KERNEL.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["../../../../etc/passwd", "/etc/passwd", "net.onnx", "net.onnx.data"])
def test_weights_in_another_file_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.data").write_bytes(KERNEL.tobytes())
    for as_node in (False, True):
        made = model(LENET, {name: array for name, array in CONSTANTS.items() if name != "c.weight"})
        if as_node:
            made.graph.node.insert(0, helper.make_node("Constant", [], ["c.weight"], value=external(location)))
        else:
            made.graph.initializer.append(external(location))
        line = refused(saved(tmp_path / "net.onnx", made))
        assert line == "has 'c.weight' in another file; save it with its data inside"


@pytest.mark.parametrize("dims", [(10**6, 10**6), (10**6, 1, 10**3, 10**3), (2**62, 4), (-4, -9), (0, 4), (4, 1, 3, 4)])
def test_claims_of_what_is_not_there_are_one_line_and_no_memory(dims: tuple[int, ...], tmp_path: Path) -> None:
    raw = TensorProto(name="c.weight", data_type=TensorProto.FLOAT, dims=dims, raw_data=KERNEL.tobytes()[:-4])
    typed = TensorProto(name="c.weight", data_type=TensorProto.FLOAT, dims=dims, float_data=KERNEL.ravel()[:-1])
    for claimed in (raw, typed):
        made = model(LENET, {name: array for name, array in CONSTANTS.items() if name != "c.weight"})
        made.graph.initializer.append(claimed)
        path = saved(tmp_path / "net.onnx", made)
        with little_memory(2**21):
            assert "'c.weight' claims" in refused(path)


def test_claims_of_large_images_take_no_memory(tmp_path: Path) -> None:
    rows = helper.make_node("MatMul", ["rows", "x"], ["a"])
    path = saved(
        tmp_path / "net.onnx", model([rows, *LENET], {"rows": np.ones((6, 3), np.float32)}, (1, 1, 10**9, 10**9))
    )
    with little_memory(2**21):
        assert "multiplies maps by what is no average of them" in refused(path)


@pytest.mark.parametrize("kind", ["Concat", "Gather", "Reshape"])
def test_constants_that_grow_from_node_to_node_take_no_memory(kind: str, tmp_path: Path) -> None:
    nodes = {
        "Concat": [helper.make_node("Concat", [f"k{n}"] * 2, [f"k{n + 1}"], axis=0) for n in range(40)],  # 2**40 times
        "Gather": [helper.make_node("Gather", ["k0", "indices"], ["k1"], axis=0)],  # 100,000 times
        "Reshape": [
            helper.make_node(
                "Transpose" if n % 2 else "Reshape", [f"k{n}"], [f"k{n + 1}"], **({} if n % 2 else {"shape": [50, 20]})
            )
            for n in range(5000)
        ],
    }[kind]
    constants = CONSTANTS | {"k0": np.ones((10, 100), np.float32), "indices": np.zeros(10**5, np.int64)}
    path = saved(tmp_path / "net.onnx", model([*nodes, *LENET], constants))
    with little_memory(2**24):
        line = refused(path)
    assert "is not on the path" in line or "its nodes make more of its constants than it holds" in line


def test_names_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    strange = helper.make_node("Conv", ["x", "a\nb"], ["y"])
    assert "'a\\nb' is no name of a layer" in refused(saved(tmp_path / "net.onnx", model([strange], {"a\nb": KERNEL})))


def test_our_own_file_says_what_it_is_of(tmp_path: Path) -> None:
    made = model(LENET, CONSTANTS)
    helper.set_model_props(made, {"oldmasters.json": json.dumps({"model.name": "lenet5", "dataset.image_size": 8})})
    states = open_weights(saved(tmp_path / "net.onnx", made)).states
    assert states == {"model.name": "lenet5", "dataset.image_size": 8, "dataset.channels": 1}


def test_the_published_model_of_the_first_opset(real_data: Path) -> None:
    path = real_data / "onnx_mnist" / "model.onnx"
    assert steps(path) == [
        *("convolution 28x28x8", "relu 28x28x8", "max_pool 14x14x8"),
        *("convolution 14x14x16", "relu 14x14x16", "max_pool 4x4x16", "dense 10"),
    ]
    file = open_weights(path)
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "Constant"]  # where its weights are
    weights = {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in nodes}
    shapes = [tuple(tensor.shape for tensor in layer.values()) for layer in file.layers.values()]
    assert shapes == [((8, 1, 5, 5), (8,)), ((16, 8, 5, 5), (16,)), ((10, 256), (10,))]
    head = file.layers["Parameter193_reshape1"]["kernel"].read()
    np.testing.assert_array_equal(head, weights["Parameter193"].reshape(256, 10).T)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["flatten", "view", "reshape", "view_minus_one"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_what_pytorch_exports(how: str, dynamic: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')

    class Net(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(36, 3)

        def forward(self, x: Any) -> Any:
            x = torch.nn.functional.max_pool2d(torch.relu(self.c(x)), 2)
            ways = {
                "flatten": lambda: torch.flatten(x, 1),
                "view": lambda: x.view(x.size(0), -1),
                "reshape": lambda: x.reshape(x.shape[0], -1),
                "view_minus_one": lambda: x.view(-1, 36),
            }
            return torch.log_softmax(self.d(torch.dropout(ways[how](), 0.5, False)), 1)

    net, path = Net().eval(), tmp_path / "net.onnx"
    axes = {"dynamic_axes": {"x": {0: "batch"}}} if dynamic else {}
    images = torch.zeros(2, 1, 8, 8)
    # The exporter that needs no further package.
    torch.onnx.export(net, (images,), str(path), input_names=["x"], dynamo=False, **axes)
    assert steps(path) == STEPS
    back = read_all(path)
    assert back.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(back[name], tensor.numpy())
