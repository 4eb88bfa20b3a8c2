"""C++ of ours, compiled when it is first needed, for this machine, and kept in the user's cache folder."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from train.cache import user_folder

# Linux tells what the processor can do: what the compiler makes for one processor, another may not know.
_PROCESSOR = Path("/proc/cpuinfo")


def loaded(
    name: str,
    sources: Sequence[Path],
    options: Sequence[str] = (),
    depends_on: Sequence[str] = (),
    load: Callable[[str], ctypes.CDLL] = ctypes.CDLL,
) -> ctypes.CDLL:
    """Return the library made of the sources; it is compiled where the cache folder does not have it.

    Args:
      name: of its folder there.
      sources: files to be compiled, and headers beside them.
      options: of the compiler, besides those for a fast library.
      depends_on: what else must be the same for a library to be used again, such as versions.
      load: loads it, by its path.

    Raises:
      OSError: there is no compiler, or the folder cannot be written.
      subprocess.SubprocessError: it does not compile.
    """
    compiler, *given = _compiler()
    made_of = (*(source.read_text() for source in sources), compiler, *given, *options, *depends_on, _processor())
    digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    try:
        library = user_folder() / name / f"{digest}.so"
    except RuntimeError as error:  # of a user without a home
        raise OSError(str(error)) from error
    if library.exists():
        try:
            return load(str(library))
        except OSError:  # damaged, or built on another machine that shares the folder
            library.unlink()
    if shutil.which(compiler) is None:
        raise OSError(f"there is no C++ compiler {compiler}; install g++, or set CXX")
    library.parent.mkdir(parents=True, exist_ok=True)
    draft = library.with_name(".draft.so")
    with (library.parent / ".lock").open("a") as lock:
        # Several processes may want it at once: one builds. Its compiler has the lock too, for it lives on where the
        # process is killed, and writes the draft until it ends.
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            command = [compiler, *given, "-std=c++20", "-O2", "-march=native", "-ffp-contract=fast", "-Wno-psabi"]
            command += ["-shared", "-fPIC", "-o", str(draft)]
            command += [str(source) for source in sources if source.suffix == ".cc"]
            command += options
            inherited = [lock.fileno()]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, pass_fds=inherited)
                draft.replace(library)
            finally:
                draft.unlink(missing_ok=True)
    return load(str(library))


def reason(error: OSError | subprocess.SubprocessError) -> str:
    """Return one line of why `loaded` has raised: of what a compiler has said, the first that speaks of an error."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = [line for line in said.splitlines() if any(word in line for word in ("error", "cannot", "No space"))]
    return lines[0] if lines else str(error)


def _compiler() -> list[str]:
    """Return the compiler and its options."""
    named = os.environ.get("CXX", "").strip() or "c++"
    try:
        return shlex.split(named)
    except ValueError as error:
        raise OSError(f"CXX={named}: is no command ({error})") from error


def _processor() -> str:
    if not _PROCESSOR.exists():
        return platform.processor() or platform.machine()
    return next((line for line in _PROCESSOR.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
