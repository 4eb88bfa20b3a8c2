"""Scaling against Pillow, to the bit."""

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from train.data import resample as module
from train.data.boxes import Box
from train.data.resample import METHODS, resample

shares = st.floats(0, 1)


def pillow(image: np.ndarray, sides: tuple[int, int], method: str, box: Box | None = None) -> np.ndarray:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize(sides, METHODS[method], box)).reshape(sides[1], sides[0], -1)


def rows_then_columns(image: np.ndarray, sides: tuple[int, int], method: str, box: Box | None) -> np.ndarray:
    """Ask Pillow twice, for it chooses the order by the image's shape since version 13."""
    height, width, _ = image.shape
    left, top, right, bottom = box or (0, 0, width, height)
    along_rows = pillow(image, (sides[0], height), method, (left, 0, right, height))
    return pillow(along_rows, sides, method, (0, top, sides[0], bottom))


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 2**32 - 1),
    *(st.integers(1, 90) for _ in range(2)),
    *(st.integers(1, 70) for _ in range(2)),
    st.sampled_from((1, 3)),
    st.sampled_from(("bilinear", "bicubic")),
    st.none() | st.tuples(shares, shares, shares, shares),
)
def test_it_is_pillows(
    seed: int, height: int, width: int, rows: int, columns: int, channels: int, method: str, edges: tuple | None
) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, channels), np.uint8)
    if seed % 2:  # where a cubic overshoots
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    box = None
    if edges is not None:
        (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
        box = (left * width * 0.9, top * height * 0.9, (0.9 * right + 0.1) * width, (0.9 * bottom + 0.1) * height)
    expected = rows_then_columns(image, (columns, rows), method, box)
    np.testing.assert_array_equal(resample(image, (columns, rows), method, box), expected)
    if not 0 < height - rows > 2 * (width - columns):  # where Pillow goes along columns first
        np.testing.assert_array_equal(pillow(image, (columns, rows), method, box), expected)


@pytest.mark.parametrize("command", ["no-such-compiler", "  ", "c++ -D'"])
def test_without_a_compiler_one_line_says_so(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", command)
    found = module._kernel.__wrapped__()
    said = capsys.readouterr().err.splitlines()
    if command.strip():
        assert found is None
        (line,) = said
        assert line.startswith("Pillow scales images")
    else:  # as if it were not set
        assert found is not None
        assert not said


@pytest.mark.parametrize("options", ["-mno-avx512f", "-march=x86-64", None])
def test_any_processor_and_none_give_the_same(
    options: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    box = (10.5, 3.25, 71.0, 55.5)
    expected = [resample(image, (33, 29), method, box) for method in METHODS]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = tmp_path / "compiler"
    # Of two opposite options, the last counts.
    script.write_text(f'#!/bin/sh\nexec c++ "$@" {options}' if options else "#!/bin/sh\nexit 1")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(module, "_kernel", module._kernel.__wrapped__)
    assert (module._kernel() is None) == (options is None)
    for method, before in zip(METHODS, expected, strict=True):
        np.testing.assert_array_equal(resample(image, (33, 29), method, box), before)


def test_nothing_to_scale_is_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for method in METHODS:
        np.testing.assert_array_equal(resample(image, (7, 5), method), image)


@pytest.mark.parametrize("method", METHODS)
def test_it_writes_where_it_is_told(method: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    batch = np.zeros((3, 10, 20, 3), np.uint8)
    resample(image, (20, 10), method, out=batch[1])
    np.testing.assert_array_equal(batch[1], resample(image, (20, 10), method))
    assert not batch[[0, 2]].any()


def test_rows_may_lie_apart() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    view = image[::2, 5:45]
    np.testing.assert_array_equal(resample(view, (20, 10), "bilinear"), resample(view.copy(), (20, 10), "bilinear"))
