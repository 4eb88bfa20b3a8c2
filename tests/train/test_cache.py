"""Compiled programs are kept whole where they can be; where they cannot, one line says so and work goes on."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from jax._src.lru_cache import LRUCache

from tests.conftest import CHECKOUT
from train import cache

SHORTEST = "jax_persistent_cache_min_compile_time_secs"


class Usage(NamedTuple):
    free: int


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache", SHORTEST)
    }
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_that_can_be_kept_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.use_compilation_cache(str(tmp_path / "new" / "xla"))
    assert capsys.readouterr().err == ""
    assert getattr(jax.config, SHORTEST) == 0
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "new" / "xla")
    assert not (tmp_path / "new").exists()  # until there is something to keep


def test_a_full_disk_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(2_000_000))
    cache.use_compilation_cache(str(tmp_path))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path} has 2.0 MB of room" in said
    assert getattr(jax.config, SHORTEST) == math.inf  # nothing is written
    assert jax.config.jax_enable_compilation_cache  # and what is there is read


def test_no_folder_and_no_home_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    cache.use_compilation_cache(str(tmp_path / "file" / "xla"))
    assert f"{tmp_path}/file cannot be written to" in capsys.readouterr().err

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    cache.use_compilation_cache(None)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "home directory" in said
    assert not jax.config.jax_enable_compilation_cache


def test_it_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    cache.use_compilation_cache("")
    assert capsys.readouterr().err == ""
    assert not jax.config.jax_enable_compilation_cache


# What a kill in the middle of writing, or a full disk, leaves of every entry.
TORN = """
import pathlib, sys, warnings
import jax
from train import cache

cache.use_compilation_cache(sys.argv[1])
folder = pathlib.Path(sys.argv[1])
program = lambda: jax.jit(lambda x: x * 3 + 1)(2.0)
program()
for entry in folder.glob("*-cache"):
    entry.write_bytes(entry.read_bytes()[:-9])
for expected in (True, False):
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        program()
    assert bool(said) == expected, said
"""


def test_what_is_torn_is_written_again(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", TORN, str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert all(path.name.endswith("-cache") for path in tmp_path.iterdir())


def test_an_entry_is_whole_or_not_there(tmp_path: Path) -> None:
    cache = LRUCache(str(tmp_path), max_size=-1)
    (tmp_path / ".a-cache.draft").write_bytes(b"of one that was killed")
    cache.put("a", b"one")
    cache.put("a", b"other")  # what could not be read is replaced
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a-cache": b"other"}
    (tmp_path / "b-cache").mkdir()
    with pytest.raises(OSError, match="b-cache"):
        cache.put("b", b"one")
    assert {path.name for path in tmp_path.iterdir()} == {"a-cache", "b-cache"}
