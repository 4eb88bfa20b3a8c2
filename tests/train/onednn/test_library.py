"""The handlers are built once, and where they cannot be, one line says why."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from train.onednn import library

if library.version() is None:
    pytest.skip("oneDNN is not here (the extra onednn: Linux on x86-64)", allow_module_level=True)
# Not what an earlier test of this process has found.
computes = library.computes.__wrapped__


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "oldmasters" / "onednn"


def run() -> subprocess.CompletedProcess[str]:
    """XLA takes a handler once in a process."""
    code = "from train.onednn import library; print(*sorted(library.computes()))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_they_are_built_once_and_again_when_damaged(cache: Path) -> None:
    first = run()
    assert first.stdout in ("float32\n", "bfloat16 float32\n"), first.stderr
    (built,) = cache.glob("*.so")
    made = built.stat().st_mtime_ns
    assert run().stdout == first.stdout
    assert [(file, file.stat().st_mtime_ns) for file in cache.glob("*.so")] == [(built, made)]
    built.unlink()
    built.write_bytes(b"cut off")
    again = run()
    assert again.stdout == first.stdout
    assert first.stderr == again.stderr == ""


def test_without_the_extra_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(library, "_PACKAGE", "not-on-any-index")
    assert library.version() is None
    assert computes() == frozenset()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("no-such-compiler", "install g++"),
        ("#!/bin/sh\necho noise >&2; echo x.cc: error: broken >&2; exit 1", "x.cc: error"),
        ("#!/bin/sh\necho >&2; exit 7", "exit status 7"),
    ],
)
def test_where_they_cannot_be_built_one_line_says_why(
    compiler: str, why: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if compiler.startswith("#!"):
        script = cache.parent.parent / "compiler"
        script.write_text(compiler)
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        compiler = str(script)
    monkeypatch.setenv("CXX", compiler)
    assert computes() == frozenset()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("The extra onednn cannot be used")
    assert why in line
    assert not cache.exists() or {file.name for file in cache.iterdir()} <= {".lock"}


def test_where_the_folder_cannot_be_made(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.parent.write_text("a file stands in the way")
    assert computes() == frozenset()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(cache) in line


def test_a_processor_without_avx512_computes_few_channels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "c++ -mno-avx512f")  # a compiler with an option
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    tests = Path(__file__).with_name("test_rules.py")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), "-k", "few_channels"]
    process = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout
    assert "passed" in process.stdout
