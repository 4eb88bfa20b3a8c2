"""What is kept between processes: compiled programs."""

import os
from pathlib import Path

import jax


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
        # LeNet-5 compiles in under the second that jax asks for before it keeps a program.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
