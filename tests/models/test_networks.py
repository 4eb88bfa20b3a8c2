"""What holds of every network."""

import jax
import numpy as np
import pytest
from flax import nnx

from models import NETWORKS

SIZES = {"lenet5": 32, "alexnet": 64, "vgg16": 32, "mlp": 8}


Case = tuple[nnx.Module, jax.Array]


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def case(request: pytest.FixtureRequest) -> Case:
    size = SIZES[request.param]
    network = NETWORKS[request.param](image_size=size, channels=2, classes=5, dropout=0.5, rngs=nnx.Rngs(0))
    return network, jax.random.normal(jax.random.key(7), (2, size, size, 2))


def test_sizes_are_known() -> None:
    assert SIZES.keys() == NETWORKS.keys()


def test_calling_is_the_last_stage(case: Case) -> None:
    network, images = case
    logits = network(images)
    assert logits.shape == (2, 5)
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
    assert not np.allclose(first, other)
