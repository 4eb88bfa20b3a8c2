"""AlexNet, after Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep CNNs"."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.geometry import windows
from models.layers import INITS, Convolution, Dropout, LocalResponseNorm
from models.network import Network
from models.pooling import MaxPool

# (width, side of the kernel, stride, padding) of conv1 to conv5. Of the paper: sections 3.2 and 3.5.
_PAPER = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1))
# torchvision's; Krizhevsky 2014 (arXiv 1404.5997), footnote 1, has the same but for 384 channels in conv4.
_ONE_TOWER = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED, _NORMALISED = (1, 2, 5), (1, 2)
# Convolutions that see their own tower alone (section 3.2), which are those whose biases begin at 1 (section 5).
_IN_TOWERS = (2, 4, 5)


class AlexNet(Network):
    """Five convolutions and three dense layers, in the forms that carry the name.

    - "torchvision": one tower, no normalisation: 61,100,840 parameters. It has published weights.
    - "2012": as published. Two towers, which are groups of conv2, conv4 and conv5; local response normalisation behind
      conv1 and conv2, before the pooling. With three channels and 1,000 classes it has 60,965,224 parameters. The
      paper says 224 pixels, but the 55x55 maps of conv1 take 227.
    - "caffenet": Caffe's, with pooling before normalisation, and a normalisation whose alpha is divided by the number
      of channels that it looks at and whose k is 1; pooling rounds sizes up. It has as many parameters, and starts here
      as "2012" does.
    - "bvlc": Caffe's AlexNet: the order of "2012", the normalisation and the pooling of "caffenet".

    Before fc6 an adaptive average pooling brings the maps to 6x6, the size that 224 (or 227) pixels leave, so that
    images of other sizes fit.

    Args:
      variant: one of `VARIANTS`.
      image_size: side of the input in pixels: 63 or more, in "2012" 67, in "caffenet" and "bvlc" 39.
      channels: channels of the input.
      classes: number of logits.
      dropout: probability of zeroing a unit of fc6 and fc7 in training; in "torchvision", one of their inputs.
      init: a key of `INITS`, for all kernels; by default N(0, 0.01), as in section 5 of the paper, and in "torchvision"
        He et al. 2015 (arXiv 1502.01852) for all but the last layer.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from; some biases begin at 1, as in the paper, in "torchvision" none.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
      NetworkError: no such variant.
    """

    VARIANTS = ("torchvision", "2012", "caffenet", "bvlc")

    def __init__(
        self,
        *,
        variant: str = "torchvision",
        image_size: int = 224,
        channels: int = 3,
        classes: int = 1000,
        dropout: float = 0.5,
        init: str | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self._check(variant)
        super().__init__((image_size, image_size, channels))
        published, by_caffe = variant != "torchvision", variant in ("caffenet", "bvlc")
        start = nnx.initializers.normal(0.01) if published else INITS["he"]
        last = start if published else INITS["lecun"]
        if init is not None:
            start = last = INITS[init]
        one, zero = nnx.initializers.ones, nnx.initializers.zeros
        norm = LocalResponseNorm(alpha=1e-4 / 5, k=1.0) if by_caffe else LocalResponseNorm()
        for number, (width, side, stride, padding) in enumerate(_PAPER if published else _ONE_TOWER, start=1):
            in_towers = published and number in _IN_TOWERS
            convolution = Convolution(
                self.shape[-1],
                width,
                windows(side, stride, padding),
                groups=2 if in_towers else 1,
                dtype=dtype,
                kernel_init=start,
                bias_init=one if in_towers else zero,
                rngs=rngs,
            )
            self.add(f"conv{number}", convolution, activation="relu")
            if variant in ("2012", "bvlc") and number in _NORMALISED:
                self.add(f"norm{number}", norm)
            if number in _POOLED:
                self.add(f"pool{number}", MaxPool(windows(3, stride=2, ceil=by_caffe)))
            if variant == "caffenet" and number in _NORMALISED:
                self.add(f"norm{number}", norm)
        self.add_classifier(
            6,
            classes,
            Dropout(dropout),
            before=("fc7", "fc8") if published else ("fc6", "fc7"),
            dtype=dtype,
            kernel_init=start,
            bias_init=one if published else zero,
            last_init=last,
            rngs=rngs,
        )
