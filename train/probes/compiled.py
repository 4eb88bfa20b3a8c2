"""Functions of arrays, compiled once."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from train import devices


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that XLA has compiled with our options for float32."""
    return jax.jit(function, compiler_options=devices.compiler_options("float32"))
