import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from train import settings
from train.optimizer import make_optimizer, make_schedule


def rates(epochs: float, **schedule: object) -> np.ndarray:
    """The rate of every step, ten steps an epoch."""
    config = base.get_config()
    config.schedule.update(schedule)
    config.train.epochs = epochs
    settings.resolve(config)
    total = int(epochs * 10)
    rate = make_schedule(config.schedule, 10, total)
    return np.array([rate(step) for step in range(total)])


def test_constant_with_warmup() -> None:
    expected = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, *[1] * 10]
    np.testing.assert_allclose(rates(2, name="constant", learning_rate=1.0, warmup_epochs=1.0), expected, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_step_falls_at_its_epochs(warmup: float) -> None:
    options = {"name": "step", "learning_rate": 1.0, "warmup_epochs": warmup, "milestones": (1, 2.5), "factor": 0.1}
    rate = rates(3, **options)
    np.testing.assert_allclose(rate[[9, 10, 24, 25, 29]], [1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)


def test_milestones_at_one_step_fall_once_each() -> None:
    rate = rates(3, name="step", learning_rate=1.0, warmup_epochs=0.0, milestones=(1.01, 1.02), factor=0.1)
    np.testing.assert_allclose(rate[[9, 10]], [1, 0.01], rtol=1e-5)


def test_a_warmup_of_all_the_steps_leaves_one() -> None:
    assert np.all(np.isfinite(rates(1, name="cosine", warmup_epochs=0.99)))


def test_what_knows_of_no_end_may_be_made_longer() -> None:
    for options in ({"name": "constant"}, {"name": "step", "milestones": (4,), "factor": 0.1}):
        short, long = (rates(epochs, learning_rate=1.0, warmup_epochs=1.95, **options) for epochs in (2, 5))
        np.testing.assert_array_equal(short, long[:20])


def test_one_cycle_warms_up_for_as_many_steps_as_it_is_told() -> None:
    for warmup, epochs in ((2.9, 10), (0.1, 4.9)):  # 29 of 100 is 28.999... to a computer, 1 of 49 is 0.999...
        rate = rates(epochs, name="one_cycle", learning_rate=1.0, warmup_epochs=warmup)
        assert rate.argmax() == round(10 * warmup)


def test_cosine_goes_from_the_top_to_nothing() -> None:
    rate = rates(4, name="cosine", learning_rate=2.0)
    np.testing.assert_allclose(rate[[0, 20]], [2, 1], atol=1e-5)
    assert np.all(np.diff(rate) < 0)
    assert rate[-1] < 0.01


def test_one_cycle_rises_to_the_top_and_falls_below_its_beginning() -> None:
    rate = rates(4, name="one_cycle", learning_rate=1.0, warmup_epochs=1.0)
    assert rate[0] == pytest.approx(0.1, abs=1e-3)
    assert rate.argmax() == 10
    assert rate.max() == pytest.approx(1, abs=1e-3)
    assert rate[-1] < 0.01


def update(gradient: float, steps: int = 1, params: dict | None = None, **options: object) -> dict:
    """Parameters after steps with the same gradient everywhere and a rate of 0.1."""
    config = base.get_config()
    config.optimizer.update(options)
    settings.resolve(config)
    optimizer = make_optimizer(config.optimizer, lambda step: 0.1)
    params = params or {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    state = optimizer.init(params)
    for _ in range(steps):
        grads = {name: jnp.full_like(value, gradient) for name, value in params.items()}
        updates, state = optimizer.update(grads, state, params)
        params = {name: params[name] + updates[name] for name in params}
    return {name: value.item() for name, value in params.items()}


@pytest.mark.parametrize(("nesterov", "moved"), [(False, 1 + 1.9 + 2.71), (True, 1.9 + 2.71 + 3.439)])
def test_momentum(nesterov: bool, moved: float) -> None:
    # v <- 0.9 v + g; plain: w <- w - 0.1 v; Nesterov: w <- w - 0.1 (g + 0.9 v).
    assert update(1.0, 3, momentum=0.9, nesterov=nesterov)["kernel"] == pytest.approx(1 - 0.1 * moved)


def test_adamw_moves_by_the_rate() -> None:
    # The first steps of Adam with a steady gradient are as long as the rate, whatever the gradient.
    assert update(37.0, 2, name="adamw")["kernel"] == pytest.approx(1 - 2 * 0.1, rel=1e-4)


@pytest.mark.parametrize(("name", "decayed"), [("sgd", 1 - 0.1 * 0.5 * 1.9), ("adamw", 1 - 0.1 * 0.5)])
def test_weight_decay_spares_biases_unless_told(name: str, decayed: float) -> None:
    assert update(0.0, name=name, weight_decay=0.5) == {"kernel": pytest.approx(decayed), "bias": 1.0}
    everything = update(0.0, name=name, weight_decay=0.5, decay_all=True)
    assert everything == {"kernel": pytest.approx(decayed), "bias": pytest.approx(decayed)}


def test_clipping_is_of_the_gradient_by_the_norm_of_everything() -> None:
    # Two gradients of 3 and 4 have a norm of 5; clipped to 1 they are 0.6 and 0.8. The momentum sums what is clipped.
    config = ConfigDict({"name": "sgd", "momentum": 0.5, "nesterov": False, "weight_decay": 0.0, "clip_norm": 1.0})
    optimizer = make_optimizer(config, lambda step: 0.1)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = optimizer.init(params)
    for velocity in (1.0, 1.5, 1.75):
        updates, state = optimizer.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, state, params)
        moved = {name: value.item() for name, value in updates.items()}
        assert moved == pytest.approx({"a": -0.06 * velocity, "b": -0.08 * velocity})
