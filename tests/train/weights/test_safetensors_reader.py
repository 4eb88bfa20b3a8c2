"""safetensors files, made by their own package and byte by byte."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conftest import little_memory
from tests.train.weights.test_torch_reader import every, read_all, refused
from train.weights.opening import open_weights

WHOLE = np.arange(24, dtype=np.float32).reshape(4, 6)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def written(path: Path, header: object, content: bytes = b"", length: int | None = None) -> Path:
    """Write a file whose header may be anything."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + content)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_numbers_are_those_that_were_saved(dtype: type, tmp_path: Path) -> None:
    arrays = {"fc.weight": (WHOLE / 7).astype(dtype), "fc.bias": WHOLE[0].astype(dtype), "s": np.array(3, dtype)}
    save_file(arrays, tmp_path / "net.safetensors")
    back = read_all(tmp_path / "net.safetensors")
    assert back.keys() == arrays.keys()
    for name, array in back.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, arrays[name])


def test_layers_are_in_the_order_that_people_count(tmp_path: Path) -> None:
    names = [f"{part}.{place}" for part in ("classifier", "features") for place in (0, 2, 9, 10, 28)]
    save_file({f"{name}.weight": WHOLE for name in reversed(names)}, tmp_path / "net.safetensors")
    assert list(open_weights(tmp_path / "net.safetensors").layers) == names


def test_batch_norms_and_counters_are_told_from_kernels(tmp_path: Path) -> None:
    norm = {f"bn.{name}": WHOLE[0] for name in ("weight", "bias", "running_mean", "running_var")}
    counter = {"bn.num_batches_tracked": np.array(3)}
    # timm writes VGG's dense layers as convolutions.
    save_file(norm | counter | {"pre_logits.fc1.weight": WHOLE.reshape(4, 2, 1, 3)}, tmp_path / "net.safetensors")
    file = open_weights(tmp_path / "net.safetensors")
    leaves = {layer: sorted(tensors) for layer, tensors in file.layers.items()}
    assert leaves == {"bn": ["bias", "mean", "scale", "var"], "pre_logits.fc1": ["kernel"]}
    assert file.kernels("convolution") == {"pre_logits.fc1": (4, 2, 1, 3)}
    assert [each.name for each in file.ignored] == ["bn.num_batches_tracked"]


def test_our_own_file_says_what_it_is_of(tmp_path: Path) -> None:
    record = {"oldmasters.json": '{"model.name": "vgg16", "dataset.mean": [0.5]}', "format": "pt"}
    save_file({"fc.weight": WHOLE}, tmp_path / "net.safetensors", record)
    assert open_weights(tmp_path / "net.safetensors").states == {"model.name": "vgg16", "dataset.mean": (0.5,)}


@pytest.mark.parametrize("length", range(120, 140))
def test_a_header_may_be_of_any_length(length: int, tmp_path: Path) -> None:
    # One of 128 bytes begins as pickles do, one of 8 more as ONNX's.
    header = json.dumps({"fc.weight": entry([1, 1], 0, 4)}).ljust(length).encode()
    path = written(tmp_path / "net.safetensors", header, struct.pack("<f", 2))
    assert every(open_weights(path))["fc.weight"].read() == 2


@pytest.mark.parametrize("dtype", ["I8", "I64", "BOOL", "U8"])
def test_integers_are_no_weights(dtype: str, tmp_path: Path) -> None:
    size = 8 if dtype == "I64" else 1
    path = written(tmp_path / "net.safetensors", {"fc.weight": entry([1, 1], 0, size, dtype)}, bytes(size))
    assert refused(path).startswith("fc.weight holds ")


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ({"fc.weight": entry([10**6, 10**6], 0, 8)}, None),
        ({"fc.weight": entry([10**6, 10**6], 0, 4 * 10**12)}, None),
        ({"fc.weight": entry([2**40, 2**40], 0, 8)}, None),
        ({"fc.weight": entry([-1, -2], 0, 8)}, None),
        ({"fc.weight": entry([2, 1], 8, 16)}, None),
        ({"fc.weight": entry([2, 1], 8, 0)}, None),
        ({"a.weight": entry([2, 1], 0, 8), "b.weight": entry([2, 1], 0, 8)}, None),  # on top of each other
        ({"fc.weight": entry([2, 1], 0, 8, "F33")}, None),
        ({"fc.weight": entry([2, 1], 0, 8)}, 10**12),
        ({"fc.weight": entry([2, 1], 0, 8)}, 2**63),
        ({"fc.weight": entry([2, 1], 0, 8)}, 5),
        (b"{" + b'"a":{' * 100_000, None),
        (b'{"\\ud800.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}', None),
        ({"a\nb.weight": entry([2, 1], 0, 8)}, None),
        ({"a" * 300 + ".weight": entry([2, 1], 0, 8)}, None),
        ({"1" * 5000 + ".weight": entry([2, 1], 0, 8)}, None),
    ],
    ids=range(16),
)
def test_what_a_header_claims_is_one_line_and_no_memory(header: object, length: int | None, tmp_path: Path) -> None:
    path = written(tmp_path / "net.safetensors", header, bytes(8), length)
    with little_memory(2**22):
        line = refused(path)
    assert line.startswith("cannot be read as a safetensors file (")


def test_a_record_of_anything_else_is_refused(tmp_path: Path) -> None:
    save_file({"fc.weight": WHOLE}, tmp_path / "net.safetensors", {"oldmasters.json": "[" * 100_000})
    assert refused(tmp_path / "net.safetensors").startswith("what it says about itself cannot be read (")
