"""Whether a checkpoint's arrays are finite and as they were written: tensorstore reads changed bytes without a word."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.errors import NotFiniteError, UserError
from train.network import PyTree

# Arrays of which the names are told.
_NAMED = 3
# What is said of weights that are finite and make what is not.
USELESS = "with these weights numbers overflow on the way; show it images prepared as its own were"
# Arrays may be so many times as large as what they are packed into; of small ones it does not matter.
_MOST_TIMES, _SMALL = 100, 2**30


class Replaced(UserError):
    """A checkpoint that the run, which is training, has removed meanwhile."""


class Unreadable(UserError):
    """A checkpoint that cannot be read.

    Attributes:
      reason: without what to do.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}; without this folder, the run goes on from the checkpoint before it, or begins again"
        )
        self.reason = reason


@jax.jit
def _sums(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_sum(leaf) for leaf in leaves])


def checksums(tree: PyTree) -> list[int]:
    """Return a number for each array of a tree, in the order of `jax.tree.leaves`; the same on any mesh.

    It is the sum modulo 2^32 of the elements' bits, each times an odd number of its own: so a bit that has changed
    always shows, and of other damage all but one in four thousand million. It is computed where the arrays lie.
    """
    leaves = jax.tree.leaves(tree)
    return jax.device_get(_sums(leaves)).tolist() if leaves else []


def sealed(progress: dict[str, Any], **items: PyTree) -> dict[str, Any]:
    """Return what is written beside arrays: the progress, and what tells whether any of it has changed."""
    sums = {name: checksums(tree) for name, tree in items.items()}
    return {"progress": progress, "checksums": sums, "crc32": _crc32(progress, sums)}


def unsealed(seal: dict[str, Any], items: Mapping[str, PyTree]) -> dict[str, Any]:
    """Return the progress, where it and the arrays that have been read are as they were written.

    Raises:
      ValueError: they are not.
    """
    if "checksums" not in seal:
        raise ValueError("it has no checksums: damaged, or written before there were any")
    progress, sums = seal["progress"], seal["checksums"]
    if _crc32(progress, sums) != seal["crc32"]:
        raise ValueError("bytes of its progress have changed since it was written")
    for name, tree in items.items():
        if checksums(tree) != sums[name]:
            raise ValueError(f"bytes of its {name} have changed since it was written")
    return progress


def _crc32(*values: Any) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


@jax.jit
def _finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])


def not_finite(tree: PyTree) -> str:
    """Say which arrays hold what is no number, or infinite; nothing where all are finite.

    Of parameters the names are like conv1.kernel; of a whole state the others begin with what they are: stats, ema,
    optimizer.
    """
    named = jax.tree_util.tree_leaves_with_path(tree)
    finite = jax.device_get(_finite([leaf for _, leaf in named])).tolist() if named else []
    names = [jax.tree_util.keystr(path, simple=True, separator=".").removeprefix("params.") for path, _ in named]
    bad = [name for name, fine in zip(names, finite, strict=True) if not fine]
    return ", ".join(bad[:_NAMED]) + (f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else "")


def diverged(error: NotFiniteError, learning_rate: float, kept: int | None, state: PyTree) -> str:
    """Return the line that tells of a number that is not finite: where, in what, what is kept, and what to try.

    Args:
      error: which number, and at which step.
      learning_rate: config.schedule.learning_rate.
      kept: the step of the last checkpoint, if there is one.
      state: where the run stands now.
    """
    bad = not_finite(state._replace(frozen={}))
    return (
        f"{error}; "
        + (f"not finite are now {bad}; " if bad and bad not in str(error) else "")
        + (f"the checkpoint of step {kept:,} is kept" if kept is not None else "there is no checkpoint before it")
        + f"; try config.optimizer.clip_norm=1, or a config.schedule.learning_rate below {learning_rate:g}"
    )


def check_answers(answers: np.ndarray, network: object, ids: Sequence[str] | None = None) -> None:
    """Refuse a network whose answers are no numbers: NaN is not smaller than anything, so it would rank first.

    Args:
      answers: to N images, `[N, classes]`.
      network: what it is called.
      ids: what each image is called, if it has a name.

    Raises:
      UserError: one is not finite; names the first such image.
    """
    for row in np.flatnonzero(~np.isfinite(answers).all(-1)).tolist():
        raise UserError(
            f"{network}: the answer to {ids[row] if ids else f'image {row}'} is not finite; {USELESS}, "
            "or train or import others"
        )


def hold_size(tree: PyTree, folder: Path) -> None:
    """Refuse arrays that a folder can hardly hold: what is missing of an array on disk is zeros in memory.

    Args:
      tree: of shapes and types, as they would be read.
      folder: of all files that they are read from.

    Raises:
      ValueError: they are too large.
    """
    wanted = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    if wanted > _SMALL and wanted > _MOST_TIMES * sum(file.stat().st_size for file in folder.rglob("*")):
        raise ValueError(f"it would be {wanted:,} bytes, and is far fewer")


def _sum(leaf: jax.Array) -> jax.Array:
    width = jnp.dtype(leaf.dtype).itemsize
    if leaf.dtype == jnp.bool_:
        bits = leaf.astype(jnp.uint32)
    else:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)
    # The place in the array, without a reshape: that would gather the parts of an array that devices share.
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        stride = math.prod(leaf.shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride)
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
