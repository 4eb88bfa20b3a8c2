"""Shapes, receptive fields and counts of any stack of layers, against brute force, jax.eval_shape and XLA."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models import LeNet5, LeNet1998
from models.arithmetic import GeometryError, ReceptiveField, Window
from models.layers import ACTIVATIONS, BatchNorm, Convolution, Dense, Dropout, LocalResponseNorm
from models.network import Network
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool, Subsampling
from models.summary import rows
from tests.models.test_summary import layers_with_shapes, share_inside

WINDOW = st.builds(
    Window,
    size=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    ceil=st.booleans(),
)
# A convolution pads by what it says, so none of them rounds up.
KERNEL = WINDOW.map(lambda window: Window(window.size, window.stride, window.padding, window.dilation))


def looks(window: Window, length: int) -> np.ndarray:
    """Which pixels of a map each output of a window looks at, `[outputs, length]`, one by one."""
    seen = np.zeros((window.outputs(length), length), bool)
    for output in range(len(seen)):
        for step in range(window.size):
            pixel = output * window.stride - window.padding[0] + step * window.dilation
            if 0 <= pixel < length:
                seen[output, pixel] = True
    return seen


@given(st.lists(WINDOW, min_size=1, max_size=4), st.integers(1, 40))
def test_the_receptive_field_of_a_stack_is_what_its_outputs_reach(stack: list[Window], length: int) -> None:
    field, reached, sides = ReceptiveField(), np.eye(length, dtype=bool), [length]
    for window in stack:
        assume(window.outputs(sides[-1]))
        reached = looks(window, sides[-1]) @ reached
        field = field.behind(window)
        sides.append(window.outputs(sides[-1]))
    for output, pixels in enumerate(reached):
        first = field.offset + output * field.stride
        seen = np.flatnonzero(pixels)
        assert all((first <= seen) & (seen < first + field.size))
        # Where nothing on the way is padding, it reaches from the first to the last.
        places, inside = {output}, True
        for window, side in zip(reversed(stack), reversed(sides[:-1]), strict=True):
            places = {place for one in places for place in window.places(one)}
            inside &= all(0 <= place < side for place in places)
        assert (min(places), max(places)) == (first, first + field.size - 1)
        if inside:
            assert (seen.min(), seen.max()) == (first, first + field.size - 1)


def shape_of(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that jax finds for an example."""
    graph, state = nnx.split(layer) if isinstance(layer, nnx.Module) else (None, {})
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    key = jax.random.key(0)
    call = (lambda state, x: nnx.merge(graph, state)(x, key)) if graph is not None else (lambda state, x: layer(x, key))
    batch, *found = jax.eval_shape(call, state, x).shape
    assert batch == 2
    return tuple(found)


@settings(max_examples=15)
@given(
    st.sampled_from(["convolution", "max", "average", "subsampling"]),
    st.integers(1, 3).flatmap(lambda n: st.tuples(st.tuples(*[WINDOW] * n), st.tuples(*[st.integers(1, 12)] * n))),
    st.sampled_from([(2, 4, 1), (2, 4, 2), (3, 3, 3), (1, 5, 1)]),
)
def test_the_shape_that_a_layer_makes_is_the_one_that_it_says(
    kind: str, geometry: tuple[tuple[Window, ...], tuple[int, ...]], channels: tuple[int, int, int]
) -> None:
    (windows, sides), (inputs, outputs, groups) = geometry, channels
    layer: Any = {"max": MaxPool, "average": AveragePool}.get(kind, lambda windows: None)(windows)
    if kind == "convolution":
        windows = tuple(Window(w.size, w.stride, w.padding, w.dilation) for w in windows)
        layer = Convolution(inputs, outputs, windows, groups=groups, rngs=nnx.Rngs(0))
    elif kind == "subsampling":
        init = nnx.initializers.ones
        layer = Subsampling(inputs, windows, dtype=jnp.float32, coefficient_init=init, rngs=nnx.Rngs(0))
    shape = (*sides, inputs)
    if all(window.outputs(side) for window, side in zip(windows, sides, strict=True)):
        assert layer.output(shape) == shape_of(layer, shape)
        assert math.prod(layer.positions(shape)) * math.prod(w.size for w in windows) <= layer.connections(shape)
    else:
        with pytest.raises(GeometryError, match=r"a .* window makes .* of a .* map"):
            layer.output(shape)


