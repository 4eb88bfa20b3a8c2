"""Values of a config that are arguments of the compiled step, so that one program serves runs that differ in them.

The learning rate is a table of rates by step, made before: so nothing of the section `schedule` is compiled in, nor is
the seed. Of the other numbers it is found out by trying: a step is traced with an unknown number in the place of a
value, and where that number decides anything about the program (a shape, a branch, a whole number of pixels), it cannot
be traced.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from train import devices, network, settings
from train.data.examples import Examples
from train.optimizer import make_optimizer, make_schedule
from train.prepare import batch_shape
from train.step import Metrics, State, init_state, make_train_step, seed_of
from train.timetable import Timetable

# Of the schedule's keys nothing is compiled in.
SCHEDULE = "schedule."
# What the step alone reads. Other keys have a say in what the data are, or in when what is due.
_OF_THE_STEP = ("augment.", "optimizer.", "train.ema", "train.label_smoothing")
# Values by key, float32 each.
Values = Mapping[str, jax.Array]
# (state, values, rates `[steps]`, which images `[B]`, all images) -> (state, metrics)
OneStep = Callable[[State, Values, jax.Array, jax.Array, Examples], tuple[State, Metrics]]


@jax.tree_util.register_pytree_node_class  # so that compiled functions take it
class Traced:
    """A number that is not known yet, but for this: it is not 0. For 0 switches things off; `if value:` is true here.

    It takes part in arithmetic. It has no hash, so that no cache of ours can keep it, and is no number to `math`.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: jax.Array) -> None:
        self._value = value

    def __jax_array__(self) -> jax.Array:
        return self._value

    def __bool__(self) -> bool:
        return True

    def tree_flatten(self) -> tuple[tuple[jax.Array], None]:
        """As jax wants it."""
        return (self._value,), None

    @classmethod
    def tree_unflatten(cls, nothing: None, values: tuple[jax.Array]) -> "Traced":
        """As jax wants it."""
        return cls(*values)


def _delegate(name: str) -> None:
    def turned(self: Traced, other: Any) -> jax.Array:
        return getattr(operator, name)(other, self.__jax_array__())

    def straight(self: Traced, other: Any) -> jax.Array:
        return getattr(operator, name)(self.__jax_array__(), other)

    setattr(Traced, f"__{name}__", straight)
    setattr(Traced, f"__r{name}__", turned)


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _delegate(_name)


def rates(config: ConfigDict, timetable: Timetable) -> np.ndarray:
    """Return the learning rate of each step, float32 `[steps]`."""
    schedule = make_schedule(config.schedule, timetable.steps_per_epoch, timetable.total)
    by_step = jax.jit(lambda steps: jnp.broadcast_to(jax.vmap(schedule)(steps), steps.shape))
    return np.asarray(by_step(np.arange(timetable.total, dtype=np.int32)), np.float32)


def optimizer_of(config: ConfigDict, by_step: jax.Array) -> optax.GradientTransformation:
    """Return the update rule of a config, with the learning rate of each step `[steps]`."""
    return make_optimizer(config.optimizer, lambda step: by_step[step], network.layer_rates(config))


def one_step(config: ConfigDict) -> OneStep:
    """Return the step of a run, in which values of the config's keys are arguments.

    Args:
      config: complete; what is not among the values stands in the program.
    """

    def step(
        state: State, values: Values, by_step: jax.Array, indices: jax.Array, examples: Examples
    ) -> tuple[State, Metrics]:
        own = config.copy_and_resolve_references()
        with own.ignore_type():
            own.update_from_flattened_dict({key: Traced(value) for key, value in values.items()})
        batch = Examples(examples.images[indices], examples.labels[indices])
        return make_train_step(own, optimizer_of(own, by_step))(state, batch)

    return step


def may_be(key: str, value: Any) -> bool:
    """Whether a key's value might be an argument of the step; what is 0 is switched off, which is another program."""
    return key.startswith(_OF_THE_STEP) and type(value) is float and value != 0


def traceable(config: ConfigDict, keys: Sequence[str], images: int) -> tuple[str, ...]:
    """Return those of the keys whose value in a complete config can be an argument of the step; nothing is computed.

    Args:
      config: complete.
      keys: dotted.
      images: how many there are to train on.
    """
    steps = jax.ShapeDtypeStruct((Timetable(config, images).total,), jnp.float32)
    state = jax.eval_shape(
        lambda seed, by_step: init_state(config, optimizer_of(config, by_step), seed), seed_of(config), steps
    )
    batch = batch_shape(config, images)
    indices = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.float32)

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    def works(key: str) -> bool:
        try:
            after, _ = jax.eval_shape(one_step(config), state, {key: number}, steps, indices, batch)
        except Exception:  # whatever a function says to a number that is none
            return False
        return shapes(after) == shapes(state)

    known = dict(settings.leaves(config))
    return tuple(key for key in keys if may_be(key, known[key]) and works(key))


def program(config: ConfigDict, mesh: jax.sharding.Mesh, *, vectorised: bool) -> jax.stages.Wrapped:
    """Return the step of several runs, to be compiled: what `one_step` takes and returns comes as tuples, one a run.

    Args:
      config: complete.
      mesh: of one device.
      vectorised: by `jax.vmap`, as GPUs and TPUs want it. Otherwise the runs' equations stand beside each other, as
        CPUs do: there a convolution with a kernel for each run becomes one of many groups, which takes four times as
        long (docs/speed-log.md), while those of different runs are computed at the same time on different cores.
    """
    one = one_step(config)

    def step(states: Any, values: Any, by_step: Any, indices: Any, examples: Examples) -> Any:
        each = list(zip(states, values, by_step, indices, strict=True))
        if vectorised:
            own: tuple[Any, Any, Any, Any] = jax.tree.map(lambda *leaves: jnp.stack(leaves), each[0], *each[1:])
            taken = jax.vmap(one, (0, 0, 0, 0, None))(*own, examples)
            results = [jax.tree.map(operator.itemgetter(place), taken) for place in range(len(each))]
        else:
            results = [one(*run, examples) for run in each]
        return tuple(state for state, _ in results), tuple(metrics for _, metrics in results)

    return devices.jit(step, config.precision, mesh, donate_argnums=0)
