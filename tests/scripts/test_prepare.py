"""Building TFDS sets: what is missing is said at once; what is built is what the files hold."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command
from train.data import idx
from train.data.examples import Examples
from train.data.tfds import read


def test_missing_files_are_named_at_once(one_line_error: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    began = time.monotonic()
    error = one_line_error("prepare", "--source=tfds:mnist", f"--data_dir={tmp_path}", f"--manual_dir={tmp_path}")
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        assert f"{name} (https://storage.googleapis.com/cvdf-datasets/mnist/{name})" in error
    assert "train-images" not in error
    assert time.monotonic() - began < 120  # left to itself, TFDS retries for 200 s; a busy machine takes 10 to start


def test_a_file_of_another_set_is_named(one_line_error: Callable[..., str], real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "mnist"  # the names are those of Fashion-MNIST too
    error = one_line_error("prepare", "--source=tfds:fashion_mnist", f"--data_dir={tmp_path}", f"--manual_dir={folder}")
    assert "is not the file that tfds:fashion_mnist is made of" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source=tfds:fashon_mnist"], "no set of that name; nearest: fashion_mnist"),
        (["--source=mnist"], "--source=mnist: must name a set to build, tfds:NAME"),
        ([], "--source=... is missing"),
        (["--source=tfds:mnist", "--image_size=64"], "--image_size: is for --cache=FOLDER"),
        (["--source=tfds:mnist", "--manual_dir=nowhere"], "--manual_dir=nowhere: there is no such folder"),
    ],
    ids=["misspelt", "no kind", "nothing", "of caches", "no folder"],
)
def test_what_is_wrong_is_one_line(
    one_line_error: Callable[..., str], tmp_path: Path, flags: list[str], message: str
) -> None:
    assert message in one_line_error("prepare", *flags, f"--data_dir={tmp_path}")


def by_content(examples: Examples) -> list[tuple[bytes, int]]:
    """Return images with labels in an order of their own: TFDS shuffles what it stores."""
    return sorted(zip((image.tobytes() for image in examples.images), examples.labels.tolist(), strict=True))


@pytest.mark.peer
def test_both_mnists_in_one_folder_are_what_their_files_hold(command: Command, real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason='needs the peer tensorflow (pip install -e ".[prepare]")')
    data_dir = f"--data_dir={tmp_path / 'tfds'}"
    killed = tmp_path / "tfds" / "mnist" / "incomplete.ABCDEF_3.0.1"  # as TFDS calls it
    killed.mkdir(parents=True)
    (killed / "half").touch()
    for name in ("mnist", "fashion_mnist"):
        process = command("prepare", f"--source=tfds:{name}", data_dir, f"--manual_dir={real_data / name}")
        assert process.returncode == 0, process.stderr
        assert "60,000 train, 10,000 test" in process.stdout
    for name in (
        "mnist",
        "fashion_mnist",
    ):  # after both, for the second has been seen to overwrite or to reuse the first
        built = read(name, data_dir=str(tmp_path / "tfds"), stream=None).splits
        files = idx.read_folder(real_data / name)
        assert built.keys() == files.keys()
        for split, examples in files.items():
            found = built[split]
            assert isinstance(found, Examples)
            assert by_content(found) == by_content(examples)
    again = command("prepare", "--source=tfds:mnist", data_dir)
    assert again.returncode == 0, again.stderr
    left = ("extracted", "incomplete")
    assert not [path for path in (tmp_path / "tfds").rglob("*") if path.name.startswith(left)]
