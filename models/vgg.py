"""VGG, after Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition"."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.geometry import windows
from models.layers import INITS, BatchNorm, Convolution, Dropout, LocalResponseNorm
from models.network import Network
from models.pooling import MaxPool

# Table 1 of arXiv 1409.1556: the sides of the kernels of each block, which a 2x2 max pooling ends.
_KERNELS = {
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
_WIDTHS = (64, 128, 256, 512, 512)
# Those of net A that start a deeper net (section 3.1): its first four convolutions and the dense layers.
SHALLOW = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


class VGG(Network):
    """Blocks of 3x3 convolutions and three dense layers; net D is VGG-16, E is VGG-19.

    Layers with parameters: 11 in A and A-LRN, 13 in B, 16 in C and D, 19 in E. The last convolution of C's later blocks
    is 1x1; A-LRN normalises behind the first convolution, as AlexNet does. With three channels and 1,000 classes D has
    138,357,544 parameters, 138,365,992 with batch normalisation. Before fc6 an adaptive average pooling brings the maps
    to 7x7, the size that a 224x224 image leaves, so that images of other sizes fit.

    Args:
      variant: one of `VARIANTS`, the columns of table 1.
      image_size: side of the input in pixels, 32 or more.
      channels: channels of the input.
      classes: number of logits.
      batch_norm: normalise behind each convolution (Ioffe and Szegedy 2015, arXiv 1502.03167).
      init: a key of `INITS`, for all kernels.
      dropout: probability of zeroing a unit of fc6 and fc7 in training.
      dtype: what the layers compute in; parameters and batch statistics are float32.
      rngs: where the initial parameters come from; biases begin at 0.

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
      NetworkError: no such variant.
    """

    VARIANTS = tuple(_KERNELS)

    def __init__(
        self,
        *,
        variant: str = "D",
        image_size: int = 224,
        channels: int = 3,
        classes: int = 1000,
        batch_norm: bool = False,
        init: str = "glorot",
        dropout: float = 0.5,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self._check(variant)
        super().__init__((image_size, image_size, channels))
        kernel_init, zero = INITS[init], nnx.initializers.zeros
        for block, (sides, width) in enumerate(zip(_KERNELS[variant], _WIDTHS, strict=True), start=1):
            for place, side in enumerate(sides, start=1):
                window = windows(side, padding=side // 2)
                convolution = Convolution(
                    self.shape[-1], width, window, dtype=dtype, kernel_init=kernel_init, rngs=rngs
                )
                norm = (BatchNorm(width, momentum=0.9, dtype=dtype, rngs=rngs),) if batch_norm else ()
                self.add(f"conv{block}_{place}", convolution, *norm, activation="relu")
                if variant == "A-LRN" and block == 1:
                    self.add("norm1", LocalResponseNorm())
            self.add(f"pool{block}", MaxPool(windows(2, stride=2)))
        self.add_classifier(
            7,
            classes,
            Dropout(dropout),
            before=("fc7", "fc8"),
            dtype=dtype,
            kernel_init=kernel_init,
            bias_init=zero,
            last_init=kernel_init,
            rngs=rngs,
        )
