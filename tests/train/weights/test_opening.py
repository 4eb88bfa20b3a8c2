"""Whatever stands in a file, and wherever it stands: what was meant, or one line and nothing else."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conftest import little_memory
from tests.train.weights import test_caffe_reader as caffe
from tests.train.weights import test_keras_reader as keras
from tests.train.weights import test_onnx_reader as onnx
from tests.train.weights.test_torch_reader import WHOLE, read_all, refused, saved
from train.errors import UserError
from train.weights.opening import FORMATS, open_weights

ARRAYS = {"conv.weight": onnx.KERNEL, "conv.bias": onnx.BIAS, "fc.weight": WHOLE}


def _safetensors(path: Path) -> Path:
    save_file(ARRAYS, path, {"format": "pt"})
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "zip.pth": lambda path: saved(path, ARRAYS),
    "legacy.pth": lambda path: saved(path, ARRAYS, legacy=True),
    "net.safetensors": _safetensors,
    "keras2.h5": lambda path: keras.whole(path, keras.SEQUENCE),
    "keras3.weights.h5": lambda path: keras.keras3(path, {"conv2d": [keras.KERNEL, keras.BIAS]}, {"conv2d": "c"}),
    "net.onnx": lambda path: onnx.saved(path, onnx.model(onnx.LENET, onnx.CONSTANTS)),
    "new.caffemodel": lambda path: caffe.written(
        path, caffe.network(caffe.layer("conv", caffe.blob(caffe.KERNEL), caffe.blob(caffe.BIAS)))
    ),
    "old.caffemodel": lambda path: caffe.written(
        path, caffe.network(caffe.layer("conv", caffe.blob(caffe.KERNEL, old=True), old=True))
    ),
}
BY_A_PROCESS = [name for name in MAKERS if name.endswith(".h5")]  # which takes a third of a second
WITHIN = [name for name in MAKERS if name not in BY_A_PROCESS]


def outcome(path: Path) -> str:
    """Read all of a file; return the line that this ends in, or nothing. Any other exception is what is looked for."""
    try:
        read_all(path)
    except UserError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < 1500
        assert line.startswith(f"{path}: "), line
        return line
    return ""


@pytest.mark.parametrize("suffix", ["", ".bin", ".pth", ".onnx"])
@pytest.mark.parametrize("name", [name for name in MAKERS if "caffe" not in name])
def test_a_format_is_known_by_its_first_bytes(name: str, suffix: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / name)
    arrays = read_all(path)
    renamed = path.rename(tmp_path / f"renamed{suffix}")
    for back, wanted in zip(read_all(renamed).values(), arrays.values(), strict=True):
        np.testing.assert_array_equal(back, wanted)


def test_links_are_followed(tmp_path: Path) -> None:
    _safetensors(tmp_path / "blob")  # as Hugging Face's cache has them
    (tmp_path / "net.safetensors").symlink_to(tmp_path / "blob")
    assert read_all(tmp_path / "net.safetensors").keys() == ARRAYS.keys()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")  # for which reading would wait
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    (tmp_path / "dangling.pth").symlink_to(tmp_path / "nothing")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "zero"):
        assert refused(tmp_path / f"{name}.pth") == f"is no file; --weights takes one of {FORMATS}"
    assert refused(tmp_path / "loop.pth").startswith("cannot be read (Too many levels of symbolic links)")
    for name in ("dangling", "missing"):
        assert refused(tmp_path / f"{name}.pth").startswith("cannot be read (No such file or directory)")
    assert refused(tmp_path / "folder.pth" / ("a" * 300)).startswith("cannot be read (File name too long)")


def test_what_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = _safetensors(tmp_path / "net.safetensors")
    monkeypatch.setattr(Path, "open", denied)  # for root may read everything
    assert refused(path).startswith("cannot be read (Permission denied)")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5", ".onnx", ".caffemodel", ""])
def test_an_empty_file_and_a_page_of_the_web_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"")
    assert refused(path) == f"is empty; --weights takes one of {FORMATS}"
    for text in (b"<!DOCTYPE html>\n<html><body>404</body></html>", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(text)
        assert refused(path).startswith(("is of none of these kinds: ", "cannot be read as a"))


@pytest.mark.parametrize(("name", "package"), [("net.safetensors", "safetensors"), ("keras2.h5", "h5py")])
def test_a_package_that_is_not_there_is_named(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = MAKERS[name](tmp_path / name)
    read_all(path)
    if package == "safetensors":  # imported by its reader, which is imported once
        monkeypatch.delitem(sys.modules, "train.weights.safetensors_reader")
        monkeypatch.delattr("train.weights.safetensors_reader")
    monkeypatch.setitem(sys.modules, package, None)
    assert refused(path) == f"takes the package {package}; pip install -e '.[weights]'"


@pytest.mark.parametrize("name", WITHIN)
def test_a_file_that_ends_too_soon_is_one_line_at_every_length(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / name)
    whole = path.read_bytes()
    wanted = read_all(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if not outcome(path):  # protocol buffers say of no message how long it is
            assert name.endswith((".onnx", ".caffemodel"))
            assert len(read_all(path)) < len(wanted) or length > 0.9 * len(whole)


@pytest.mark.parametrize("name", BY_A_PROCESS)
def test_an_hdf5_file_that_ends_too_soon_is_one_line(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / name)
    whole = path.read_bytes()
    for length in (1, 8, 24, 96, 800, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert outcome(path)


def mutations(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file with bits flipped, bytes and lengths replaced, pieces cut out and pieces doubled."""
    draw = random.Random(seed)
    lengths = (b"\xff" * 8, b"\xff\xff\xff\x7f" + bytes(4), (10**12).to_bytes(8, "little"), bytes(8))
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            place, what = draw.randrange(len(data)), draw.randrange(6)
            if what == 0:
                data[place] ^= 1 << draw.randrange(8)
            elif what == 1:
                data[place] = draw.randrange(256)
            elif what == 2:
                data[place] = draw.choice((0, 1, 127, 128, 255))
            elif what == 3:
                data[place : place + 8] = draw.choice(lengths)
            elif what == 4:
                del data[place : place + draw.randrange(1, 16)]
            else:
                start = draw.randrange(len(data))
                data[place:place] = data[start : start + draw.randrange(1, 32)]
        yield bytes(data)