class Stack(Network):
    """Any stages one behind the other.

    Args:
      shape: of an example.
      kinds: of the layers.
      data: draws their sizes.
    """

    def __init__(self, shape: tuple[int, ...], kinds: list[str], data: st.DataObject) -> None:
        super().__init__(shape)
        for number, kind in enumerate(kinds):
            activation = data.draw(st.sampled_from(sorted(ACTIVATIONS)))
            self.add(f"stage{number}", *self._layers(kind, data), activation=activation)

    def _layers(self, kind: str, data: st.DataObject) -> tuple[Any, ...]:
        channels, rngs = self.shape[-1], nnx.Rngs(0)
        if kind == "dense" or len(self.shape) == 1:
            return Dropout(0.5), Dense(math.prod(self.shape), data.draw(st.integers(1, 4)), rngs=rngs)
        if kind == "norm":
            return LocalResponseNorm(), BatchNorm(channels, rngs=rngs)
        if kind == "adaptive":
            return (AdaptiveAveragePool(data.draw(st.integers(1, 4))),)
        windows = data.draw(st.tuples(KERNEL, KERNEL))
        if kind == "convolution":
            return (Convolution(channels, data.draw(st.integers(1, 3)), windows, rngs=rngs),)
        return ({"max": MaxPool, "average": AveragePool}[kind](windows),)


KINDS = ["convolution", "convolution", "max", "average", "norm", "adaptive", "dense"]


@settings(max_examples=8)
@given(
    st.tuples(st.integers(5, 20), st.integers(5, 20), st.integers(1, 3)),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    st.data(),
)
def test_the_table_of_a_stack_is_what_jax_finds(shape: tuple[int, ...], kinds: list[str], data: st.DataObject) -> None:
    try:
        network = nnx.eval_shape(lambda: Stack(shape, kinds, data))
    except GeometryError:  # the next layer sees more than there is
        assume(False)
    graph, state = nnx.split(network)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    stages = jax.eval_shape(lambda state, x: list(dict(nnx.merge(graph, state).stages(x)).values()), state, x)
    table = rows(network)
    assert [(2, *row.shape) for row in table] == [stage.shape for stage in stages]
    leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert sum(row.parameters for row in table) == sum(math.prod(leaf.shape) for leaf in leaves)
    assert all(field.size >= 1 for row in table for field in row.fields)


def sizes() -> st.SearchStrategy[dict[str, Any]]:
    """LeNet-5 of any sizes."""

    def of(layers: int) -> st.SearchStrategy[dict[str, Any]]:
        def each(low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
            return st.tuples(*[st.integers(low, high)] * layers)

        return st.fixed_dictionaries(
            {
                "widths": each(1, 7),
                "kernels": each(1, 5),
                "padding": each(0, 3),
                "pools": each(1, 3),
                "hidden": st.lists(st.integers(1, 9), max_size=3).map(tuple),
                "image_size": st.integers(4, 30),
                "channels": st.sampled_from([1, 3]),
                "classes": st.integers(2, 12),
                "dimensions": st.sampled_from([1, 2]),
                "pooling": st.sampled_from(["max", "average"]),
            }
        )

    return st.integers(0, 3).flatmap(of)


@settings(max_examples=4)
@given(sizes())
def test_parameters_and_products_of_any_lenet5(options: dict[str, Any]) -> None:
    hold(options)


@pytest.mark.slow
@settings(max_examples=150, derandomize=False)
@given(sizes())
def test_parameters_and_products_of_many_lenet5(options: dict[str, Any]) -> None:
    hold(options)


def hold(options: dict[str, Any]) -> None:
    """Hold the table of a LeNet-5 against its arrays, jax's shapes, and what XLA counts."""
    try:
        network = nnx.eval_shape(lambda: LeNet5(**options, rngs=nnx.Rngs(0)))
    except GeometryError:
        assume(False)
    table, macs = rows(network), 0
    assert sum(row.parameters for row in table) == sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))
    )
    for name, layer, shape in layers_with_shapes(network):
        macs += layer.macs(shape)
        assert layer.output(shape) == shape_of(layer, shape)
        if isinstance(layer, Convolution | Dense):
            graph, state = nnx.split(layer)
            x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
            counted = jax.jit(lambda state, x, graph=graph: nnx.merge(graph, state)(x)).lower(state, x).cost_analysis()
            inside = share_inside(layer, shape) if isinstance(layer, Convolution) else 1
            assert counted["flops"] == round(2 * layer.macs(shape) * inside) + math.prod(layer.output(shape)), name
    assert sum(row.macs for row in table) == macs
    assert table[-1].shape == (options["classes"],)


@given(st.integers(16, 40), st.integers(1, 3))
@settings(max_examples=3)
def test_lenet5_of_1998_of_any_size(size: int, channels: int) -> None:
    network = nnx.eval_shape(lambda: LeNet1998(image_size=size, channels=channels, rngs=nnx.Rngs(0)))
    for _, layer, shape in layers_with_shapes(network):
        assert layer.output(shape) == shape_of(layer, shape)
    leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert sum(row.parameters for row in rows(network)) == sum(math.prod(leaf.shape) for leaf in leaves)
