"""Layers by oneDNN and by plain lax are the same functions, at every geometry that the networks have."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax.experimental import serialize_executable

from models import NETWORKS
from models.arithmetic import Window
from models.layers import BatchNorm, Convolution, Dense
from models.pooling import MaxPool, Subsampling
from train import devices
from train.onednn import library

if not library.computes():
    pytest.skip("oneDNN is not here (the extra onednn: Linux on x86-64)", allow_module_level=True)
# The side of the images, in pixels.
SIZES = {"lenet5": 32, "lenet1d": 8, "alexnet": 224, "vgg": 224, "mlp": 28}
# The largest difference, as a share of the largest value.
CLOSE = {"float32": 1e-5, "bfloat16": 2**-6}


# Fewer channels than this, on maps of so many pixels a side, have kernels of their own, for so many images.
FEW, SMALL, MANY = 16, 32, 16


def geometries() -> Iterator[Any]:
    """Yield (network, variant, stage, batch, precision) of each layer with products that differs from all before it."""
    seen = set()
    for name in SIZES:
        for variant in NETWORKS[name]:
            for stage, layer, shape in layers(name, variant, "float32"):
                window = (layer.strides, layer.padding, layer.feature_group_count) if type(layer) is Convolution else ()
                parameters = jax.tree.leaves(nnx.state(layer))
                key = (type(layer), shape, window, tuple(parameter.shape for parameter in parameters))
                if key not in seen:
                    seen.add(key)
                    few = type(layer) is Convolution and min(shape[-1], parameters[-1].shape[-1]) < FEW
                    # Where there are few channels also as many as leave the last block of images unfilled.
                    for batch in (2, 37) if few and len(shape) == 3 and shape[0] <= SMALL else (2,):
                        for precision in sorted(library.computes()):
                            label = f"{name}-{variant}-{stage}-{batch}-{precision}"
                            # A hundred million numbers, and AlexNet has fc6, too.
                            marks = pytest.mark.slow if (name, stage) == ("vgg", "fc6") else ()
                            yield pytest.param(name, variant, stage, batch, precision, id=label, marks=marks)


def layers(name: str, variant: str | None, precision: str) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Yield the name, the layer, without numbers, and the shape that it is given."""
    size = SIZES[name] if variant in (None, "torchvision") or name != "alexnet" else 227
    network = nnx.eval_shape(lambda: NETWORKS[name][variant](image_size=size, dtype=precision, rngs=nnx.Rngs(0)))
    shape = network.input_shape
    for stage in network.plan:
        for layer in network.layers_of(stage):
            if isinstance(layer, nnx.Module) and not isinstance(layer, BatchNorm | Subsampling):
                yield stage.name, layer, shape
            shape = layer.output(shape)


@pytest.mark.parametrize(("name", "variant", "stage", "batch", "precision"), list(geometries()))
def test_a_layer_and_its_gradients(name: str, variant: str | None, stage: str, batch: int, precision: str) -> None:
    """XLA's own sums in bfloat16 are rounded at each step: what both are compared with is plain lax in float64."""

    def at(precision: str) -> Any:
        return next((layer, shape) for at, layer, shape in layers(name, variant, precision) if at == stage)

    layer, shape = at(precision)
    random = np.random.default_rng(0)

    def normal(shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(random.standard_normal(shape, "float32"), precision)

    state = nnx.to_pure_dict(nnx.state(layer))
    params = jax.tree.map(lambda leaf: normal(leaf.shape).astype(leaf.dtype), state)
    images, gradient = normal((batch, *shape)), normal((batch, *layer.output(shape)))

    def values(layer: Any) -> Any:
        graph = nnx.graphdef(layer)

        def call(params: Any, images: jax.Array, gradient: jax.Array) -> Any:
            result, back = jax.vjp(lambda params, images: nnx.merge(graph, params)(images), params, images)
            return result, back(gradient)

        return call

    ours = devices.jit(values(layer), precision).lower(params, images, gradient).compile()
    assert asked(ours) == handlers(layer, batch, shape)
    found = ours(params, images, gradient)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, "float64")), (params, images, gradient))
        expected = jax.jit(values(at("float64")[0]))(*exact)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert theirs.dtype == jnp.float64
        assert mine.shape == theirs.shape
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(np.float64(mine), theirs, rtol=0, atol=CLOSE[precision] * scale)


def asked(program: jax.stages.Compiled) -> set[str]:
    """Return which handlers it calls."""
    return {name for name in library.TARGETS if f'custom_call_target="{name}"' in program.as_text()}


def handlers(layer: Any, batch: int, shape: tuple[int, ...]) -> set[str]:
    """Return which handlers compute a layer with its gradients, of which that of the biases is a sum of columns."""
    if isinstance(layer, Dense):
        return {"oldmasters_product", "oldmasters_column_sums"}
    few = [
        type(layer) is Convolution and channels < FEW and batch >= MANY and shape[0] <= SMALL
        for channels in (layer.output(shape)[-1], shape[-1])
    ]
    forward, backward = ("oldmasters_few_channels" if there else "oldmasters_convolution" for there in few)
    gradient = "oldmasters_few_channels_gradient" if few[0] else "oldmasters_weight_gradient"
    return {forward, backward, gradient, "oldmasters_column_sums"}


