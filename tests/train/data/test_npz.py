import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import little_memory
from train.data import archive, npz
from train.errors import UserError


def picture(seed: int, mode: str = "RGB", size: int = 16) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def pack(pictures: list[Image.Image]) -> dict[str, np.ndarray]:
    files = []
    for image in pictures:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": np.arange(len(files)) % 2,
    }


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.ones((4, 5, 6), np.uint8), label=[0, 1, 1, 0], class_names=["cat", "dog"])
    splits, names, *_ = npz.read(tmp_path / "a.npz")
    assert names == ("cat", "dog")
    assert splits["train"].images.shape == (4, 5, 6, 1)
    assert splits["train"].labels.tolist() == [0, 1, 1, 0]


def test_packed_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    pictures = [picture(0), picture(1, "L"), picture(2)]
    packed = pack(pictures)
    np.savez(tmp_path / "a.npz", **packed)
    images = npz.read(tmp_path / "a.npz")[0]["train"].images
    for index, image in enumerate(images):
        part = packed["jpeg"][packed["offset"][index] : packed["offset"][index + 1]].tobytes()
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(part)).convert("RGB")))


def test_a_prefix_names_the_splits(tmp_path: Path) -> None:
    for ending in ("train", "val"):
        np.savez(tmp_path / f"set_{ending}.npz", image=np.ones((2, 5, 5, 3), np.uint8), label=[0, 1])
    assert set(npz.read(tmp_path / "set")[0]) == {"train", "validation"}


def test_real_cifar10(real_data: Path) -> None:
    splits, names, *_ = npz.read(real_data / "cifar10" / "cifar10_jpeg")
    assert names is not None
    assert names[:3] == ("airplane", "automobile", "bird")
    assert splits["test"].images.shape == (10_000, 32, 32, 3)
    assert np.bincount(splits["test"].labels).tolist() == [1_000] * 10


IMAGES = np.ones((2, 5, 5), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGES}, "needs `label` and `image`.*has image"),
        ({"label": [0, 1]}, "needs `label` and `image`"),
        ({"image": IMAGES[:0], "label": np.zeros(0, int)}, "holds no image"),
        ({"image": IMAGES, "label": [0.0, 1.0]}, "label must be integers"),
        ({"image": IMAGES, "label": [0, 1, 1]}, "2 images but 3 labels"),
        ({"image": IMAGES, "label": [0, 2**32]}, "label must be 0 or more and fit 32 bits, is 0 to 4294967296"),
        ({"image": IMAGES, "label": [-1, 0]}, "label must be 0 or more"),
        ({"image": IMAGES.astype(np.float32), "label": [0, 1]}, "image must be uint8"),
        ({"image": np.ones((2, 5, 5, 2), np.uint8), "label": [0, 1]}, "image must be uint8"),
        ({"image": np.array([None, None]), "label": [0, 1]}, "cannot be read"),  # a pickle, which is never opened
        ({**pack([picture(0), picture(1)]), "offset": [0, 10, 5]}, "offset must rise"),
        ({**pack([picture(0), picture(1)]), "offset": [0, 10, 10**9]}, "offset must rise"),
        ({**pack([picture(0), picture(1)]), "offset": [0, 10, 20]}, "image 0: cannot be decoded"),
        ({**pack([picture(0)]), "jpeg": np.zeros(9)}, r"jpeg must be uint8 \[bytes\] and offset integers \[N \+ 1\]"),
        ({**pack([picture(0)]), "label": [0, 1]}, "1 images but 2 labels; give a label to each"),
        (pack([picture(0), picture(1, size=24)]), r"image 1: has 24x24 pixels, others have 16x16"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        npz.read(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)


def test_a_packed_image_that_is_damaged_is_named_before_it_is_streamed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**pack([picture(0), picture(1)]), "offset": [0, 10, 20]})
    with pytest.raises(UserError, match=r"image 0: cannot be decoded .*; write the file again without it"):
        npz.read(tmp_path / "a.npz", stream=True)


