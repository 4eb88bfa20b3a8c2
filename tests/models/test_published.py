"""Initial values, dropout and normalisation as the papers and their first code have them."""

import numpy as np
import pytest
from flax import nnx

from models import VGG, AlexNet, Network
from models.geometry import windows
from models.layers import Dropout, LocalResponseNorm
from models.pooling import MaxPool
from models.summary import rows


@pytest.fixture(scope="module")
def alexnet() -> AlexNet:
    return AlexNet(variant="2012", image_size=67, rngs=nnx.Rngs(0))


def test_alexnets_weights_and_biases(alexnet: AlexNet) -> None:
    # Section 5: N(0, 0.01); biases 1 in the second, fourth and fifth convolution and the hidden dense layers, else 0.
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        layer = getattr(alexnet, name)
        kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
        assert kernel.std() == pytest.approx(0.01, rel=0.05)
        assert abs(kernel.mean()) < 5 * 0.01 / kernel.size**0.5
        assert (bias == (name in ("conv2", "conv4", "conv5", "fc6", "fc7"))).all()


def stages_with(network: Network, kind: type) -> list[str]:
    return [stage.name for stage in network.plan if any(isinstance(layer, kind) for layer in stage.layers)]


@pytest.mark.parametrize(
    ("make", "stages"),
    [
        # The outputs of the first two dense layers (section 4.2): what fc7 and fc8 see.
        (lambda rngs: AlexNet(variant="2012", rngs=rngs), ["fc7", "fc8"]),
        (lambda rngs: AlexNet(variant="caffenet", rngs=rngs), ["fc7", "fc8"]),
        (lambda rngs: VGG(rngs=rngs), ["fc7", "fc8"]),  # section 3.1
        (lambda rngs: AlexNet(rngs=rngs), ["fc6", "fc7"]),  # torchvision's code
    ],
    ids=["2012", "caffenet", "vgg", "torchvision"],
)
def test_dropout_stands_where_it_did(make, stages: list[str]) -> None:
    network = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    assert stages_with(network, Dropout) == stages
    dropped = [layer for stage in network.plan for layer in stage.layers if isinstance(layer, Dropout)]
    assert dropped == [Dropout(0.5)] * 2


@pytest.mark.parametrize(
    ("variant", "norm", "stages"),
    [
        ("2012", LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2.0), ["norm1", "norm2"]),  # section 3.3
        ("caffenet", LocalResponseNorm(size=5, alpha=1e-4 / 5, beta=0.75, k=1.0), ["norm1", "norm2"]),  # its prototxt
        ("bvlc", LocalResponseNorm(size=5, alpha=1e-4 / 5, beta=0.75, k=1.0), ["norm1", "norm2"]),  # likewise
        ("torchvision", None, []),
    ],
)
def test_norms_of_alexnet(variant: str, norm: LocalResponseNorm | None, stages: list[str]) -> None:
    network = nnx.eval_shape(lambda: AlexNet(variant=variant, image_size=227, rngs=nnx.Rngs(0)))
    assert stages_with(network, LocalResponseNorm) == stages
    assert {layer for stage in network.plan for layer in stage.layers if isinstance(layer, LocalResponseNorm)} == (
        {norm} if norm else set()
    )
    pools = {layer for stage in network.plan for layer in stage.layers if isinstance(layer, MaxPool)}
    assert pools == {MaxPool(windows(3, stride=2, ceil=variant in ("caffenet", "bvlc")))}  # Caffe rounds up


def test_caffe_rounds_up_where_it_matters() -> None:
    # At 224 pixels conv1 leaves 54: Caffe pools them to 27, others to 26.
    shapes = {}
    for variant in ("2012", "caffenet", "bvlc"):
        network = nnx.eval_shape(lambda variant=variant: AlexNet(variant=variant, image_size=224, rngs=nnx.Rngs(0)))
        shapes[variant] = {row.name: row.shape for row in rows(network)}["pool1"][0]
    assert shapes == {"2012": 26, "caffenet": 27, "bvlc": 27}


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("gaussian", lambda inputs, outputs: 0.1),  # section 3.1: variance 0.01
        ("glorot", lambda inputs, outputs: (2 / (inputs + outputs)) ** 0.5),  # Glorot and Bengio 2010, equation 16
        ("he", lambda inputs, outputs: (2 / inputs) ** 0.5),  # He et al. 2015, equation 10
        ("lecun", lambda inputs, outputs: inputs**-0.5),  # LeCun et al. 1998, "Efficient BackProp", equation 16
        ("torch", lambda inputs, outputs: (3 * inputs) ** -0.5),  # torch.nn.Linear's: uniform within inputs ** -0.5
    ],
)
def test_vggs_initial_kernels(init: str, deviation) -> None:
    network = VGG(variant="A", image_size=32, classes=10, init=init, rngs=nnx.Rngs(0))
    for name in ("conv1_1", "conv3_2", "conv5_1", "fc7", "fc8"):
        kernel = np.asarray(getattr(network, name).kernel[...])
        taps = int(np.prod(kernel.shape[:-2]))
        assert kernel.std() == pytest.approx(deviation(taps * kernel.shape[-2], taps * kernel.shape[-1]), rel=0.05)
        assert not np.asarray(getattr(network, name).bias[...]).any()
        if init in ("glorot", "torch"):  # uniform: no value lies beyond the square root of three deviations
            assert np.abs(kernel).max() <= 3**0.5 * deviation(taps * kernel.shape[-2], taps * kernel.shape[-1])