def check_mutations(path: Path, count: int, seed: int) -> None:
    """Whatever is changed, a file is read or ends in a line, and little memory is taken for it."""
    whole, lines = path.read_bytes(), 0
    with little_memory(2**24):
        for data in mutations(whole, count, seed):
            path.write_bytes(data)
            lines += bool(outcome(path))
    assert lines > count / 4  # a change of the numbers alone is none that could be seen


@pytest.mark.parametrize("name", WITHIN)
def test_a_damaged_file_is_read_or_one_line(name: str, tmp_path: Path) -> None:
    check_mutations(MAKERS[name](tmp_path / name), 200, seed=0)


@pytest.mark.parametrize("name", BY_A_PROCESS)
def test_a_damaged_hdf5_file_is_read_or_one_line(name: str, tmp_path: Path) -> None:
    check_mutations(MAKERS[name](tmp_path / name), 8, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("name", MAKERS)
def test_thousands_of_damaged_files_are_read_or_one_line(name: str, seed: int, tmp_path: Path) -> None:
    check_mutations(MAKERS[name](tmp_path / name), 250 if name in BY_A_PROCESS else 2500, seed)


def test_the_layers_of_a_file_are_what_was_saved(tmp_path: Path) -> None:
    file = open_weights(saved(tmp_path / "net.pth", ARRAYS))
    assert file.kernels("convolution") == {"conv": (4, 1, 3, 3)}
    assert file.kernels("dense") == {"fc": (4, 10)}
