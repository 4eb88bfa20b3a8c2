"""Whether arrays are what they were when they were written: tensorstore reads changed bytes without a word."""

import math

import jax
import jax.numpy as jnp

from train.network import PyTree


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
