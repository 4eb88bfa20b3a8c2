"""What is kept between processes: compiled programs."""

import contextlib
import fcntl
import os
from pathlib import Path

import jax
from jax._src import lru_cache  # nothing public has what is wanted here; tests tell when it is another


def user_folder() -> Path:
    """Return where this program may keep what it can make anew, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oldmasters"


def use_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs between processes.

    Args:
      folder: where; "" switches it off; None is JAX_COMPILATION_CACHE_DIR or else the user's cache folder.
    """
    if folder is None:
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(user_folder() / "xla"))
    jax.config.update("jax_enable_compilation_cache", bool(folder))
    if folder:
        folder = str(Path(folder).expanduser())
        jax.config.update("jax_compilation_cache_dir", folder)
        lru_cache.LRUCache.put = _put_whole  # type: ignore[assignment,method-assign]
        # LeNet-5 compiles in under the second that jax asks for before it keeps a program.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


_PUT_IN_PLACE = lru_cache.LRUCache.put


def _put_whole(cache: lru_cache.LRUCache, key: str, value: bytes) -> None:
    """Write an entry so that it appears whole, in the place of one that could not be read.

    jax writes it in place, and not again where there is one: of a process that was killed meanwhile, or met a full
    disk, half an entry would stay for ever, and a warning at every start.
    """
    if cache.eviction_enabled or "://" in str(cache.path):  # entries have companions, or no locks
        _PUT_IN_PLACE(cache, key, value)
        return
    place = Path(str(cache.path)) / f"{key}-cache"
    draft = place.with_name(f".{place.name}.draft")
    with draft.open("ab") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if not (draft.exists() and os.path.samestat(draft.stat(), os.fstat(file.fileno()))):
            return  # another process, which wrote the same, has put it in its place
        try:
            file.truncate(0)  # of one that was killed
            file.write(value)
            file.flush()
            draft.replace(place)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
