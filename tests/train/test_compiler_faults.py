"""Programs that XLA:CPU has been seen to compute wrongly, as `devices.jit` compiles them.

jaxlib 0.10.2 hands a product of small matrices and the sum behind it to the YNN library as one; from the 32,769th row
on the results are those of rows before them (jax issue 39103). Plain `jax.jit` is not
looked at here: whether it has the fault depends on jaxlib.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import devices
from train.explaining import attribution
from train.onednn import library

ROWS = (32_768, 32_769, 40_000)


@pytest.fixture(params=["0", "1"])
def onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of a CPU: by oneDNN where it is there, and without it."""
    if request.param == "1" and not library.computes():
        pytest.skip("oneDNN is not there")
    monkeypatch.setenv("OLDMASTERS_ONEDNN", request.param)
    return str(request.param)


def squares(x: jax.Array) -> jax.Array:
    """The report's program: of each row the sum of squares of its product with the unit matrix."""
    unit = jnp.eye(3, dtype=x.dtype)
    return jax.vmap(lambda row: jnp.sum((unit @ row) ** 2))(x)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("rows", ROWS)
def test_a_product_and_the_sum_behind_it(rows: int, precision: str) -> None:
    values = np.arange(rows) % 13  # squares that bfloat16 holds, in no period that rows are computed in
    x = jnp.zeros((rows, 3), precision).at[:, 0].set(values)
    found = np.float32(devices.jit(squares, precision)(x))
    np.testing.assert_array_equal(found, values.astype(np.float32) ** 2)


BEHIND: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sum": lambda products: products.sum(-1),
    "largest": lambda products: products.max(-1),
    "logarithms": jax.nn.log_softmax,
    "rectified": lambda products: jax.nn.relu(products).sum(-1),
    "length": lambda products: jnp.sqrt(jnp.square(products).sum(-1)),
    "columns": lambda products: products.mean(0),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.usefixtures("onednn")
def test_what_networks_do_behind_products(precision: str) -> None:
    random = np.random.default_rng(0)
    x, kernel = (jnp.asarray(random.integers(-4, 5, shape), precision) for shape in ((ROWS[-1], 3), (3, 5)))
    program = devices.jit(lambda x, kernel: [of((x @ kernel).astype("float32")) for of in BEHIND.values()], precision)
    products = jnp.asarray(np.float32(x) @ np.float32(kernel))  # whole numbers below 256: exact in either
    for name, found in zip(BEHIND, program(x, kernel), strict=True):
        np.testing.assert_allclose(found, BEHIND[name](products), rtol=1e-5, atol=1e-5, err_msg=name)


def test_grad_cam_of_vggs_first_maps() -> None:
    """224x224 places, of each the sum of 64 products: XLA makes one of it that YNN computes."""
    maps = np.random.default_rng(0).standard_normal((1, 224, 224, 64), "float32")

    def score(maps: jax.Array) -> jax.Array:
        return jnp.square(maps).sum((1, 2, 3))

    weights = np.float64(2 * maps).mean((1, 2), keepdims=True)
    expected = np.maximum((weights * maps).sum(-1), 0)
    found = attribution.grad_cam(jax.tree_util.Partial(score), maps)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
