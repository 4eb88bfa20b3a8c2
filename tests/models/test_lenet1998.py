"""LeNet-5 as published, against the figures of section II.B of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import LeNet1998
from models.lenet1998 import CODES
from models.network import NetworkError
from models.summary import rows


@pytest.fixture(scope="module")
def network() -> LeNet1998:
    return LeNet1998(rngs=nnx.Rngs(0))


def test_parameters_and_connections_are_the_papers(network: LeNet1998) -> None:
    # "Layer C1 contains 156 trainable parameters, and 122,304 connections", and so on, layer by layer.
    assert [(row.name, row.parameters, row.connections) for row in rows(network)] == [
        ("C1", 156, 122_304),
        ("S2", 12, 5_880),
        ("C3", 1_516, 151_600),
        ("S4", 32, 2_000),
        ("C5", 48_120, 48_120),
        ("F6", 10_164, 10_164),
        ("output", 0, 840),
    ]


def test_maps_of_c3_see_what_table_1_says(network: LeNet1998) -> None:
    pairs = network.C3.pairs
    seen = [[inside for inside, out in pairs if out == column] for column in range(16)]
    # Six see three neighbours each, six see four neighbours, three see four with a gap, the last sees all.
    assert [len(row) for row in seen] == [3] * 6 + [4] * 9 + [6]
    contiguous = [{(start + step) % 6 for step in range(count)} for count in (3, 4) for start in range(6)]
    assert sorted(map(sorted, contiguous[:6])) == sorted(seen[:6])
    assert sorted(map(sorted, contiguous[6:])) == sorted(seen[6:12])
    assert all(set(row) not in contiguous for row in seen[12:15])
    assert len({tuple(row) for row in seen}) == 16
    # Each map of S2 is seen ten times in table I.
    assert [sum(place in row for row in seen) for place in range(6)] == [10] * 6


def test_initial_weights_stay_within_2_4_over_the_inputs(network: LeNet1998) -> None:
    for name, inputs in (("C1", 25), ("C5", 400), ("F6", 120)):
        kernel = np.asarray(getattr(network, name).kernel[...])
        assert 0.95 * 2.4 / inputs < np.abs(kernel).max() <= 2.4 / inputs
    kernel = np.asarray(network.C3.kernel[...])
    of_three, of_six = kernel[..., : 6 * 3], kernel[..., -6:]
    assert 0.9 * 2.4 / 75 < np.abs(of_three).max() <= 2.4 / 75
    assert 0.9 * 2.4 / 150 < np.abs(of_six).max() <= 2.4 / 150


def test_codes_are_ten_different_pictures_of_84_pixels() -> None:
    codes = np.array(CODES)
    assert codes.shape == (10, 84)
    assert set(codes.ravel()) == {-1, 1}
    distances = np.square(codes[:, None] - codes).sum(-1)[np.triu_indices(10, 1)]
    assert distances.min() >= 4 * 12  # no two digits differ in fewer than twelve pixels


def test_logits_are_minus_the_squared_distances(network: LeNet1998) -> None:
    stages = dict(network.stages(jax.random.normal(jax.random.key(0), (3, 32, 32, 1))))
    expected = -np.square(np.asarray(stages["F6"])[:, None] - np.array(CODES)).sum(-1)
    np.testing.assert_allclose(stages["output"], expected, rtol=1e-5)


def test_the_loss_is_equation_9(network: LeNet1998) -> None:
    # E = y_D + log(exp(-j) + sum_i exp(-y_i)), y being the distances.
    distances = np.array([[0.5, 3.0, *[9.0] * 8], [70.0, 2.0, *[80.0] * 8]])
    losses = network.cross_entropy(jnp.asarray(-distances), jnp.eye(10)[jnp.array([0, 0])])
    expected = distances[:, 0] + np.log(np.exp(-0.1) + np.exp(-distances).sum(1))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_it_knows_ten_classes_and_no_other_number() -> None:
    with pytest.raises(NetworkError, match="not with 3 classes; its variant modern takes any"):
        LeNet1998(classes=3, rngs=nnx.Rngs(0))