@pytest.mark.parametrize("dtype", sorted(library.computes()))
@pytest.mark.parametrize(
    ("maps", "kernels", "strides", "padding"),
    [
        ((33, 9, 7, 3), (3, 4, 3, 11), (1, 1), ((2, 0), (1, 3))),
        ((40, 8, 9, 2), (4, 2, 2, 15), (2, 3), ((0, 1), (2, 2))),
        ((16, 5, 5, 20), (5, 5, 20, 1), (1, 1), ((4, 4), (4, 4))),
        ((64, 1, 30, 1), (1, 7, 1, 9), (1, 2), ((0, 0), (0, 0))),
    ],
)
def test_few_channels(maps: Any, kernels: Any, strides: Any, padding: Any, dtype: str) -> None:
    """What no network here has: strides, uneven padding, windows that are no squares, more sums than registers."""

    def values(maps: jax.Array, kernels: jax.Array, gradient: jax.Array) -> Any:
        def forward(maps: jax.Array, kernels: jax.Array) -> jax.Array:
            numbers = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(maps, kernels, strides, padding, dimension_numbers=numbers)

        result, back = jax.vjp(forward, maps, kernels)
        return result, back(gradient)

    random = np.random.default_rng(0)
    sides = [
        (side + sum(around) - size) // step + 1
        for side, around, size, step in zip(maps[1:3], padding, kernels[:2], strides, strict=True)
    ]
    shapes = (maps, kernels, (maps[0], *sides, kernels[3]))
    operands = [jnp.asarray(random.standard_normal(shape, "float32"), dtype) for shape in shapes]
    program = devices.jit(values, dtype).lower(*operands).compile()
    assert {"oldmasters_few_channels", "oldmasters_few_channels_gradient"} <= asked(program)
    with jax.enable_x64(True):
        expected = jax.jit(values)(*(jnp.asarray(np.asarray(operand, "float64")) for operand in operands))
    for mine, theirs in zip(jax.tree.leaves(program(*operands)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.float64(mine), theirs, rtol=0, atol=CLOSE[dtype] * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", sorted(library.computes()))
def test_few_channels_are_rounded_to_the_nearest_and_may_be_not_finite(dtype: str) -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -np.inf, np.nan, 2**-140, 0], np.float32)
    maps = jnp.asarray(np.tile(values[:, None, None, None], (4, 1, 1, 2)), dtype)
    kernels = jnp.asarray([[[[1.0], [2.0**-9]]]], dtype)  # adds to each half of its last bit

    def made(maps: jax.Array, kernels: jax.Array) -> jax.Array:
        return convolve(maps, kernels, "VALID")

    program = devices.jit(made, dtype).lower(maps, kernels).compile()
    assert asked(program) == {"oldmasters_few_channels"}
    exact = maps.astype(jnp.float32) @ kernels.astype(jnp.float32)[0, 0]
    np.testing.assert_array_equal(np.float32(program(maps, kernels)), np.float32(exact.astype(dtype)))


def test_few_channels_come_to_the_same_bits_each_time() -> None:
    random = np.random.default_rng(0)
    maps, gradient = (random.standard_normal((200, 14, 14, 6), "float32") for _ in range(2))

    def values(maps: jax.Array, gradient: jax.Array) -> Any:
        _, back = jax.vjp(convolve, maps, jnp.ones((5, 5, 6, 6)))
        return back(gradient)

    program = devices.jit(values, "float32").lower(maps, gradient).compile()
    first = program(maps, gradient)
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, program(maps, gradient), first)


