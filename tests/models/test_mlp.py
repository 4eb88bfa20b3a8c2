import jax
import numpy as np
from flax import nnx

from models import MLP


def test_parameters_of_the_1998_net() -> None:
    # 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    network = MLP(rngs=nnx.Rngs(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))) == 266_610


def test_a_permutation_of_pixels_is_one_of_weights() -> None:
    # Why not an MLP: neighbours mean nothing to it. Permuted pixels with permuted rows of weights are the same net.
    network = MLP(image_size=6, hidden=(20, 5), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 6, 6, 1))
    order = np.random.default_rng(0).permutation(36)
    logits = network(x)
    network.hidden1.kernel[...] = network.hidden1.kernel[...][order]
    permuted = x.reshape(3, 36)[:, order].reshape(x.shape)
    np.testing.assert_allclose(network(permuted), logits, atol=1e-5)


def test_stages() -> None:
    network = MLP(image_size=6, hidden=(20, 5), classes=4, rngs=nnx.Rngs(0))
    stages = {name: value.shape for name, value in network.stages(np.zeros((2, 6, 6, 1), np.float32))}
    assert stages == {"hidden1": (2, 20), "hidden2": (2, 5), "output": (2, 4)}
