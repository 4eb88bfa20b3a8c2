"""Files of torch.save, made by hand and by PyTorch: what their tensors are, and what is refused in one line."""

import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.conftest import little_memory
from tests.train.weights.test_pickles import RUNS, program, storage, table, tensor, text
from train.errors import UserError
from train.weights import torch_writer
from train.weights.file import Tensor, WeightsFile
from train.weights.opening import open_weights
from train.weights.torch_reader import MAGIC, PROTOCOL

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.bool_): "BoolStorage",
}
WHOLE = np.arange(40, dtype=np.float32).reshape(4, 10)


def of_array(key: str, array: np.ndarray) -> tuple[bytes, bytes]:
    """The operations that rebuild a NumPy array, and its storage: all of the array that it is a view of."""
    whole = array
    while whole.base is not None:
        whole = whole.base
    first = (array.ctypes.data - whole.ctypes.data) // array.itemsize
    strides = tuple(stride // array.itemsize for stride in array.strides)
    of = storage(key, whole.size, STORAGES[array.dtype])
    return tensor(array.shape, strides, first, of=of), whole.tobytes()


def zip_file(path: Path, data: bytes, storages: Mapping[str, bytes], **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
        for key, content in storages.items():
            archive.writestr(f"net/data/{key}", content)
        for entry, content in entries.items():
            archive.writestr(f"net/{entry}", content)
    return path


def legacy_file(path: Path, data: bytes, storages: Mapping[str, bytes], itemsize: int = 4, **machine: object) -> Path:
    head = [MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True} | machine]
    parts = [*(pickle.dumps(value, 2) for value in head), data, pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", len(content) // itemsize) + content for content in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def saved(path: Path, arrays: Mapping[str, np.ndarray], legacy: bool = False) -> Path:
    """Save arrays as torch.save does."""
    made = {key: of_array(str(place), array) for place, (key, array) in enumerate(arrays.items())}
    data = program(table({key: operations for key, (operations, _) in made.items()}))
    storages = {str(place): content for place, (_, content) in enumerate(made.values())}
    itemsize = next(iter(arrays.values())).itemsize
    return legacy_file(path, data, storages, itemsize) if legacy else zip_file(path, data, storages)


def every(file: WeightsFile) -> dict[str, Tensor]:
    """The tensors of a file by their names."""
    tensors = [*(each for layer in file.layers.values() for each in layer.values()), *file.others, *file.ignored]
    return {each.name: each for each in tensors}


def read_all(path: Path) -> dict[str, np.ndarray]:
    return {each.name: each.read() for each in every(open_weights(path)).values()}


def refused(path: Path) -> str:
    """The line that reading a file ends in, without the file's name."""
    with pytest.raises(UserError) as error:
        read_all(path)
    line = str(error.value)
    assert line.isprintable()
    assert len(line) < 1500
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


@pytest.fixture(params=["zip", "legacy"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Mapping[str, np.ndarray]], Path]:
    return lambda arrays: saved(tmp_path / "net.pth", arrays, legacy=request.param == "legacy")


Save = Callable[[Mapping[str, np.ndarray]], Path]


@pytest.mark.parametrize(
    "array",
    [
        WHOLE,
        WHOLE.T,
        WHOLE[1:, 2:6],
        WHOLE[::2, ::3],
        WHOLE[3:4],
        WHOLE[2, 5:6],
        WHOLE.reshape(2, 2, 5, 2).transpose(3, 0, 2, 1),
        np.broadcast_to(WHOLE[:1], (7, 10)),
        np.broadcast_to(WHOLE[1, 1], (3, 4)),
        np.array(3, np.float32),
        np.zeros((0, 3), np.float32),
        WHOLE.astype(np.float16),
        WHOLE.astype(np.float64) / 3,
        WHOLE.astype(ml_dtypes.bfloat16),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}-{array.strides}",
)
def test_a_tensor_is_the_view_that_numpy_has(array: np.ndarray, save: Save) -> None:
    back = every(open_weights(save({"fc.weight": array})))["fc.weight"]
    assert back.shape == array.shape
    assert back.read().dtype == array.dtype
    np.testing.assert_array_equal(back.read(), array)


def test_layers_come_in_the_files_order_with_what_their_tensors_are(save: Save) -> None:
    ones = np.ones(2, np.float32)
    norm = {"10.weight": ones, "10.bias": ones, "10.running_mean": ones, "10.running_var": ones}
    rest = {"2.weight": WHOLE, "2.bias": ones, "norm.weight": ones, "scale": ones, "a.b.c.weight": WHOLE}
    file = open_weights(save(norm | rest))
    leaves = {layer: list(tensors) for layer, tensors in file.layers.items()}
    four = ["scale", "bias", "mean", "var"]
    assert leaves == {"10": four, "2": ["kernel", "bias"], "norm": ["scale"], "a.b.c": ["kernel"]}
    assert list(leaves) == ["10", "2", "norm", "a.b.c"]
    assert [each.name for each in file.others] == ["scale"]


def test_counters_are_not_read_and_other_integers_refused(save: Save) -> None:
    counter = {"1.num_batches_tracked": np.array(3, np.int64)}
    assert [each.name for each in open_weights(save(counter)).ignored] == ["1.num_batches_tracked"]
    for dtype in (np.int8, np.bool_):
        line = refused(save({"fc.weight": WHOLE.astype(dtype)}))
        assert line == f"fc.weight holds {np.dtype(dtype)}; save it as floating-point numbers"


def test_tensors_share_a_storage(tmp_path: Path) -> None:
    of = storage("0", 40)
    views = {"a.weight": tensor((4, 10), (10, 1), of=of), "b.weight": tensor((10, 4), (1, 10), of=of)}
    for make in (zip_file, legacy_file):
        tensors = every(open_weights(make(tmp_path / "net.pth", program(table(views)), {"0": WHOLE.tobytes()})))
        np.testing.assert_array_equal(tensors["a.weight"].read(), WHOLE)
        np.testing.assert_array_equal(tensors["b.weight"].read(), WHOLE.T)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_wrappers_prefixes_go(prefix: str, save: Save) -> None:
    names = ["features.0.weight", "module.weight"]
    assert list(every(open_weights(save({prefix + each: WHOLE for each in names})))) == names
    assert list(every(open_weights(save({prefix + "a.weight": WHOLE, "b.weight": WHOLE})))) == [
        prefix + "a.weight",
        "b.weight",
    ]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_a_checkpoints_table_is_found_beside_other_tensors(key: str, tmp_path: Path) -> None:
    arrays = {"0": WHOLE, "1": WHOLE + 1, "2": np.array(0.5, np.float32)}
    weights, moment, accuracy = (of_array(place, array)[0] for place, array in arrays.items())
    storages = {place: array.tobytes() for place, array in arrays.items()}
    tables = {key: table({"fc.weight": weights}), "optimizer": table({"moment": moment})}
    data = program(table({"epoch": b"K\x05", "best_acc1": accuracy} | tables))
    for make in (zip_file, legacy_file):
        tensors = every(open_weights(make(tmp_path / "net.pth", data, storages)))
        assert list(tensors) == ["fc.weight"]
        np.testing.assert_array_equal(tensors["fc.weight"].read(), WHOLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (table({}), "holds no table of tensors; save model.state_dict() from PyTorch"),
        (table({"epoch": b"K\x05", "w": b"N"}), "holds no table of tensors (but epoch, w); save model.state_dict()"),
        (b"]", "holds no table of tensors; save"),
        (of_array("0", WHOLE)[0], "holds no table of tensors; save"),
    ],
)
def test_no_table_of_tensors_is_said(value: bytes, words: str, tmp_path: Path) -> None:
    for make in (zip_file, legacy_file):
        assert words in refused(make(tmp_path / "net.pth", program(value), {"0": WHOLE.tobytes()}))


def test_our_own_file_says_what_it_is_of(tmp_path: Path) -> None:
    arrays = {"features.0.weight": WHOLE, "features.0.bias": WHOLE[0], "1.num_batches_tracked": np.array(7)}
    torch_writer.write(tmp_path / "net.pth", arrays, '{"model.name": "vgg", "dataset.mean": [0.5], "model.init": null}')
    file = open_weights(tmp_path / "net.pth")
    assert file.states == {"model.name": "vgg", "dataset.mean": (0.5,)}
    np.testing.assert_array_equal(every(file)["features.0.bias"].read(), WHOLE[0])


@pytest.mark.parametrize(
    "record",
    [
        "[1]",
        "{",
        "\x00",
        '"text"',
        '{"a":' * 100_000,
        '{"dataset.data_dir": "elsewhere"}',
        '{"seed": 1}',
        '{"model.widths": {"a": 1}}',
        '{"model.widths": [[6]]}',
        '{"dataset.classes": 1' + "0" * 30 + "}",
        '{"dataset.classes": 1' + "0" * 5000 + "}",
        '{"dataset.class_names": ["cat", "\\u001b[2Jdog"]}',
        '{"model.name": "' + "a" * 2**20 + '"}',
    ],
    ids=lambda record: record[:30],
)
def test_a_record_of_anything_else_is_refused(record: str, tmp_path: Path) -> None:
    torch_writer.write(tmp_path / "net.pth", {"fc.weight": WHOLE}, record)
    line = refused(tmp_path / "net.pth")
    assert line.startswith("what it says about itself cannot be read (")
    assert line.endswith("); export it again")


@pytest.mark.parametrize("named", ["os.system", "__main__.Net", "numpy.core.multiarray.scalar"])
def test_a_pickle_that_could_run_something_is_refused_and_named(named: str, tmp_path: Path) -> None:
    for body in (RUNS[named], table({"state_dict": table({"fc.weight": RUNS[named]})})):
        paths = [
            zip_file(tmp_path / "net.pth", program(body), {}),
            legacy_file(tmp_path / "old.pth", program(body), {}),
            tmp_path / "first.pth",
            tmp_path / "oldest.pt",
        ]
        paths[2].write_bytes(program(body))  # in the place of the magic number
        paths[3].write_bytes(body + b".")  # without a protocol, as pickles once were
        for path in paths:
            assert refused(path).startswith(f"names {named}, which is no tensor; it is refused")


def test_other_pickles_in_the_archive_are_not_read(tmp_path: Path) -> None:
    operations, content = of_array("0", WHOLE)
    code = {"extra.pkl": program(RUNS["os.system"]), "version": b"3\n", "byteorder": b"little"}
    path = zip_file(tmp_path / "net.pth", program(table({"fc.weight": operations})), {"0": content}, **code)
    np.testing.assert_array_equal(every(open_weights(path))["fc.weight"].read(), WHOLE)


GOOD = program(table({"fc.weight": of_array("0", WHOLE)[0]}))


def test_what_is_no_archive_of_pytorch_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", a=WHOLE)
    assert "is a zip archive, but not one of PyTorch (it has no data.pkl)" in refused(tmp_path / "net.npz")
    path = zip_file(tmp_path / "net.pt", GOOD, {}, **{"constants.pkl": b"", "code/net.py": b"import os"})
    assert refused(path) == "is a TorchScript program; save model.state_dict() from PyTorch"
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    assert "is a whole model of Keras; save its weights with model.save_weights" in refused(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "two.pth", "w") as archive:
        archive.writestr("a/data.pkl", GOOD)
        archive.writestr("b/data.pkl", GOOD)
    assert "not one of PyTorch" in refused(tmp_path / "two.pth")


def test_big_endian_numbers_are_refused(tmp_path: Path) -> None:
    words = "its numbers are big-endian; save it again on another machine"
    assert refused(zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()}, byteorder=b"big")) == words
    assert refused(legacy_file(tmp_path / "old.pth", GOOD, {"0": WHOLE.tobytes()}, little_endian=False)) == words


