import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from tests.conftest import CHECKOUT
from train import devices, network, settings
from train.data import dataset
from train.data.examples import Examples
from train.data.order import batch_indices
from train.evaluate import make_eval_step
from train.feed import training_batches
from train.optimizer import make_optimizer, make_schedule
from train.prepare import batch_shape, prepare
from train.step import Metrics, State, init_state, make_train_step, seed_of


def take_steps(config: ConfigDict, count: int, devices_used: int = 1) -> tuple[State, list[Metrics]]:
    settings.resolve(config)
    train_set, mesh = dataset.load(config.dataset).train, devices.make_mesh(devices_used)
    prepared = prepare(config, train_set.total, mesh)
    state, metrics = prepared.state, []
    with training_batches(train_set, config, mesh, 0, count) as batches:
        for batch in batches:
            state, measured = prepared.train_step(state, batch)
            metrics.append(jax.device_get(measured))
    return state, metrics


def test_the_loss_is_the_cross_entropy_of_the_network(config: ConfigDict) -> None:
    settings.resolve(config)
    examples = dataset.load(config.dataset).train
    indices = batch_indices(len(examples.labels), 64, 0, 0)
    _, params, _ = network.build(config, jax.random.key(config.seed))
    pixels = (examples.images[indices] / 255 - config.dataset.mean[0]) / config.dataset.std[0]
    hidden = np.maximum(pixels.reshape(64, -1) @ params["hidden1"]["kernel"], 0)
    logits = hidden @ params["output"]["kernel"]
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = examples.labels[indices]
    _, (metrics, *_) = take_steps(config, 1)
    assert metrics.loss == pytest.approx(-np.log(shares[np.arange(64), labels]).mean(), rel=1e-5)
    assert metrics.correct == (logits.argmax(-1) == labels).sum()


def test_label_smoothing_spreads_its_share_over_all_classes(config: ConfigDict) -> None:
    # With all parameters at nought but the output's bias b, every image has the logits b; one class holds all images.
    config.train.label_smoothing = 0.3
    settings.resolve(config)
    data = dataset.load(config.dataset)
    zeros = Examples(jnp.asarray(data.train.images[:64]), jnp.full(64, 2))
    _, params, stats = network.build(config, jax.random.key(0))
    bias = np.linspace(-1, 1, 10)
    params = jax.tree.map(jnp.zeros_like, params)
    params["output"]["bias"] = jnp.asarray(bias, jnp.float32)
    optimizer = optax.sgd(0.1)
    state = State(jnp.zeros((), jnp.int32), seed_of(config), params, stats, {}, {}, optimizer.init(params))
    _, metrics = make_train_step(config, optimizer)(state, zeros)
    log_shares = bias - np.log(np.exp(bias).sum())
    assert metrics.loss == pytest.approx(-0.7 * log_shares[2] - 0.3 * log_shares.mean(), rel=1e-5)
    assert metrics.correct == 0


def test_each_step_augments_in_its_own_way(config: ConfigDict) -> None:
    # A rate of nearly nothing, and one image over and over: only the augmentation changes the loss.
    config.augment.shift = 2
    config.schedule.learning_rate = 1e-30
    settings.resolve(config)
    batch = dataset.load(config.dataset).train.take(np.zeros(64, int))
    prepared = prepare(config, 64, devices.make_mesh(1))
    state, losses = prepared.state, []
    for _ in range(4):
        state, metrics = prepared.train_step(state, batch)
        losses.append(float(metrics.loss))
    assert len(set(losses)) == 4


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("lenet5", 32, {}),
        ("alexnet", 64, {"dropout": 0.5}),
        ("vgg16", 32, {}),
        ("vgg16", 32, {"batch_norm": True}),
        ("mlp", 8, {}),
        ("lenet1d", 8, {}),
        ("lenet5", 32, {"variant": "1998"}),
        ("alexnet", 67, {"variant": "caffenet"}),
        ("alexnet", 67, {"variant": "2012"}),
        ("vgg", 32, {"variant": "A-LRN"}),
    ],
    ids=["lenet5", "alexnet", "vgg16", "vgg16 with batch norm", "mlp", "lenet1d", "1998", "caffenet", "2012", "A-LRN"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_lower_for_every_platform(
    config: ConfigDict, name: str, size: int, options: dict, precision: str
) -> None:
    config.model.hidden = None
    config.model.update(name=name, **options)
    config.precision = precision
    classes = 10 if options.get("variant") == "1998" else 7
    config.dataset.update(image_size=size, channels=3, classes=classes, mean=(0.5,) * 3, std=(0.2,) * 3)
    config.dataset.covariance = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    config.augment.update(shift=1, rotate=5.0, pad_and_crop=1, flip=True, color_noise=0.1)
    config.train.ema = 0.9
    settings.resolve(config)
    graph, params, stats = network.describe(config)
    optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, 10, 100))
    state = jax.eval_shape(partial(init_state, config, optimizer), seed_of(config))
    batch, platforms = batch_shape(config, 8), ("cpu", "cuda", "tpu")
    train_step = jax.jit(make_train_step(config, optimizer))
    assert jax.export.export(train_step, platforms=platforms)(state, batch).platforms == platforms
    eval_step = jax.jit(make_eval_step(graph, config))
    counted = jax.ShapeDtypeStruct((8,), bool)
    assert jax.export.export(eval_step, platforms=platforms)(params, stats, *batch, counted).platforms == platforms


