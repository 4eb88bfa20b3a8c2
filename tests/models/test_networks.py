"""What holds of every network in every variant."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import NETWORKS, Network
from models.network import NetworkError

SMALL = {"lenet5": 32, "lenet1d": 6, "alexnet": 67, "vgg": 32, "mlp": 8}
VARIANTS = [
    (name, variant, make)
    for name, variants in NETWORKS.items()
    if name in SMALL  # vgg11 and so on are variants of vgg
    for variant, make in variants.items()
]

Case = tuple[Network, jax.Array]


def build(name: str, variant: str | None, make: Callable[..., Network], **options) -> Network:
    classes = 10 if variant == "1998" else 5
    return make(image_size=SMALL[name], channels=2, classes=classes, dropout=0.5, rngs=nnx.Rngs(0), **options)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda case: f"{case[0]} {case[1] or ''}".strip())
def case(request: pytest.FixtureRequest) -> Case:
    name, *_ = request.param
    return build(*request.param), jax.random.normal(jax.random.key(7), (2, SMALL[name], SMALL[name], 2))


def test_sizes_are_known() -> None:
    assert SMALL.keys() == {name for name in NETWORKS if not name[-2:].isdigit()}


@pytest.mark.parametrize(("name", "layers"), [("vgg11", 11), ("vgg13", 13), ("vgg16", 16), ("vgg19", 19)])
def test_the_number_in_a_name_is_that_of_layers_with_parameters(name: str, layers: int) -> None:
    (make,) = NETWORKS[name].values()
    network = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    assert sum(stage.name.startswith(("conv", "fc")) for stage in network.plan) == layers


def test_calling_is_the_last_stage(case: Case) -> None:
    network, images = case
    logits = network(images)
    assert logits.shape == (2, *network.shape)
    *_, (_, last) = network.stages(images)
    np.testing.assert_array_equal(logits, last)


def test_compiled_equals_eager(case: Case) -> None:
    network, images = case
    graph, state = nnx.split(network)
    compiled = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, images)
    np.testing.assert_allclose(compiled, network(images), atol=1e-5, rtol=1e-5)


def test_only_a_training_call_is_random(case: Case) -> None:
    network, images = case
    np.testing.assert_array_equal(network(images), network(images))
    first, again, other = (network(images, key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_stages_activate_before_they_pool(case: Case) -> None:
    # Max pooling comes before the activation inside, where that is the same; what is yielded must not show it.
    network, images = case
    maps = None
    for (name, activation), stage in zip(network.stages(images), network.plan, strict=True):
        if name.lower().startswith(("pool", "s2", "s4")) and maps is not None:
            x = maps
            for layer in network.layers_of(stage):
                x = layer(x)
            if stage.activation == "identity":
                np.testing.assert_allclose(activation, x, atol=1e-6)
        maps = activation


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda case: f"{case[0]} {case[1] or ''}".strip())
def test_parameters_stay_float32_where_layers_compute_in_bfloat16(
    variant: tuple[str, str | None, Callable[..., Network]],
) -> None:
    network = nnx.eval_shape(lambda: build(*variant, dtype=jnp.bfloat16))
    graph, state = nnx.split(network)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    stages = jax.eval_shape(
        lambda state, x: [stage for _, stage in nnx.merge(graph, state).stages(x)],
        state,
        jax.ShapeDtypeStruct((2, *network.input_shape), jnp.float32),
    )
    # Distances to the pictures of digits alone are float32: what is small is their difference.
    distances = stages.pop() if variant[1] == "1998" else None
    assert {stage.dtype for stage in stages} == {jnp.dtype(jnp.bfloat16)}
    assert distances is None or distances.dtype == jnp.float32


def test_probabilities_add_up(case: Case) -> None:
    network, images = case
    total = jnp.exp(network.log_probabilities(network(images).astype(jnp.float32))).sum(-1)
    rubbish = network.shape == (10,)  # LeNet-5 of 1998 alone has ten classes here
    assert (total <= 1 + 1e-5).all() if rubbish else np.allclose(total, 1, atol=1e-5)


def test_the_two_parts_of_a_network_are_the_network(case: Case) -> None:
    network, images = case
    names = [stage.name for stage in network.plan]
    activations = dict(network.stages(images))
    for last in {names[0], names[len(names) // 2], names[-2]}:
        first, second = network.divided(last)
        np.testing.assert_array_equal(first(images), activations[last])
        np.testing.assert_allclose(second(activations[last]), activations[names[-1]], rtol=1e-5, atol=1e-6)
        assert second.input_shape == first.shape == activations[last].shape[1:]
        both = [jax.tree.leaves(nnx.state(part)) for part in (first, second)]
        assert len(both[0]) + len(both[1]) == len(jax.tree.leaves(nnx.state(network)))


def test_batch_statistics_go_with_their_layer() -> None:
    network = nnx.eval_shape(lambda: NETWORKS["vgg11"]["A"](batch_norm=True, rngs=nnx.Rngs(0)))
    first, second = network.divided("conv2_1")
    assert {name for name in vars(first) if name.endswith("_norm")} == {"conv1_1_norm", "conv2_1_norm"}
    assert "conv3_1_norm" in vars(second)
    assert "conv2_1_norm" not in vars(second)


def test_stages_that_no_network_is_divided_behind(case: Case) -> None:
    network, _ = case
    for name in ("conv99", network.plan[-1].name):
        with pytest.raises(NetworkError, match=f"stage '{name}': must be one of {network.plan[0].name}, "):
            network.divided(name)
