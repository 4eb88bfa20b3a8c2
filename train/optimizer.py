"""Learning rates and update rules, all of them optax's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

# Options of a schedule or an optimizer are the parameters that have defaults: config keys of the same name set them.


def _constant(peak: float, warmup: int, total: int, epoch: float) -> optax.Schedule:
    return _with_warmup(peak, warmup, optax.constant_schedule(peak))


def _step(
    peak: float, warmup: int, total: int, epoch: float, *, milestones: tuple[float, ...] = (), factor: float = 0.1
) -> optax.Schedule:
    # Milestones count from the start of training; the joined schedule counts from the end of the warm-up.
    falls: dict[int, float] = {}
    for milestone in milestones:
        step = round(milestone * epoch) - warmup
        falls[step] = falls.get(step, 1.0) * factor
    return _with_warmup(peak, warmup, optax.piecewise_constant_schedule(peak, falls))


def _cosine(peak: float, warmup: int, total: int, epoch: float) -> optax.Schedule:
    return _with_warmup(peak, warmup, optax.cosine_decay_schedule(peak, total - warmup))


def _one_cycle(peak: float, warmup: int, total: int, epoch: float) -> optax.Schedule:
    # Smith and Topin 2017, arXiv 1708.07120: up from a tenth, and down to a thousandth of that.
    share = (warmup + 0.5) / total  # optax cuts share * total down to a whole number of steps
    return optax.cosine_onecycle_schedule(total, peak, share, div_factor=10, final_div_factor=1000)


def _with_warmup(peak: float, warmup: int, schedule: optax.Schedule) -> optax.Schedule:
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), schedule], [warmup])


SCHEDULES: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}


def _sgd(
    rate: optax.Schedule, decay: optax.GradientTransformation, *, momentum: float = 0.9, nesterov: bool = True
) -> optax.GradientTransformation:
    # The decay joins the gradient before the momentum, as in Krizhevsky et al. 2012, section 5.
    return optax.chain(decay, optax.sgd(rate, momentum, nesterov))


def _adamw(
    rate: optax.Schedule, decay: optax.GradientTransformation, *, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
    # The decay joins the update behind the moments: Loshchilov and Hutter 2017, arXiv 1711.05101.
    return optax.chain(optax.scale_by_adam(b1, b2), decay, optax.scale_by_learning_rate(rate))


OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {"sgd": _sgd, "adamw": _adamw}


def _options(section: ConfigDict, signature_of: Callable[..., Any]) -> dict[str, Any]:
    return {name: section[name] for name in signature_of.__kwdefaults__ or {}}


def make_schedule(config: ConfigDict, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
    """Return the learning rate by step, from the completed section `schedule`."""
    make = SCHEDULES[config.name]
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if make in (_cosine, _one_cycle):  # rounding may leave no step behind it; the others know of no end
        warmup = min(warmup, total_steps - 1)
    return make(config.learning_rate, warmup, total_steps, steps_per_epoch, **_options(config, make))


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule, rates: Mapping[str, float] | None = None
) -> optax.GradientTransformation:
    """Return the update rule, from the completed section `optimizer`.

    Args:
      config: the section.
      schedule: the learning rate by step.
      rates: by what it is multiplied, for each layer; None: for all the same.
    """

    def decayed(params: optax.Params) -> Any:
        """Kernels, unless the config says all: biases and the scales of normalisation have one dimension."""
        return jax.tree.map(lambda value: config.decay_all or value.ndim > 1, params)

    make = OPTIMIZERS[config.name]
    decay = optax.add_decayed_weights(config.weight_decay, decayed) if config.weight_decay else optax.identity()
    update = make(schedule, decay, **_options(config, make))
    if rates is not None:
        update = optax.chain(update, _by_layer(rates))
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update) if config.clip_norm else update


def _by_layer(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def scale(updates: optax.Updates, _: optax.Params | None) -> optax.Updates:
        return {layer: optax.tree.scale(rates[layer], update) for layer, update in updates.items()}

    return optax.stateless(scale)