def test_accumulation_changes_nothing_but_the_memory(config: ConfigDict) -> None:
    config.augment.shift = 1
    whole, whole_metrics = take_steps(config, 3)
    config.train.accumulate = 4
    parts, part_metrics = take_steps(config, 3)
    for one, other in zip(whole_metrics, part_metrics, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.correct == other.correct
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_ema_is_the_average_by_hand(config: ConfigDict) -> None:
    config.train.ema = 0.15
    trail = [take_steps(config, count)[0].params["output"]["bias"] for count in range(4)]
    average = trail[0]
    for step, params in enumerate(trail[1:]):
        decay = min(0.15, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * params
    np.testing.assert_allclose(take_steps(config, 3)[0].ema["output"]["bias"], average, atol=1e-6)


def test_bfloat16_learns_with_float32_parameters(config: ConfigDict) -> None:
    config.precision = "bfloat16"
    state, metrics = take_steps(config, 30)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.optimizer[1][0].trace))} == {
        jnp.dtype("float32")
    }
    assert metrics[-1].loss < metrics[0].loss / 2


def test_dropout_draws_from_the_step(config: ConfigDict) -> None:
    config.model.dropout = 0.5
    (_, first), (_, again) = take_steps(config, 2), take_steps(config, 2)
    assert first == again
    config.seed = 1
    assert take_steps(config, 2)[1] != first


def test_the_same_seed_gives_the_same_bits(config: ConfigDict) -> None:
    config.augment.rotate = 10.0
    (one, _), (other, _) = take_steps(config, 5), take_steps(config, 5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_program_serves_every_seed(config: ConfigDict) -> None:
    def program_and_weights(seed: int) -> tuple[str, State]:
        config.seed = seed
        optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, 10, 100))
        state = init_state(config, optimizer, seed_of(config))
        return jax.jit(make_train_step(config, optimizer)).lower(state, batch_shape(config, 8)).as_text(), state

    dataset.load(config.dataset)
    programs = []
    for seed in (0, 1, 2**31 + 5, -3):
        program, state = program_and_weights(seed)
        programs.append(program)
        _, params, _ = network.build(config, jax.random.key(seed))
        jax.tree.map(np.testing.assert_array_equal, state.params, params)
    assert len(set(programs)) == 1


def test_compiled_equals_eager(config: ConfigDict) -> None:
    # XLA:CPU's fusions have been seen to compute wrongly (jax issues 39103, 39257).
    config.model.name = "lenet5"
    config.model.hidden = None
    config.dataset.image_size = 32
    config.train.batch_size = 8
    compiled, (metrics,) = take_steps(config, 1)
    examples = Examples(*map(jnp.asarray, dataset.load(config.dataset).train))
    optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, 10, 100))
    with jax.disable_jit():
        batch = examples.take(batch_indices(examples.total, 8, 0, 0))
        eager, eager_metrics = make_train_step(config, optimizer)(init_state(config, optimizer, seed_of(config)), batch)
    assert metrics.loss == pytest.approx(float(eager_metrics.loss), rel=1e-5)
    for one, other in zip(jax.tree.leaves(compiled.params), jax.tree.leaves(eager.params), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_vgg16_with_batch_norm_learns_eight_photos_by_heart(config: ConfigDict, real_data: Path) -> None:
    config.model.hidden = None
    config.model.update(name="vgg16", batch_norm=True)
    config.dataset.update(source=f"folder:{real_data / 'hymenoptera256'}", image_size=224, crop=0.875)
    config.schedule.update(name="constant", learning_rate=0.001)
    config.train.batch_size = 8
    settings.resolve(config)
    photos = dataset.load(config.dataset).train
    chosen = photos.take(np.concatenate([np.flatnonzero(photos.labels == label)[:4] for label in (0, 1)]))
    prepared = prepare(config, 8, devices.make_mesh(1))
    state, losses = prepared.state, []
    with training_batches(chosen, config, devices.make_mesh(1), 0, 20) as batches:
        for batch in batches:
            state, metrics = prepared.train_step(state, batch)
            losses.append(float(metrics.loss))
    print("losses:", ", ".join(f"{loss:.3f}" for loss in losses))
    assert losses[-1] < losses[0] / 2


def losses_on(device_count: int, parts: int = 1) -> list[float]:
    """Losses of 20 steps of LeNet-5 with augmentation and dropout; runs in a process with that many CPU devices."""
    from configs import lenet5_digits

    config = lenet5_digits.get_config()
    config.model.dropout = 0.2 if parts == 1 else 0.0  # each part draws its own
    config.train.accumulate = parts
    return [metrics.loss.item() for metrics in take_steps(config, 20, device_count)[1]]


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_eight_devices_compute_what_one_does(parts: int) -> None:
    losses = []
    for count in (1, 8):
        code = f"""
import jax
jax.config.update("jax_num_cpu_devices", {count})
from tests.train.test_step import losses_on
print(losses_on({count}, {parts}))
"""
        # Several devices never compute by oneDNN, whose last bits are others: over steps they grow.
        plain = os.environ | {"OLDMASTERS_ONEDNN": "0"}
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, env=plain)
        assert process.returncode == 0, process.stderr
        losses.append(json.loads(process.stdout.splitlines()[-1]))
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)