@pytest.mark.parametrize("dtype", sorted(library.computes()))
@pytest.mark.parametrize(
    ("maps", "size"),
    [
        ((3, 6, 8, 6), (2, 2)),
        ((2, 9, 4, 1), (3, 2)),
        ((1, 4, 6, 20), (1, 3)),
        ((2, 7, 7, 33), (3, 3)),
        ((40, 28, 28, 16), (2, 2)),
    ],
)
def test_the_gradient_of_touching_max_pooling(maps: Any, size: Any, dtype: str) -> None:
    """Small whole numbers: many pixels of a window are its maximum, and 7 rows leave one over."""

    def back(maps: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(MaxPool(tuple(Window(side, side) for side in size)), maps)[1](gradient)[0]

    random = np.random.default_rng(0)
    pooled = (maps[0], maps[1] // size[0], maps[2] // size[1], maps[3])
    operands = [jnp.asarray(random.integers(-2, 2, shape), dtype) for shape in (maps, pooled)]
    program = devices.jit(back, dtype).lower(*operands).compile()
    assert asked(program) == {"oldmasters_shared_out"}
    np.testing.assert_allclose(
        np.float32(program(*operands)),
        np.float32(jax.jit(back)(*operands)),
        rtol=CLOSE[dtype],
    )


@pytest.mark.parametrize("dtype", sorted(library.computes()))
@pytest.mark.parametrize("shape", [(3, 5), (1, 4097), (130, 1000), (7, 11, 13, 6), (70_001, 7), (256, 28, 28, 16)])
def test_sums_of_columns(shape: Any, dtype: str) -> None:
    array = jnp.asarray(np.random.default_rng(0).standard_normal(shape, "float32"), dtype)
    axes = tuple(range(len(shape) - 1))
    program = devices.jit(lambda array: jnp.sum(array, axes, dtype="float32"), dtype).lower(array).compile()
    assert asked(program) == {"oldmasters_column_sums"}
    exact, size = np.float64(array).sum(axes), np.abs(np.float64(array)).sum(axes)
    assert (np.abs(program(array) - exact) <= 1e-6 * size).all()


def other_work(images: jax.Array, kernel: jax.Array, a: jax.Array) -> list[jax.Array]:
    """What oneDNN is not asked to do."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolve(images: jax.Array, padding: Any = "SAME", **more: Any) -> jax.Array:
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=numbers, **more)

    return [
        convolve(images, ((1, 1), (1, 1)), lhs_dilation=(2, 2)),
        convolve(images, ((-1, 2), (0, 0))),
        convolve(images[:0]),
        jax.lax.conv_general_dilated(
            images.astype("float16"), kernel.astype("float16"), (1, 1), "SAME", dimension_numbers=numbers
        ).astype("float32"),
        jnp.einsum("bij,bkj->bik", a, a),
        jnp.einsum("bij,bij->b", a, a),
        a.sum(2),
        a[0].astype("int32") @ a[1].astype("int32").T,
    ]


def test_gradients_that_it_cannot_make_are_left_to_xla() -> None:
    def gradient(maps: jax.Array, kernels: jax.Array) -> jax.Array:
        def convolved(kernels: jax.Array) -> jax.Array:
            return convolve(maps, kernels, ((0, -2), (0, 0))).sum()

        return jax.grad(convolved)(kernels)

    maps, kernels = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    mine = devices.jit(gradient, "float32")(maps, kernels)
    np.testing.assert_allclose(mine, gradient(maps, kernels), rtol=1e-4, atol=1e-5)


def test_what_it_has_no_kernels_for_is_left_to_xla() -> None:
    operands = [jax.random.normal(jax.random.key(0), shape) for shape in ((2, 6, 6, 3), (3, 3, 3, 4), (2, 5, 4))]
    compiled = devices.jit(other_work, "float32").lower(*operands).compile()
    assert not asked(compiled)
    for mine, theirs in zip(compiled(*operands), other_work(*operands), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_sum_is_as_good_as_xlas() -> None:
    array = np.random.default_rng(0).normal(size=(3, 500, 7)).astype(np.float32)
    mine = devices.jit(lambda x: x.sum((0, 1)), "float32")(array)
    np.testing.assert_allclose(mine, array.astype(np.float64).sum((0, 1)), atol=2e-4)
    array[1, 3, 2], array[2, 4, 5] = np.inf, np.nan
    mine = devices.jit(lambda x: x.sum((0, 1)), "float32")(array)
    assert [place for place, value in enumerate(mine) if not np.isfinite(value)] == [2, 5]


def convolve(images: jax.Array, kernels: jax.Array, padding: Any = "SAME") -> jax.Array:
    return jax.lax.conv_general_dilated(images, kernels, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


IMAGES, KERNELS = np.ones((2, 6, 6, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(**more: Any) -> set[str]:
        return asked(devices.jit(convolve, "float32", **more).lower(IMAGES, KERNELS).compile())

    assert calls()
    assert not calls(tuned=False)
    monkeypatch.setenv("OLDMASTERS_ONEDNN", "0")
    assert not calls()


def test_programs_with_it_can_be_kept() -> None:
    compiled = devices.jit(convolve, "float32").lower(IMAGES, KERNELS).compile()
    again = serialize_executable.deserialize_and_load(*serialize_executable.serialize(compiled))
    np.testing.assert_array_equal(again(IMAGES, KERNELS), compiled(IMAGES, KERNELS))


def test_what_it_refuses_python_raises() -> None:
    product = jax.ffi.ffi_call("oldmasters_product", jax.ShapeDtypeStruct((2, 2), jnp.float32))
    order = np.array([0, 1], np.int64)
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN"):
        product(jnp.ones((2, 3)), jnp.ones((4, 2)), left=order, right=order)


def test_it_is_not_in_what_is_exported() -> None:
    devices.jit(convolve, "float32")(IMAGES, KERNELS)  # compiled by this process before
    module = export.export(jax.jit(convolve), platforms=("cpu", "cuda", "tpu"))(IMAGES, KERNELS).mlir_module()
    assert "convolution" in module
    assert not any(target in module for target in library.TARGETS)


def test_several_devices_share_plain_convolutions() -> None:
    code = """
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 2)
from train import devices
for count in (1, 2):
    mesh = devices.make_mesh(count)
    product = devices.jit(lambda a, b: a @ b, "float32", mesh,
                          in_shardings=(devices.by_batch(mesh), devices.replicated(mesh)))
    print("oldmasters" in product.lower(jnp.ones((4, 3)), jnp.ones((3, 5))).as_text())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert process.stdout == "True\nFalse\n", process.stderr
