"""Where it computes: the mesh, what lies where on it, and what the compiler is told."""

import os
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.errors import UserError


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


def compiler_options(precision: str) -> dict[str, str]:
    """Return the XLA options of a compilation for the default backend.

    On CPUs XLA hands products to the YNN library. For f32 its weight gradients of convolutions are several times slower
    than XLA's own, so its fusions are switched off there; its bf16 products are the faster ones. GPUs and TPUs do not
    know the option and would refuse it.
    """
    if jax.default_backend() == "cpu" and precision == "float32":
        return {"xla_cpu_experimental_ynn_fusion_type": ""}
    return {}


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
