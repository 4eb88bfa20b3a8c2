"""What is kept between processes: compiled programs."""

import math
import os
import shutil
import sys
import warnings
from pathlib import Path

import jax
from jax._src import lru_cache  # nothing public has what is wanted here; tests tell when it is another

from train.whole import write_whole

# Bytes that must be free, or it is not tried: programs of large networks take some megabytes each.
_ROOM = 2**26


def user_folder() -> Path:
    """Return where this program may keep what it can make anew, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oldmasters"


def use_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs between processes; where new ones cannot be kept, one line on stderr says why.

    Args:
      folder: where; "" switches it off; None is JAX_COMPILATION_CACHE_DIR or else the user's cache folder.
    """
    shortest = 0.0  # LeNet-5 compiles in under the second that jax asks for before it keeps a program
    try:
        if folder is None:
            folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if folder is None:
            folder = str(user_folder() / "xla")
        if folder and not _is_remote(folder):
            folder = str(Path(folder).expanduser())
            _check(Path(folder))
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        print(f"Compiled programs are not kept, so that starts take longer: {error}", file=sys.stderr)
        shortest = math.inf  # those that are there are read
        if folder and folder.startswith("~"):  # of nobody: jax would make a folder of that name
            folder = ""
    jax.config.update("jax_enable_compilation_cache", bool(folder))
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)
        lru_cache.LRUCache.put = _put_whole  # type: ignore[assignment,method-assign]
        # Of a disk that fills meanwhile, it would say so program by program.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)


def _is_remote(folder: str) -> bool:
    return "://" in folder


def _check(folder: Path) -> None:
    """Raise OSError where nothing can be kept in a folder, which need not be there yet."""
    there = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} cannot be written to")
    if (free := shutil.disk_usage(there).free) < _ROOM:
        raise OSError(f"{there} has {free / 1e6:.1f} MB of room, and {_ROOM / 1e6:.0f} MB are wanted")


_PUT_IN_PLACE = lru_cache.LRUCache.put


def _put_whole(cache: lru_cache.LRUCache, key: str, value: bytes) -> None:
    """Write an entry so that it appears whole, in the place of one that could not be read.

    jax writes it in place, and not again where there is one: of a process that was killed meanwhile, or met a full
    disk, half an entry would stay for ever, and a warning at every start.
    """
    if cache.eviction_enabled or _is_remote(str(cache.path)):  # entries have companions; or there are no drafts
        _PUT_IN_PLACE(cache, key, value)
    else:
        write_whole(Path(str(cache.path)) / f"{key}-cache", value)