def test_files_that_are_missing_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file, and no set_train.npz beside it"):
        npz.read(tmp_path / "set")
    with pytest.raises(UserError, match="takes a file behind the colon"):
        npz.read(Path())
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"a.npy: cannot be read as a NumPy archive, .npz"):
        npz.read(tmp_path / "a.npy")
    (tmp_path / "a.npz").write_bytes(b"something else")
    with pytest.raises(UserError, match="cannot be read as a NumPy archive"):
        npz.read(tmp_path / "a.npz")


def test_class_names_must_agree(tmp_path: Path) -> None:
    for ending, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
        np.savez(tmp_path / f"set_{ending}.npz", image=IMAGES, label=[0, 1], class_names=names)
    with pytest.raises(UserError, match="class_names differ between train and test"):
        npz.read(tmp_path / "set")


def npy(shape: tuple[int, ...], dtype: str = "|u1", content: bytes = bytes(8), *, text: str | None = None) -> bytes:
    """An array of NumPy's format, version 1.0, whose header may say anything."""
    header = (text or f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}").encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (npy((10**6, 10**6)), "claims uint8"),
        (npy((2**62, 2**62)), "claims uint8"),
        (npy((-1,)), "claims uint8"),
        (npy((1,), "|O"), "holds objects"),
        (npy((1,), "V9223372036854775807"), "cannot be read"),
        (npy((8,), text="__import__('os').system('touch x')"), "cannot be read"),
        (npy((8,), text="(" * 5_000), "cannot be read"),
        (npy((8,), text="{'descr': '|u1', 'fortran_order': 2, 'shape': (8,)}"), "cannot be read"),
        (npy((8,), text="{"), "cannot be read"),
        (npy((9,)), "claims uint8 .9., and has 8 bytes"),
        (npy((7,)), "claims uint8 .7., and has 8 bytes"),
        (b"", "cannot be read"),
        (b"\x93NUMPY\x09\x00", "cannot be read"),
    ],
)
def test_an_array_that_lies_is_refused_before_it_is_made(tmp_path: Path, entry: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("image.npy", entry)
    with little_memory(2**24):
        with pytest.raises(UserError, match=message) as error:
            npz.read(tmp_path / "a.npz")
        assert str(error.value).isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_as_numpy_writes_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(
        *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, change: tuple[bytes, bytes] | None = None
    ):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in entries:
                file.writestr(name, content)
        if change:
            path.write_bytes(path.read_bytes().replace(*change))
        with pytest.raises(UserError, match="cannot be read as a NumPy archive") as error:
            npz.read(path)
        return str(error.value)

    label = ("label.npy", npy((8,)))
    assert "there twice" in refused(label, label)
    assert "is no array" in refused(label, ("/etc/passwd", b"x"))
    assert "is no array" in refused(label, ("../../image.py", b"x"))
    assert "packed as NumPy packs none" in refused(label, method=zipfile.ZIP_LZMA)
    assert "encrypted" in refused(label, change=(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))
    assert "zip file version" in refused(label, change=(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff"))
    monkeypatch.setattr(archive, "_SMALL", 2**20)  # 256 MB otherwise
    assert "claims 8,388,6" in refused(("image.npy", npy((2**23,), content=bytes(2**23))))
    assert not (tmp_path.parent.parent / "image.py").exists()


@pytest.mark.parametrize(
    "offset", [[-5, 3, 9], [0, 2**62, 2**63 - 1], [0, 5, 5], [3, 2, 1], [0], [0, 1, 2, 3], [[0, 1, 2]]]
)
def test_offsets_that_lie_are_refused(tmp_path: Path, offset: list) -> None:
    np.savez(tmp_path / "a.npz", **{**pack([picture(0), picture(1)]), "offset": offset})
    for stream in (False, True):
        with pytest.raises(UserError, match=r"offset must|images but|offset integers"):
            npz.read(tmp_path / "a.npz", stream=stream)
