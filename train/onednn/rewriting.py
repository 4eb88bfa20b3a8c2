"""A pass over a function's equations that puts other computations in the place of some."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var


class Wanted(NamedTuple):
    """In which form an equation's result is read.

    Attributes:
      dtype: its own type or a wider one.
      transposed: whether a matrix is read as its transpose.
    """

    dtype: jnp.dtype
    transposed: bool


# What computes an equation's only result in another way, in the form that is wanted; None where it cannot.
Rule = Callable[[JaxprEqn, Sequence[jax.Array], Wanted], jax.Array | None]

# Equations that hold a function of their own, and under which name. The pass runs after differentiation: by then a
# derivative that somebody defined has either been used or is not needed.
_FUNCTIONS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def rewritten(function: Callable[..., Any], rules: Mapping[str, Rule]) -> Callable[..., Any]:
    """Return a function that computes the same, by the rules where they apply: one to compile, not to differentiate.

    Args:
      function: of positional arguments, pytrees of arrays.
      rules: by the name of the primitive, or of the function where it is that of jax.jit.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        program, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
        values = _run(program, jax.tree.leaves(arguments), rules)
        return jax.tree.unflatten(jax.tree.structure(result), values)

    return call


def _run(program: ClosedJaxpr, arguments: Sequence[Any], rules: Mapping[str, Rule]) -> list[Any]:
    jaxpr = program.jaxpr
    values: dict[Var, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *arguments), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    readers, done = _only_readers(jaxpr), set[int]()
    for place, equation in enumerate(jaxpr.eqns):
        if place in done:
            continue
        name, operands = equation.primitive.name, [read(atom) for atom in equation.invars]
        rule = rules.get(equation.params["name"] if name == "jit" else name)
        if rule is not None:
            wanted, variable, behind = _wanted(equation, readers)
            result = rule(equation, operands, wanted)
            if result is not None:
                values[variable] = result
                done |= behind
                continue
        if name in _FUNCTIONS:
            results = _run(equation.params[_FUNCTIONS[name]], operands, rules)
        else:
            with equation.ctx.manager:
                parameters = equation.primitive.get_bind_params(_parameters(equation, rules))
                results = equation.primitive.bind(*operands, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _only_readers(jaxpr: Jaxpr) -> dict[Var, tuple[int, JaxprEqn]]:
    """Return which equation, and at what place, reads a variable that nothing else reads."""
    readings = [
        (atom, place) for place, equation in enumerate(jaxpr.eqns) for atom in equation.invars if isinstance(atom, Var)
    ]
    times = Counter(atom for atom, _ in readings) + Counter(atom for atom in jaxpr.outvars if isinstance(atom, Var))
    return {atom: (place, jaxpr.eqns[place]) for atom, place in readings if times[atom] == 1}


def _wanted(equation: JaxprEqn, readers: Mapping[Var, tuple[int, JaxprEqn]]) -> tuple[Wanted, Var, set[int]]:
    """Return the form in which an equation's result is read, what variable has it, and where it is brought into it."""
    (variable, *_), transposed, behind = equation.outvars, False, set[int]()
    dtype = shaped(variable).dtype
    while variable in readers:
        place, reader = readers[variable]
        if reader.primitive.name == "transpose" and reader.params["permutation"] == (1, 0):
            transposed = not transposed
        elif reader.primitive.name == "convert_element_type" and _holds(reader.params["new_dtype"], dtype):
            dtype = reader.params["new_dtype"]
        else:
            break
        (variable,), behind = reader.outvars, behind | {place}
    return Wanted(dtype, transposed), variable, behind


def _holds(wide: jnp.dtype, narrow: jnp.dtype) -> bool:
    return jnp.promote_types(wide, narrow) == wide


def shaped(variable: Var) -> jax.core.ShapedArray:
    """Return the shape and type of a variable that holds an array."""
    assert isinstance(variable.aval, jax.core.ShapedArray)
    return variable.aval


def _parameters(equation: JaxprEqn, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Return an equation's parameters; of a loop, with the pass run over its body."""
    if equation.primitive.name != "scan":
        return equation.params
    body = equation.params["jaxpr"]
    step = jax.make_jaxpr(lambda *values: _run(body, values, rules))(*body.in_avals)
    return equation.params | {"jaxpr": step}
