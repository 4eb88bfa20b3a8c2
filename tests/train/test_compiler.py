"""C++ is built once, by one process at a time, and a build that is killed leaves nothing in the way."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from train import compiler

BUILD = "import pathlib, sys; from train import compiler; compiler.loaded('x', [pathlib.Path(sys.argv[1])])"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source, a compiler that tells when it begins and takes its time, and an empty cache folder."""
    script = tmp_path / "compiler"
    script.write_text(f'#!/bin/sh\necho >> {tmp_path}/begun\nsleep 0.5\nexec c++ "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "x.cc").write_text('extern "C" int answer() { return 42; }\n')
    return tmp_path / "x.cc"


def left_behind(folder: Path) -> list[str]:
    """What lies in the cache folder beside the library."""
    libraries, others = [], []
    for path in (folder / "cache" / "oldmasters" / "x").iterdir():
        (others if path.name.startswith(".") or path.suffix != ".so" else libraries).append(path.name)
    assert len(libraries) == 1
    return others


def test_a_build_that_is_killed_is_waited_for_and_made_again(source: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(source)], cwd=CHECKOUT, env=os.environ)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert compiler.loaded("x", [source]).answer() == 42
    assert (tmp_path / "begun").read_text().count("\n") == 2
    assert left_behind(tmp_path) == [".lock"]
    assert compiler.loaded("x", [source]).answer() == 42
    assert (tmp_path / "begun").read_text().count("\n") == 2


def test_of_several_one_builds(source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        libraries = list(pool.map(lambda _: compiler.loaded("x", [source]), range(3)))
    assert [library.answer() for library in libraries] == [42] * 3
    assert (tmp_path / "begun").read_text().count("\n") == 1
    assert left_behind(tmp_path) == [".lock"]