@pytest.mark.parametrize("entry", ["../../evil", "net/../../evil", "/etc/evil", "net\\evil", "..\\evil"])
def test_entries_that_lead_out_of_the_archive_are_refused(entry: str, tmp_path: Path) -> None:
    path = zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, b"")
    assert refused(path).startswith(f"its entry {entry!r} leads out of it; PyTorch writes none such")
    assert [each.name for each in tmp_path.iterdir()] == ["net.pth"]


def changed_entries(path: Path, entry: str, change: Callable[[bytearray, int], None]) -> None:
    """Change what an archive's directory says of an entry: `change(data, place)` of its record."""
    data = bytearray(path.read_bytes())
    place = data.rindex(entry.encode()) - 46
    assert data[place : place + 4] == b"PK\x01\x02"
    change(data, place)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("place", "kind", "value", "words"),
    [
        (8, "<H", 1, "its entry 'net/data/0' is encrypted"),
        (10, "<H", 8, "its entry 'net/data/0' is compressed"),
        (10, "<H", 99, "its entry 'net/data/0' is compressed"),
        (20, "<I", 2**31, "its entry 'net/data/0' is compressed"),  # claims 2 GB of the archive
        (24, "<I", 2**31, "its entry 'net/data/0' is compressed"),  # or to become 2 GB
        (20, "<II", (2**31, 2**31), "it has"),
        (42, "<I", 0, "lies on top of another"),  # begins where data.pkl does
        (42, "<I", 2**31, "is it whole?"),
    ],
)
def test_what_an_archive_claims_of_an_entry_is_held_against_the_file(
    place: int, kind: str, value: Any, words: str, tmp_path: Path
) -> None:
    path = zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()})
    values = value if isinstance(value, tuple) else (value,)
    changed_entries(path, "net/data/0", lambda data, at: struct.pack_into(kind, data, at + place, *values))
    with little_memory(2**21):
        assert words in refused(path) or "its last entry is longer than what is there" in refused(path)


