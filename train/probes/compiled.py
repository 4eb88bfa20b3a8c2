"""Functions of arrays, compiled once."""

import functools
from collections.abc import Callable
from typing import Any

from train import devices


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays in float32, compiled."""
    return devices.jit(function, "float32")
