"""Every layer's gradient in float32 against central differences, at every number; and compiled against eager.

The differences are of the same layer, computed in float64, so they are good to nine digits, and one number of a
gradient that is wrong by a ten-thousandth of the largest shows.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from models import LeNet5, LeNet1998, geometry, layers, pooling
from models.arithmetic import Window
from models.geometry import windows
from models.layers import (
    ACTIVATIONS,
    BatchNorm,
    Convolution,
    Dense,
    Dropout,
    LocalResponseNorm,
    PartialConvolution,
    RadialBasis,
    Series,
)
from models.network import Network
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool, Subsampling

# Of the largest number: what a float32 gradient may be off, and a compiled program from an eager one.
GRADIENT, COMPILED = 2e-5, 1e-6
# Makes a layer that computes in a type.
Make = Callable[[str], Any]


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


def convolution(channels: int, width: int, *shape: Window, **more: Any) -> Make:
    return lambda dtype: Convolution(channels, width, shape, dtype=dtype, rngs=rngs(), **more)


def partial(*shape: Window) -> Make:
    normal = nnx.initializers.normal(1.0)
    table = ((0, 1), (2,), (0, 2), (0, 1, 2))
    return lambda dtype: PartialConvolution(table, 3, shape, dtype=dtype, kernel_init=normal, rngs=rngs())


def subsampling(channels: int, *shape: Window) -> Make:
    normal = nnx.initializers.normal(1.0)
    return lambda dtype: Subsampling(channels, shape, dtype=dtype, coefficient_init=normal, rngs=rngs())


def plain(layer: Any) -> Make:
    return lambda dtype: layer


# What is seen of a map by windows of each kind; on 7x6 pixels the last leave some over, or reach beyond the edge.
KINDS = {
    "touching": windows(2, stride=2),
    "touching, left over": (Window(3, 3), Window(4, 4)),
    "overlapping": windows(3, stride=2),
    "padded": windows(3, 1, 1),
    "apart": windows(2, stride=3),
    "rounded up": windows(2, 3, ceil=True),
    "dilated, of two kinds": (Window(2, 1, (0, 1), 2), Window(3, 2, (1, 0))),
    "one pixel": windows(1),
}
# By name: a layer, and the shape of an example that it is given.
CASES: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{f"convolution, {name}": (convolution(2, 3, *kind), (7, 6, 2)) for name, kind in KINDS.items()},
    "convolution, groups": (convolution(4, 6, *windows(3, 1, 1), groups=2), (5, 4, 4)),
    "convolution, no bias": (convolution(2, 3, *windows(3), use_bias=False), (5, 5, 2)),
    "convolution, as large as the map": (convolution(2, 3, *windows(4)), (4, 4, 2)),
    "convolution, series": (convolution(2, 3, Window(5, 2, (2, 1))), (11, 2)),
    "convolution, volume": (convolution(1, 2, *windows(2, 1, 1, dimensions=3)), (3, 2, 3, 1)),
    "partial convolution": (partial(*windows(3)), (5, 4, 3)),
    "partial convolution, padded": (partial(Window(3, 2, (1, 1)), Window(2, 1, (0, 1), 2)), (6, 5, 3)),
    "dense, of maps": (lambda dtype: Dense(24, 5, dtype=dtype, rngs=rngs()), (3, 4, 2)),
    "dense": (lambda dtype: Dense(7, 3, dtype=dtype, rngs=rngs()), (7,)),
    "radial basis": (plain(RadialBasis(((1, -1, 1), (-1, -1, -1), (1, 1, -1)))), (3,)),
    "batch norm": (lambda dtype: BatchNorm(3, momentum=0.9, dtype=dtype, rngs=rngs()), (3, 4, 3)),
    **{f"norm over {size}": (plain(LocalResponseNorm(size, 0.3, 0.75, 2.0)), (2, 2, 7)) for size in (3, 4, 5, 9)},
    "alexnet's norm": (plain(LocalResponseNorm()), (3, 3, 6)),
    "dropout": (plain(Dropout(0.4)), (4, 5)),
    "series": (plain(Series()), (3, 4, 2)),
    **{f"max pooling, {name}": (plain(MaxPool(kind)), (7, 6, 2)) for name, kind in KINDS.items()},
    "max pooling, series": (plain(MaxPool((Window(3, 2, (1, 1)),))), (11, 2)),
    **{f"average pooling, {name}": (plain(AveragePool(kind)), (7, 6, 2)) for name, kind in KINDS.items()},
    "average pooling, padding counts": (plain(AveragePool(windows(3, 2, 1), count_padding=True)), (7, 6, 2)),
    "subsampling": (subsampling(2, *windows(2, stride=2)), (6, 4, 2)),
    "subsampling, overlapping": (subsampling(2, *windows(3, stride=2)), (7, 6, 2)),
    **{f"adaptive pooling to {size}": (plain(AdaptiveAveragePool(size)), (5, 3, 2)) for size in (1, 2, 3, 6)},
}
# Those that compute in float32 whatever comes in, or draw other numbers in float64; they are linear or square, so that
# differences of any step are exact.
NARROW = {"radial basis", "dropout"}
# Without a key they are other functions.
TRAINING = {"batch norm", "dropout"}


def test_every_layer_is_here() -> None:
    """A layer that is added must be added above."""
    bases = (geometry.Elementwise, geometry.Sliding)
    there = {
        kind
        for module in (layers, pooling)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, (*bases, nnx.Module)) and kind.__module__ == module.__name__
    }
    assert there == {type(make("float32")) for make, _ in CASES.values()}
    assert len(there) == 12


def differences(function: Callable[..., jax.Array], arguments: Any, step: float) -> Any:
    """Return central differences of a function with respect to every number of its arguments."""
    flat, unravel = ravel_pytree(arguments)

    def at(place: jax.Array) -> jax.Array:
        up, down = (function(*unravel(flat.at[place].add(amount))) for amount in (step, -step))
        return (up - down) / (2 * step)

    return unravel(jax.jit(lambda: jax.lax.map(at, jnp.arange(flat.size), batch_size=64))())


def close(found: Any, expected: Any, share: float) -> None:
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.shape == theirs.shape
        scale = max(np.abs(theirs).max(initial=0), 1e-3)
        np.testing.assert_allclose(np.float64(mine), np.float64(theirs), rtol=0, atol=share * scale)


def check(function: Callable[[str], Callable[..., jax.Array]], arguments: Any, *, narrow: bool = False) -> None:
    """Hold a function's gradients in float32, eager and compiled, against differences in float64.

    Args:
      function: from the type that it computes in.
      arguments: float32.
      narrow: whether the differences are in float32 too.
    """
    kind = "float32" if narrow else "float64"
    eager = function("float32")(*arguments)
    weights = np.random.default_rng(1).normal(size=eager.shape).astype(np.float32)

    def weighed(dtype: str) -> Callable[..., jax.Array]:
        of = function(dtype)
        return lambda *arguments: jnp.sum(weights * of(*arguments))

    places = tuple(range(len(arguments)))
    gradient = jax.grad(weighed("float32"), places)
    found = gradient(*arguments)
    with jax.enable_x64(not narrow):
        exact = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), kind), arguments)
        expected = differences(weighed(kind), exact, 2.0**-3 if narrow else 1e-5)
    close(found, expected, GRADIENT)
    value, back = jax.jit(lambda *arguments: (function("float32")(*arguments), gradient(*arguments)))(*arguments)
    close(value, eager, COMPILED)
    close(back, found, COMPILED)


def of_layer(make: Make, name: str) -> tuple[Callable[[str], Callable[..., jax.Array]], Any]:
    """Return the function of a layer's parameters and input, by the type that it computes in, and the parameters."""
    key = jax.random.key(3) if name in TRAINING else None
    layer = make("float32")
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param)) if isinstance(layer, nnx.Module) else {}
    random = np.random.default_rng(2)
    # Biases and shifts begin at 0, where a gradient could be right by chance.
    params = jax.tree.map(lambda leaf: leaf + random.normal(size=leaf.shape).astype(np.float32) / 4, params)

    def function(dtype: str) -> Callable[..., jax.Array]:
        def call(params: Any, x: jax.Array) -> jax.Array:
            layer = make(dtype)
            if not isinstance(layer, nnx.Module):
                return layer(x, key)
            graph, _, rest = nnx.split(layer, nnx.Param, ...)
            rest = jax.tree.map(lambda leaf: leaf.astype(dtype), nnx.to_pure_dict(rest))  # of normalisation
            return nnx.merge(graph, params, rest)(x, key)

        return call

    return function, params


