"""What happens to images inside the compiled step: augmentation, then normalisation.

Every transform is a pure function of a key and a batch, and draws its amount anew for every image.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from ml_collections import ConfigDict

from train.data.trivial_augment import trivial_augment


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirror about half of the images `[B, H, W, C]` left to right."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def shift(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Move each image `[H, W, C]` by up to that many whole pixels in both directions; zeros come in."""
    return _crop(key, jnp.pad(images, _border(pixels)), images.shape[1:])


def move(images: jax.Array, rows: int, columns: int) -> jax.Array:
    """Move images `[B, H, W, C]` by whole pixels, down and to the right; zeros come in."""
    height, width = images.shape[1:3]
    down, right = jnp.arange(height) - rows, jnp.arange(width) - columns  # where each pixel comes from
    inside = ((down >= 0) & (down < height))[:, None] & (right >= 0) & (right < width)
    return jnp.where(inside[..., None], images[:, down % height][:, :, right % width], 0)


def pad_and_crop(key: jax.Array, images: jax.Array, pixels: int) -> jax.Array:
    """Mirror that many pixels outwards over each edge and cut a window of the old size out."""
    return _crop(key, jnp.pad(images, _border(pixels), mode="reflect"), images.shape[1:])


def _border(pixels: int) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))


def _crop(key: jax.Array, images: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    room = images.shape[1] - shape[0] + 1  # the border is the same on all sides
    corners = jax.random.randint(key, (len(images), 2), 0, room)
    return jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), shape))(images, corners)


def affine(key: jax.Array, images: jax.Array, rotate: float, scale: float, shear: float) -> jax.Array:
    """Rotate, scale and shear each image about its middle, with bilinear interpolation; zeros come in.

    Args:
      key: where the amounts come from.
      images: float `[B, H, W, C]`.
      rotate: up to so many degrees, either way.
      scale: by a factor of 1 - scale to 1 + scale, in each direction for itself.
      shear: columns move by up to this share of their distance from the middle row, either way.
    """
    height, width = images.shape[1:3]
    rotate_key, scale_key, shear_key = jax.random.split(key, 3)
    angles = jnp.deg2rad(rotate) * jax.random.uniform(rotate_key, (len(images),), minval=-1.0)
    factors = 1 + scale * jax.random.uniform(scale_key, (len(images), 2), minval=-1.0)
    shears = shear * jax.random.uniform(shear_key, (len(images),), minval=-1.0)
    middle = (jnp.array([height, width]) - 1) / 2
    # Coordinates of the result's pixels, as seen from the middle: [2, H, W].
    rows, columns = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij")) - middle[:, None, None]

    def transform(image: jax.Array, angle: jax.Array, factor: jax.Array, shear: jax.Array) -> jax.Array:
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        # Sampling asks where a pixel of the result comes from, hence the inverse of the scale.
        matrix = jnp.array([[cosine, -sine], [sine, cosine]]) @ jnp.array([[1.0, 0.0], [shear, 1.0]]) / factor
        source = jnp.tensordot(matrix, grid, 1) + middle[:, None, None]
        sample = jax.vmap(lambda plane: map_coordinates(plane, list(source), order=1), in_axes=-1, out_axes=-1)
        return sample(image)

    return jax.vmap(transform)(images, angles, factors, shears)


def color_noise(key: jax.Array, images: jax.Array, covariance: tuple[float, ...], deviation: float) -> jax.Array:
    """Add to each image one colour, drawn along the principal components of the data's colours.

    Krizhevsky et al. 2012, section 4.1: each component times a normal draw. As in the first author's cuda-convnet2, a
    draw is in standard deviations of its component.

    Args:
      key: where the amounts come from.
      images: float `[B, H, W, C]`, pixels in 0..255.
      covariance: of the channels over the data, `[C * C]` row by row, pixels being 0..1.
      deviation: of the draws; 0.1 in the paper.
    """
    channels = images.shape[-1]
    variances, components = np.linalg.eigh(np.reshape(covariance, (channels, channels)))
    scaled = components * np.sqrt(np.maximum(variances, 0))  # [C, components]
    draws = deviation * jax.random.normal(key, (len(images), channels))
    return images + 255 * (draws @ scaled.T.astype(np.float32))[:, None, None, :]


