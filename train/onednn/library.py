"""The handlers: built against oneDNN when they are first needed, loaded, and made known to XLA.

oneDNN comes with the extra `onednn`. Of its wheels we take the one that runs on GNU's OpenMP: 39 MB, where the newer
`onednn` needs 2 GB of SYCL and OpenCL beside it and computes no faster (docs/speed-log.md).
"""

import ctypes
import functools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import jaxlib

from train import compiler

_SOURCES = [Path(__file__).with_name(name) for name in ("handlers.cc", "few_channels.cc", "columns.cc")]
_HEADER = Path(__file__).with_name("vectors.h")
_PACKAGE = "onednn-devel-cpu-gomp"
# dnnl_cpu_isa_avx512_core_bf16 of oneDNN's dnnl_types.h: the bits of all that a processor must have.
_BFLOAT16 = 0xE7
TARGETS = (
    *("oldmasters_convolution", "oldmasters_weight_gradient", "oldmasters_product"),
    *("oldmasters_few_channels", "oldmasters_few_channels_gradient", "oldmasters_column_sums", "oldmasters_shared_out"),
)


def version() -> str | None:
    """Return the version of the oneDNN that is installed; None where there is none."""
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def computes() -> frozenset[str]:
    """Return the precisions in which the handlers can compute, on this processor: none where they are not to be had.

    Builds them where that has not been done yet. Where it cannot be done, one line on stderr says why.
    """
    installed = version()
    if installed is None:
        return frozenset()
    try:
        handlers = _handlers(installed)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"The extra onednn cannot be used, so that CPUs are slower: {compiler.reason(error)}", file=sys.stderr)
        return frozenset()
    for target in TARGETS:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(handlers, target)), platform="cpu")
    narrow = handlers.dnnl_get_effective_cpu_isa() & _BFLOAT16 == _BFLOAT16
    return frozenset({"float32", "bfloat16"} if narrow else {"float32"})


def _handlers(installed: str) -> ctypes.CDLL:
    """Return the library; raises what `compiler.loaded` raises."""
    # The wheels put headers and libraries into the environment as a system has them in /usr.
    include, libraries = (Path(sys.prefix) / part for part in ("include", "lib"))
    options = [f"-I{jax.ffi.include_dir()}", f"-I{include}"]
    options += [f"-L{libraries}", "-Xlinker", "-rpath", "-Xlinker", str(libraries), "-l:libdnnl.so.3"]
    return compiler.loaded("onednn", [*_SOURCES, _HEADER], options, [installed, jaxlib.__version__], _load)


def _load(library: str) -> ctypes.CDLL:
    """Load it; OpenMP's threads then spin for microseconds and not for ms: XLA's threads need the same cores."""
    spins = "GOMP_SPINCOUNT"
    if spins in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return ctypes.CDLL(library)
    os.environ[spins] = "10000"
    try:
        return ctypes.CDLL(library)
    finally:
        del os.environ[spins]