def test_compressed_and_doubled_entries_are_refused(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/bomb", bytes(2**20), zipfile.ZIP_DEFLATED)
    assert refused(path).startswith("its entry 'net/bomb' is compressed; PyTorch writes none such")
    path = zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("net/data/0", (WHOLE + 1).tobytes())
    assert refused(path).startswith("has two entries of one name; PyTorch writes none such")


def test_a_flipped_bit_of_the_numbers_is_found(tmp_path: Path) -> None:
    path = zip_file(tmp_path / "net.pth", GOOD, {"0": WHOLE.tobytes()})
    data = bytearray(path.read_bytes())
    data[data.index(WHOLE.tobytes()) + 50] ^= 4
    path.write_bytes(data)
    assert refused(path) == "cannot be read as a PyTorch file (Bad CRC-32 for file 'net/data/0'); is it whole?"


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (tensor((10**6, 10**6), (10**6, 1), of=storage("0", 10**12)), "1,000,000,000,000 numbers"),
        (tensor((4, 10), (10, 1), of=storage("0", 10**12)), "1,000,000,000,000 numbers"),
        (tensor((10**12,), (0,), of=storage("0", 40)), "a tensor (1000000000000,) of a storage with 40 numbers"),
        (tensor((2,), (10**12,), of=storage("0", 40)), "a tensor (2,) of a storage with 40 numbers"),
        (tensor((4, 10), (10, 1), of=storage("1", 40)), "storage '"),
    ],
)
def test_claims_of_what_is_not_there_are_one_line_and_no_memory(claimed: bytes, words: str, tmp_path: Path) -> None:
    data = program(table({"fc.weight": claimed}))
    for make in (zip_file, legacy_file):
        path = make(tmp_path / "net.pth", data, {"0": WHOLE.tobytes()})
        with little_memory(2**21):
            line = refused(path)
        assert words in line
        assert line.endswith("; is it whole?")


