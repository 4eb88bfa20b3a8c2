"""AlexNet, after Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep CNNs"."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import output_size
from models.layers import adaptive_average_pool, dropout

# (stage, channels, side of the kernel, stride, padding, whether a 3x3 pooling with stride 2 follows)
_CONVOLUTIONS = (
    ("conv1", 64, 11, 4, 2, True),
    ("conv2", 192, 5, 1, 2, True),
    ("conv3", 384, 3, 1, 1, False),
    ("conv4", 256, 3, 1, 1, False),
    ("conv5", 256, 3, 1, 1, True),
)


class AlexNet(nnx.Module):
    """The form that torchvision trains: one tower, no local response normalisation.

    Its widths are those of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"
    (arXiv 1404.5997). With three channels and 1,000 classes it has 61,100,840 parameters. Before fc6 an adaptive
    average pooling brings the maps to 6x6, the size that a 224x224 image leaves, so that images of other sizes fit.

    Args:
      image_size: side of the input in pixels, 63 or more.
      channels: channels of the input.
      classes: number of logits.
      dropout: probability of zeroing an input of fc6 and fc7 in training.
      dtype: what the layers compute in; parameters are float32.
      rngs: where the initial parameters come from (He et al. 2015, arXiv 1502.01852, for all but the last layer).

    Raises:
      GeometryError: the image is too small; names the stage and the sizes.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        channels: int = 3,
        classes: int = 1000,
        dropout: float = 0.5,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dropout = dropout
        he = nnx.initializers.he_normal()
        convolutions, size = [], image_size
        for stage, width, side, stride, padding, pooled in _CONVOLUTIONS:
            convolution = nnx.Conv(
                channels, width, (side, side), stride, padding=padding, dtype=dtype, kernel_init=he, rngs=rngs
            )
            convolutions.append(convolution)
            channels, size = width, output_size(stage, size, side, stride, padding)
            if pooled:
                size = output_size(stage.replace("conv", "pool"), size, 3, stride=2)
        self.convolutions = nnx.List(convolutions)
        self.fc6 = nnx.Linear(6 * 6 * channels, 4096, dtype=dtype, kernel_init=he, rngs=rngs)
        self.fc7 = nnx.Linear(4096, 4096, dtype=dtype, kernel_init=he, rngs=rngs)
        self.fc8 = nnx.Linear(4096, classes, dtype=dtype, rngs=rngs)

    def stages(self, x: jax.Array, *, key: jax.Array | None = None) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, activation) of each stage; of a 224x224 image conv1 has 55x55 maps, pool5 6x6."""
        keys = (None, None) if key is None else jax.random.split(key)
        for (stage, *_, pooled), convolution in zip(_CONVOLUTIONS, self.convolutions, strict=True):
            x = jax.nn.relu(convolution(x))
            yield stage, x  # [B, 55, 55, 64], [B, 27, 27, 192], [B, 13, 13, 384], then 256 channels twice
            if pooled:
                x = nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2))
                yield stage.replace("conv", "pool"), x  # [B, 27, 27, 64], [B, 13, 13, 192], [B, 6, 6, 256]
        x = adaptive_average_pool(x, 6)  # [B, 6, 6, 256]
        x = dropout(x.reshape(x.shape[0], -1), self.dropout, keys[0])  # [B, 9216]
        x = jax.nn.relu(self.fc6(x))
        yield "fc6", x  # [B, 4096]
        x = jax.nn.relu(self.fc7(dropout(x, self.dropout, keys[1])))
        yield "fc7", x  # [B, 4096]
        yield "fc8", self.fc8(x)  # [B, classes]

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of images `[B, H, W, C]`."""
        *_, (_, logits) = self.stages(x, key=key)
        return logits