def augment(key: jax.Array, images: jax.Array, config: ConfigDict, dataset: ConfigDict) -> jax.Array:
    """Apply what the section `augment` switches on to uint8 `[B, H, W, C]`; returns float32 around 0..255.

    Whole pixels move first, while they are bytes; the affine map interpolates, and colours change last. The section
    `dataset` is complete. Random resized crops have been cut before, out of the photos (see data/stream.py).
    """
    flip_key, shift_key, crop_key, affine_key, color_key = jax.random.split(key, 5)
    # TPUs round what they multiply to eight bits otherwise, and pixels 129 and 130 to one place.
    with jax.default_matmul_precision("highest"):
        if config.flip:
            images = flip(flip_key, images)
        if config.shift:
            images = shift(shift_key, images, config.shift)
        if config.pad_and_crop:
            images = pad_and_crop(crop_key, images, config.pad_and_crop)
        if config.trivial_augment:
            images = trivial_augment(jax.random.fold_in(key, 0), images)
        images = images.astype(jnp.float32)
        if config.rotate or config.scale or config.shear:
            images = affine(affine_key, images, config.rotate, config.scale, config.shear)
        if config.color_noise:
            images = color_noise(color_key, images, dataset.covariance, config.color_noise)
    return images


def mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mix each image, and its target, with the one before it in the batch.

    Mixup (Zhang et al. 2017, arXiv 1710.09412) blends both, by a share from Beta(mixup, mixup); CutMix (Yun et al.
    2019, arXiv 1905.04899) sets a rectangle of the other in, whose share of the area is from Beta(cutmix, cutmix)
    before the edges cut it. Where both are on, every other image is mixed by each.

    Args:
      key: where the amounts come from.
      images: float `[B, H, W, C]`.
      targets: probabilities `[B, classes]`.
      mixup: parameter of the distribution; 0 switches it off.
      cutmix: the same.
    """
    batch, height, width, _ = images.shape
    which_key, share_key, area_key, place_key = jax.random.split(key, 4)
    blended = jax.random.bernoulli(which_key, 0.5 if mixup and cutmix else float(bool(mixup)), (batch,))
    # Of the image itself, by either way; a distribution that is off is never looked at.
    share = jax.random.beta(share_key, mixup or 1.0, mixup or 1.0, (batch,))
    side = jnp.sqrt(1 - jax.random.beta(area_key, cutmix or 1.0, cutmix or 1.0, (batch,)))
    middle = jax.random.uniform(place_key, (2, batch, 1))

    def covered(length: int, middle: jax.Array) -> jax.Array:
        """Which pixels of a side lie in the rectangle, `[B, length]`."""
        half, at = (side * length / 2)[:, None], middle * length
        first, last = (jnp.round(edge.clip(0, length)) for edge in (at - half, at + half))
        return (jnp.arange(length) >= first) & (jnp.arange(length) < last)

    inside = covered(height, middle[0])[:, :, None] & covered(width, middle[1])[:, None]  # [B, H, W]
    kept = jnp.where(blended[:, None, None], share[:, None, None], 1.0 - inside)[..., None]
    amount = jnp.where(blended, share, 1 - inside.mean((1, 2)))[:, None]
    other_images, other_targets = jnp.roll(images, 1, axis=0), jnp.roll(targets, 1, axis=0)
    return kept * images + (1 - kept) * other_images, amount * targets + (1 - amount) * other_targets


def pixel_order(seed: int, pixels: int) -> np.ndarray:
    """Return for each place of a permuted image which pixel stands there, int64 `[pixels]`."""
    return np.random.default_rng(seed).permutation(pixels)


def normalise(images: jax.Array, config: ConfigDict) -> jax.Array:
    """Return what a network sees of images `[B, H, W, C]`, by the section `dataset`.

    Float32, 0..255 to 0..1, minus the mean and over the standard deviation; then, where `channel_order` says so, blue
    before green before red; and with `permutation`, the pixels of each image in another order, the same for all images.
    """
    images = (images.astype(jnp.float32) / 255 - jnp.array(config.mean)) / jnp.array(config.std)
    if config.channel_order == "BGR":
        images = images[..., ::-1]
    if config.permutation is None:
        return images
    order = pixel_order(config.permutation, images.shape[1] * images.shape[2])
    return images.reshape(len(images), -1, images.shape[-1])[:, order].reshape(images.shape)
