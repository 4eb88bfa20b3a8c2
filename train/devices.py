"""Where it computes: the mesh, what lies where on it, and what the compiler is told."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.errors import UserError
from train.onednn import calls
from train.onednn.rewriting import rewritten


def make_mesh(data: int | None) -> Mesh:
    """Return a mesh of `data` x 1 devices; the axis "data" shares each batch, and takes all there are by default.

    Raises:
      UserError: there are fewer devices.
    """
    count = data or jax.device_count()
    if count > jax.device_count():
        raise UserError(f"config.mesh.data={count}: this machine has {jax.device_count()} of {jax.default_backend()}")
    return jax.make_mesh((count, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """Each device holds a part of the first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


@dataclass(frozen=True)
class Program:
    """A function that is compiled when it is first called, or by `compile`.

    Attributes:
      jitted: the function.
      kept: whether the compilation cache keeps it.
    """

    jitted: jax.stages.Wrapped
    kept: bool

    def __call__(self, *arguments: Any) -> Any:
        """Return the function's result."""
        with self._cache():
            return self.jitted(*arguments)

    def compile(self, *arguments: Any) -> jax.stages.Compiled:
        """Return it compiled for arguments of these shapes and types."""
        with self._cache():
            return self.jitted.lower(*arguments).compile()

    @contextlib.contextmanager
    def _cache(self) -> Iterator[None]:
        """Have nothing kept in the meantime that took less than for ever to compile."""
        if self.kept:
            yield
            return
        limit = "jax_persistent_cache_min_compile_time_secs"
        before = jax.config.values[limit]
        jax.config.update(limit, float("inf"))
        try:
            yield
        finally:
            jax.config.update(limit, before)


def jit(
    function: Callable[..., Any], precision: str, mesh: Mesh | None = None, *, tuned: bool = True, **options: Any
) -> Program:
    """Return a function to be compiled as it is best for the default backend.

    Args:
      function: of positional arguments, pytrees of arrays.
      precision: what its products are computed in.
      mesh: of the devices that its arguments lie on; None is one device.
      tuned: False leaves all to XLA's defaults.
      options: of jax.jit, but for those of the compiler.
    """
    if not tuned or jax.default_backend() != "cpu":
        return Program(jax.jit(function, **options), kept=True)
    # XLA hands products to the YNN library. For f32 its weight gradients of convolutions are several times slower than
    # XLA's own; its bf16 products are the faster ones. GPUs and TPUs do not know the option and would refuse it.
    fusions = {"xla_cpu_experimental_ynn_fusion_type": ""}
    # XLA cannot divide oneDNN's calls between devices, and cannot write a program with them to a file: it tries, and
    # throws std::bad_alloc (jaxlib 0.10.2).
    if calls.usable(precision) and (mesh is None or mesh.size == 1):
        return Program(jax.jit(rewritten(function, calls.RULES), compiler_options=fusions, **options), kept=False)
    return Program(jax.jit(function, compiler_options=fusions if precision == "float32" else {}, **options), kept=True)


def use_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs between processes.

    Args:
      folder: where; "" switches it off; None is JAX_COMPILATION_CACHE_DIR or else the user's cache folder.
    """
    if folder is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(cache / "oldmasters" / "xla"))
    jax.config.update("jax_enable_compilation_cache", bool(folder))
    if folder:
        folder = str(Path(folder).expanduser())
        jax.config.update("jax_compilation_cache_dir", folder)
        # LeNet-5 compiles in under the second that jax asks for before it keeps a program.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