# Of each layer what differs in the code; the others take a minute more.
QUICK = (
    *("convolution, dilated, of two kinds", "convolution, groups"),
    *(
        "partial convolution, padded",
        "dense, of maps",
        "radial basis",
        "batch norm",
        "norm over 4",
        "dropout",
        "series",
    ),
    *("max pooling, touching, left over", "max pooling, overlapping", "max pooling, dilated, of two kinds"),
    "average pooling, rounded up",
    *("subsampling, overlapping", "adaptive pooling to 2"),
)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_layer(name: str) -> None:
    make, shape = CASES[name]
    function, params = of_layer(make, name)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    check(function, (params, x), narrow=name in NARROW)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation(name: str) -> None:
    x = np.linspace(-3, 3, 26, dtype=np.float32)  # of which none is the kink at 0
    check(lambda _: ACTIVATIONS[name], (x,))


TARGETS = {
    "one-hot": np.eye(10, dtype=np.float32)[[3, 7]],
    "smoothed": 0.9 * np.eye(10, dtype=np.float32)[[3, 7]] + np.float32(0.01),
    "mixed": 0.3 * np.eye(10, dtype=np.float32)[[3, 7]] + 0.7 * np.eye(10, dtype=np.float32)[[7, 0]],
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("network", [Network, LeNet1998], ids=["softmax", "1998"])
def test_a_loss(network: type[Network], targets: np.ndarray) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    if network is LeNet1998:  # minus squared distances
        logits = -np.square(logits)
    made = nnx.eval_shape(lambda: LeNet1998(rngs=rngs())) if network is LeNet1998 else Network((1,))
    check(lambda _: lambda logits: made.cross_entropy(logits, targets), (logits,))


@pytest.mark.parametrize("pool", ["max", pytest.param("average", marks=pytest.mark.slow)])
def test_a_whole_network_and_its_loss(pool: str) -> None:
    """Pooling before the activation, and what the stages hand on: LeNet-5's order of layers, with fewer maps."""

    def make(dtype: str) -> LeNet5:
        sizes = {"widths": (2, 3), "kernels": (3, 2), "hidden": (5, 4), "classes": 3, "image_size": 9}
        return LeNet5(
            **sizes, pooling=pool, activation="relu" if pool == "max" else "scaled_tanh", dtype=dtype, rngs=rngs()
        )

    random = np.random.default_rng(2)
    params = nnx.to_pure_dict(nnx.state(make("float32")))
    # Away from 0, where units whose inputs are all 0 would lie on the kink.
    params = jax.tree.map(lambda leaf: leaf + random.normal(size=leaf.shape).astype(np.float32) / 4, params)
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 1)).astype(np.float32)

    def function(dtype: str) -> Callable[..., jax.Array]:
        graph = nnx.graphdef(make(dtype))

        def loss(params: Any, x: jax.Array) -> jax.Array:
            network = nnx.merge(graph, params)
            return network.cross_entropy(network(x), np.eye(3, dtype=np.float32)[[2, 0]])

        return loss

    check(function, (params, x))


@pytest.mark.slow
@settings(max_examples=150, derandomize=False)
@given(
    st.sampled_from(["convolution", "max", "average", "partial"]),
    st.tuples(
        *[
            st.builds(
                Window,
                size=st.integers(1, 4),
                stride=st.integers(1, 3),
                padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
                dilation=st.integers(1, 2),
            )
        ]
        * 2
    ),
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([1, 2]),
)
def test_any_geometry(kind: str, shape: tuple[Window, Window], sides: tuple[int, int], groups: int) -> None:
    assume(all(window.outputs(side) for window, side in zip(shape, sides, strict=True)))
    # A window that lies in the padding alone sees no largest value, and no mean.
    seen = [min(window.counts(side)) for window, side in zip(shape, sides, strict=True)]
    assume(kind in ("convolution", "partial") or all(seen))
    make: Make
    channels = 3 if kind == "partial" else 2
    if kind == "convolution":
        make = convolution(channels, 4, *shape, groups=groups)
    else:
        make = partial(*shape) if kind == "partial" else plain({"max": MaxPool, "average": AveragePool}[kind](shape))
    function, params = of_layer(make, kind)
    x = np.random.default_rng(0).normal(size=(2, *sides, channels)).astype(np.float32)
    check(function, (params, x))