def test_an_old_file_whose_storages_are_not_what_its_tensors_want_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    assert "is a pickle, but not one of PyTorch" in refused(_written(path, pickle.dumps({"a": 1}, 2)))
    numbers = WHOLE.tobytes()
    assert "it ends inside storage '0', which has 40 numbers" in refused(legacy_file(path, GOOD, {"0": numbers[:-4]}))
    assert "it ends inside storage '0'" in refused(legacy_file(path, GOOD, {"0": numbers}, itemsize=2))
    assert "it has nothing of storage '0'" in refused(legacy_file(path, GOOD, {}))
    assert "it has numbers of storage '9', and no tensor is of them" in refused(
        legacy_file(path, GOOD, {"0": numbers, "9": numbers})
    )
    both = {"a.weight": of_array("0", WHOLE)[0], "b.weight": tensor((1,), (1,), of=storage("0", 1))}
    line = refused(legacy_file(path, program(table(both)), {"0": numbers[:4]}))  # else read behind its end
    assert "storage 0 is of two sizes" in line


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_too_much_besides_the_tensors_is_said(tmp_path: Path) -> None:
    history = table({"fc.weight": of_array("0", WHOLE)[0], "history": text("a" * 2**21)})
    line = refused(zip_file(tmp_path / "net.pth", program(history), {"0": WHOLE.tobytes()}))
    assert line == "has 2 MiB besides its tensors; save model.state_dict() alone from PyTorch"


def test_names_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    for strange in ("a\nb.weight", "\x1b[2J.weight", "a" * 300 + ".weight"):
        assert "is no name of a layer" in refused(saved(tmp_path / "net.pth", {strange: WHOLE}))


# What PyTorch itself writes.


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason='needs the peer torch (pip install -e ".[bench]")')


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def torch_save(request: pytest.FixtureRequest, torch: Any, tmp_path: Path) -> Callable[[Any], Path]:
    def save(value: Any) -> Path:
        torch.save(value, tmp_path / "net.pth", _use_new_zipfile_serialization=request.param)
        return tmp_path / "net.pth"

    return save


