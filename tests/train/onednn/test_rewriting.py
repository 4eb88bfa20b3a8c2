"""A pass over equations computes what the function does, by rules where they apply."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import JaxprEqn

from train.onednn.rewriting import Wanted, rewritten


class Ledger:
    """A rule for products that writes down what it was asked for."""

    def __init__(self, *, does: bool = True) -> None:
        self.does, self.wanted = does, list[Wanted]()

    def __call__(self, equation: JaxprEqn, operands: Sequence[jax.Array], wanted: Wanted) -> jax.Array | None:
        self.wanted.append(wanted)
        if not self.does:
            return None
        product = jax.lax.dot_general(
            *operands, equation.params["dimension_numbers"], preferred_element_type=wanted.dtype
        )
        return product.T if wanted.transposed else product


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.custom_vjp
def halved_backwards(x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


halved_backwards.defvjp(lambda x: (jnp.tanh(x), None), lambda _, gradient: (gradient / 2,))


def network(weights: dict[str, jax.Array], x: jax.Array) -> Pair:
    """A bit of everything that a training step is made of."""
    hidden = jax.nn.relu(x @ weights["a"])
    hidden = halved_backwards(jax.jit(lambda x: x @ weights["b"])(hidden))
    hidden, sums = jax.lax.scan(lambda x, _: (x @ weights["b"], x.sum()), hidden, length=3)
    return Pair({"loss": jnp.square(hidden).mean() + sums.sum()}, None)


def example() -> tuple[dict[str, jax.Array], jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    return {"a": jax.random.normal(keys[0], (5, 4)), "b": jax.random.normal(keys[1], (4, 4))}, jax.random.normal(
        keys[2], (6, 5)
    )


@pytest.mark.parametrize("does", [True, False])
def test_it_computes_the_same_through_calls_loops_and_derivatives_of_ones_own(does: bool) -> None:
    ledger = Ledger(does=does)
    weights, x = example()

    def gradient(weights: dict[str, jax.Array], x: jax.Array) -> tuple[Pair, dict[str, jax.Array]]:
        return network(weights, x), jax.grad(lambda weights: network(weights, x).first["loss"])(weights)

    expected = gradient(weights, x)
    found = jax.jit(rewritten(gradient, {"dot_general": ledger}))(weights, x)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
    # Two forward, and one in the loop; with gradients these again, and one or two for each.
    assert len(ledger.wanted) >= 3 + 3 + 5


def test_a_rule_is_asked_for_what_is_read() -> None:
    def asked(function: Any, *operands: jax.Array) -> list[Wanted]:
        ledger = Ledger()
        found = jax.jit(rewritten(function, {"dot_general": ledger}))(*operands)
        np.testing.assert_allclose(np.float32(found), np.float32(function(*operands)), rtol=2e-2)
        return ledger.wanted

    a, b = jnp.ones((2, 3), jnp.bfloat16), jnp.arange(12, dtype=jnp.bfloat16).reshape(3, 4)
    assert asked(lambda a, b: a @ b, a, b) == [(jnp.bfloat16, False)]
    assert asked(lambda a, b: (a @ b).T, a, b) == [(jnp.bfloat16, True)]
    assert asked(lambda a, b: (a @ b).T.astype("float32") + 1, a, b) == [(jnp.float32, True)]
    assert asked(lambda a, b: (a @ b).astype("float32").T, a, b) == [(jnp.float32, True)]
    # Read twice, returned, or made narrower: as it is.
    assert asked(lambda a, b: (y := a @ b).astype("float32") * y, a, b) == [(jnp.bfloat16, False)]
    assert asked(lambda a, b: (a @ b).astype("float16"), a, b) == [(jnp.bfloat16, False)]


def test_nothing_is_changed_where_there_are_no_rules() -> None:
    weights, x = example()
    np.testing.assert_array_equal(rewritten(network, {})(weights, x).first["loss"], network(weights, x).first["loss"])
