"""Compiled programs appear whole in the folder that processes share."""

import subprocess
import sys
from pathlib import Path

import pytest
from jax._src.lru_cache import LRUCache

from tests.conftest import CHECKOUT

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
