import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import little_memory, write_idx
from train.data import archive
from train.data.idx import read_file, read_folder
from train.errors import UserError


def test_reads_plain_and_gzipped(idx_folder: Path) -> None:
    splits = read_folder(idx_folder)
    assert {name: split.images.shape for name, split in splits.items()} == {
        "train": (60, 28, 28, 1),
        "test": (20, 28, 28, 1),
    }
    assert splits["train"].labels.tolist() == [index % 3 for index in range(60)]


def test_reads_real_mnist(real_data: Path) -> None:
    splits = read_folder(real_data / "mnist")
    # The first labels and the class counts as LeCun's page and everybody's plots have them.
    assert splits["train"].labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert splits["test"].labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(splits["train"].labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert splits["train"].images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)  # the usual mean and deviation
    assert splits["train"].images.std() / 255 == pytest.approx(0.3081, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"magic": b"\0\0\x0d\3"}, "starts with 00000d03, an IDX file of this kind with 00000803"),
        ({"shape": (3, 5, 5)}, "promises 75 bytes of 3 x 5 x 5, there are 50"),
        ({"shape": (1, 5, 5)}, "promises 25 bytes of 1 x 5 x 5, there are more"),
        ({"shape": (2**32 - 1,) * 3}, "there are 50"),  # 10^28 bytes, none of which is allocated
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_header_that_lies(tmp_path: Path, change: dict, message: str, ending: str) -> None:
    path = tmp_path / f"file{ending}"
    write_idx(path, np.zeros((2, 5, 5)), **change)
    with pytest.raises(UserError, match=message) as error:
        read_file(path, dimensions=3)
    assert str(path) in str(error.value)


# The cases have names because gzip writes the time of day: by their bytes they differ between pytest's workers.
@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08\3\0\0", gzip.compress(b"\0\0\x08\3" * 9)[:-9], b"no gzip at all"],
    ids=["empty", "half a header", "cut gzip", "text"],
)
@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_a_file_that_is_cut_or_something_else(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_file(tmp_path / name, dimensions=3)


def test_missing_files_are_named(tmp_path: Path, idx_folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder; .*--config.dataset.source=idx:FOLDER"):
        read_folder(tmp_path / "nowhere")
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"neither t10k-labels-idx1-ubyte.gz nor t10k-labels-idx1-ubyte"):
        read_folder(idx_folder)


def test_other_counts_of_images_and_labels(idx_folder: Path) -> None:
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.zeros(19))
    with pytest.raises(UserError, match=r"20 images but 19 labels in the t10k-\* files"):
        read_folder(idx_folder)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 2**22)  # 256 MB otherwise
    path = tmp_path / "images-idx3-ubyte.gz"
    write_idx(path, np.zeros((2**5, 2**10, 2**10)))
    with little_memory(2**24), pytest.raises(UserError, match=r"has .* bytes, and more than .* when it is unpacked"):
        read_file(path, dimensions=3)
    write_idx(path, np.random.default_rng(0).integers(0, 256, (2**3, 2**10, 2**10)))
    assert read_file(path, dimensions=3).shape == (2**3, 2**10, 2**10)
