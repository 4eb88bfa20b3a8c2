"""Where it computes: the mesh, what lies where on it, and what the compiler is told."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.errors import UserError
from train.onednn import rules
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


def jit(
    function: Callable[..., Any], precision: str, mesh: Mesh | None = None, *, tuned: bool = True, **options: Any
) -> jax.stages.Wrapped:
    """Return a function to be compiled as it is best for the default backend.

    Args:
      function: of positional arguments, pytrees of arrays; it is not to be differentiated.
      precision: what its products are computed in.
      mesh: of the devices that its arguments lie on; None is one device.
      tuned: False leaves all to XLA's defaults.
      options: of jax.jit, but for those of the compiler.
    """
    if not tuned or jax.default_backend() != "cpu":
        return jax.jit(function, **options)
    # XLA hands products to the YNN library. For f32 its weight gradients of convolutions are several times slower than
    # XLA's own; its bf16 products are the faster ones. GPUs and TPUs do not know the option and would refuse it.
    no_fusions = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if rules.usable(precision) and (mesh is None or mesh.size == 1):  # XLA cannot divide oneDNN's between devices
        return jax.jit(rewritten(function, rules.RULES), compiler_options=no_fusions, **options)
    return jax.jit(function, compiler_options=no_fusions if precision == "float32" else {}, **options)