@pytest.mark.peer
def test_every_kind_of_tensor_that_pytorch_saves(torch: Any, torch_save: Callable[[Any], Path]) -> None:
    whole = torch.arange(40.0).reshape(4, 10) / 7
    state = {
        "whole.weight": whole,
        "half.weight": whole.half(),
        "bfloat16.weight": whole.bfloat16(),
        "double.weight": whole.double(),
        "transposed.weight": whole.t(),
        "part.weight": whole[1:, 2:6],
        "steps.weight": whole[::2, ::3],
        "expanded.weight": whole[:1].expand(7, 10),
        "permuted.weight": whole.reshape(2, 2, 5, 2).permute(3, 0, 2, 1),
        "channels_last.weight": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter.weight": torch.nn.Parameter(whole),
        "scalar.weight": torch.tensor(3.0),
        "empty.weight": torch.zeros(0, 3),
    }
    tensors = every(open_weights(torch_save(state)))
    assert list(tensors) == list(state)
    for key, wanted in state.items():
        back = tensors[key].read()
        assert str(back.dtype) == str(wanted.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(back.astype(np.float64), wanted.detach().double().numpy())


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_training_scripts_save(torch: Any, torch_save: Callable[[Any], Path]) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())
    network.append(torch.nn.Linear(8, 3))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(4, 1, 4, 4)).sum().backward()
    optimizer.step()
    state = network.state_dict()
    checkpoints = [
        state,
        torch.nn.DataParallel(network).state_dict(),
        torch.compile(network).state_dict(),
        {"state_dict": state, "epoch": 3, "best_acc1": torch.tensor(0.9), "optimizer": optimizer.state_dict()},
        {"model": state, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2).state_dict()},
    ]
    for checkpoint in checkpoints:
        file = open_weights(torch_save(checkpoint))
        tensors = every(file)
        assert tensors.keys() == state.keys()
        assert [each.name for each in file.ignored] == ["1.num_batches_tracked"]
        for key in tensors.keys() - {"1.num_batches_tracked"}:
            np.testing.assert_array_equal(tensors[key].read(), state[key].numpy())


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_else_pytorch_saves_is_refused_and_named(
    torch: Any, torch_save: Callable[[Any], Path], tmp_path: Path
) -> None:
    whole = torch.nn.Linear(2, 3)
    assert refused(torch_save(whole)).startswith("names torch.nn.modules.linear.Linear, which is no tensor")
    assert "names numpy." in refused(torch_save({"state_dict": whole.state_dict(), "accuracy": np.float64(0.9)}))
    for function, value in {
        "_rebuild_sparse_tensor": whole.weight.detach().to_sparse(),
        "_rebuild_tensor_v3": whole.weight.detach().to(torch.float8_e4m3fn),
    }.items():
        assert f"names torch._utils.{function}, which" in refused(torch_save({"fc.weight": value}))
    torch.jit.save(torch.jit.trace(whole, torch.zeros(1, 2)), str(tmp_path / "script.pt"))
    assert refused(tmp_path / "script.pt") == "is a TorchScript program; save model.state_dict() from PyTorch"


@pytest.mark.peer
def test_every_protocol_of_pickle(torch: Any, tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    for new in (True, False):
        for protocol in (2, 3, 4, 5):
            path = tmp_path / f"{new}{protocol}.pth"
            torch.save({"net": state}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
            np.testing.assert_array_equal(every(open_weights(path))["weight"].read(), state["weight"].numpy())


@pytest.mark.parametrize("key", [("0",), None, 7], ids=repr)
def test_what_names_a_storage_is_a_text(key: object, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", {"a.weight": WHOLE}, legacy=True)
    data, names = path.read_bytes(), pickle.dumps(["0"], 2)
    assert data.count(names) == 1
    path.write_bytes(data.replace(names, pickle.dumps([key], 2)))
    assert re.search("names a storage|cannot be read", refused(path))


def test_a_name_of_a_storage_that_has_no_end_is_not_looked_up(tmp_path: Path) -> None:
    """Tuples in each other: to compare them takes twice as long with each, or more stack than there is."""
    path = saved(tmp_path / "net.pth", {"a.weight": WHOLE}, legacy=True)
    for key in (b"N" + b"2\x86" * 60, b"N" + b"\x85" * 100_000):
        data = path.read_bytes().replace(pickle.dumps(["0"], 2), b"\x80\x02](" + key + b"e.")
        (tmp_path / "other.pth").write_bytes(data)
        assert "a tuple names a storage" in refused(tmp_path / "other.pth")


def test_a_file_that_becomes_shorter_meanwhile_is_refused(save: Save) -> None:
    path = save({"fc.weight": WHOLE})
    tensor = every(open_weights(path))["fc.weight"]
    path.write_bytes(path.read_bytes()[: -4 * WHOLE.size // 2])
    with pytest.raises(UserError, match=r"net.pth: cannot be read as a PyTorch file \(.*\); is it whole\?"):
        tensor.read()
