"""Where it computes: the mesh, what lies where on it, and what the compiler is told."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from train import hosts
from train.errors import UserError
from train.onednn import rules
from train.onednn.rewriting import rewritten

PyTree = Any


def make_mesh(data: int | None, model: int = 1) -> Mesh:
    """Return a mesh of `data` x `model` devices; `data` is by default what makes use of all there are.

    Every device has a part of each batch, and computes all convolutions on it. The kernels of dense layers are divided
    over the axis "model" (see `of_state`), as AlexNet's were over two GPUs: Krizhevsky 2014, "One weird trick for
    parallelizing convolutional neural networks" (arXiv 1404.5997).

    Raises:
      UserError: there are fewer devices, or the devices of some host would have nothing to do.
    """
    there = jax.device_count()
    count = (data or max(1, there // model)) * model
    if count > there:
        sides = f"config.mesh.model={model}" if data is None else f"config.mesh.data={data}"
        sides += f" times config.mesh.model={model}" if data is not None and model > 1 else ""
        raise UserError(f"{sides}: this machine has {there} of {jax.default_backend()}; choose no more")
    if hosts.count() > 1 and count != there:
        raise UserError(
            f"config.mesh: {count // model} x {model} devices; over several hosts it takes all {there}: leave "
            "config.mesh.data out, and let config.mesh.model divide them"
        )
    shape = (count // model, model)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_batch(mesh: Mesh) -> NamedSharding:
    """Each device holds a part of the first axis."""
    return NamedSharding(mesh, PartitionSpec(("data", "model")))


def local_mesh(count: int | None = None) -> Mesh:
    """Return a mesh of so many of this process's own devices, by default all, for what it computes alone."""
    own = jax.local_devices()[:count]
    return jax.make_mesh((len(own), 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=own)


def put(tree: PyTree, place: Sharding) -> PyTree:
    """Return arrays on devices; over several hosts each, which has all of them, puts what its own devices hold."""
    if place.is_fully_addressable:
        return jax.device_put(tree, place)

    def one(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, place)
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])

    return jax.tree.map(one, tree)


def rows_here(place: NamedSharding, size: int) -> np.ndarray:
    """Return which rows of an array of `size` the devices of this process hold, ascending."""
    parts = place.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[part] for part in parts if part is not None]))


def put_rows(tree: PyTree, place: NamedSharding, size: int) -> PyTree:
    """Return arrays of `size` rows on devices, of which each process has those that `rows_here` names."""
    if place.is_fully_addressable:
        return jax.device_put(tree, place)
    rows = rows_here(place, size)

    def one(leaf: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start, stop, _ = index[0].indices(size)
            return leaf[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]

        return jax.make_array_from_callback((size, *leaf.shape[1:]), place, part)

    return jax.tree.map(one, tree)


def whole(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return arrays of which each process has all, as device_get wants them; all processes must ask."""
    if hosts.count() == 1:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def of_state(mesh: Mesh, shapes: PyTree, dense: Sequence[str]) -> PyTree:
    """Return where the arrays of a state lie: kernels of dense layers in parts over "model", all else everywhere.

    The first dense layer's kernel is divided by its outputs, the next one's by its inputs, which lie there already, and
    so on in turns; so do its moments and its moving average, wherever they stand in the state.

    Args:
      mesh: of devices.
      shapes: of the state's arrays.
      dense: names of the dense layers, in the order of the network.
    """
    model = mesh.shape["model"]
    by_outputs = {"kernel": PartitionSpec(None, "model"), "bias": PartitionSpec("model")}
    by_inputs = {"kernel": PartitionSpec("model", None)}
    divided = {layer: (by_outputs, by_inputs)[place % 2] for place, layer in enumerate(dense)}

    def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        *_, layer, name = ["", *(str(getattr(key, "key", "")) for key in path)] if path else ["", ""]
        spec = divided.get(layer, {}).get(name, PartitionSpec())
        fits = all(axis is None or side % model == 0 for axis, side in zip(spec, leaf.shape, strict=False))
        return NamedSharding(mesh, spec if fits else PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, shapes)


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
    # XLA hands work to the YNN library. For f32 its weight gradients of convolutions are several times slower than
    # XLA's own; its bf16 products are the faster ones. What it makes of a product and the sum behind it is wrong from
    # some 32,768 rows on (jaxlib 0.10.2, jax issue 39103), so it gets products alone. GPUs and TPUs do not know the
    # option and would refuse it.
    option = "xla_cpu_experimental_ynn_fusion_type"
    no_fusions, products_alone = {option: ""}, {option: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    if rules.usable(precision) and (mesh is None or mesh.size == 1):  # XLA cannot divide oneDNN's between devices
        return jax.jit(rewritten(function, rules.RULES), compiler_options=no_fusions, **options)
    return jax.jit(function, compiler_options=no_fusions if precision == "float32" else products_alone, **options)
