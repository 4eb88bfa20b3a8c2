"""VGG-16, after Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition"."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import output_size
from models.layers import adaptive_average_pool, dropout, pool

# Configuration D, table 1 of arXiv 1409.1556: (convolutions, channels) of each block; a 2x2 max pooling ends it.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


class VGG16(nnx.Module):
    """Sixteen layers with parameters: thirteen 3x3 convolutions in five blocks, and three dense layers.

    With three channels and 1,000 classes it has 138,357,544 parameters, 138,365,992 with batch normalisation. Before
    fc6 an adaptive average pooling brings the maps to 7x7, the size that a 224x224 image leaves, so that images of
    other sizes fit.

    Args:
      image_size: side of the input in pixels, 32 or more.
      channels: channels of the input.
      classes: number of logits.
      batch_norm: normalise behind each convolution (Ioffe and Szegedy 2015, arXiv 1502.03167).
      dropout: probability of zeroing a unit of fc6 and fc7 in training.
      dtype: what the layers compute in; parameters and batch statistics are float32.
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
        batch_norm: bool = False,
        dropout: float = 0.5,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dropout = dropout
        he = nnx.initializers.he_normal()
        convolutions, norms, size = [], [], image_size
        for block, (depth, width) in enumerate(_BLOCKS, start=1):
            for _ in range(depth):
                convolutions.append(
                    nnx.Conv(channels, width, (3, 3), padding=1, dtype=dtype, kernel_init=he, rngs=rngs)
                )
                if batch_norm:
                    norms.append(nnx.BatchNorm(width, momentum=0.9, dtype=dtype, rngs=rngs))
                channels = width
            size = output_size(f"pool{block}", size, 2, stride=2)
        self.convolutions = nnx.List(convolutions)
        self.norms = nnx.List(norms)
        self.fc6 = nnx.Linear(7 * 7 * channels, 4096, dtype=dtype, kernel_init=he, rngs=rngs)
        self.fc7 = nnx.Linear(4096, 4096, dtype=dtype, kernel_init=he, rngs=rngs)
        self.fc8 = nnx.Linear(4096, classes, dtype=dtype, rngs=rngs)

    def stages(self, x: jax.Array, *, key: jax.Array | None = None) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, activation) of each stage; with a key, batch norm uses and records the batch's statistics."""
        keys = (None, None) if key is None else jax.random.split(key)
        layer = 0
        for block, (depth, _) in enumerate(_BLOCKS, start=1):
            for place in range(1, depth + 1):
                x = self.convolutions[layer](x)
                if self.norms:
                    x = self.norms[layer](x, use_running_average=key is None)
                x = jax.nn.relu(x)
                layer += 1
                yield f"conv{block}_{place}", x  # of a 224x224 image: 224, 112, 56, 28, 14 pixels a side by block
            x = pool(x, 2, "max")
            yield f"pool{block}", x  # [B, 112, 112, 64] down to [B, 7, 7, 512]
        x = adaptive_average_pool(x, 7)  # [B, 7, 7, 512]
        x = dropout(jax.nn.relu(self.fc6(x.reshape(x.shape[0], -1))), self.dropout, keys[0])
        yield "fc6", x  # [B, 4096]
        x = dropout(jax.nn.relu(self.fc7(x)), self.dropout, keys[1])
        yield "fc7", x  # [B, 4096]
        yield "fc8", self.fc8(x)  # [B, classes]

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of images `[B, H, W, C]`."""
        *_, (_, logits) = self.stages(x, key=key)
        return logits
