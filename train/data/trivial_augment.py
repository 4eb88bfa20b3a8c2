"""TrivialAugment: of each image one thing is changed, by a random amount (Mueller and Hutter 2021, arXiv 2103.10158).

The operations and their ranges are those of the paper's "wide" space, the amounts 31 equal steps; what each
does is what Pillow's ImageOps, ImageEnhance and Image.transform do. All are computed for all images, and one is kept:
a compiled step has no branches for single images.
"""

import jax
import jax.numpy as jnp

_STEPS = 31
# The largest amount: of shearing, in pixels of each, and of blending; pixels; degrees.
_SHEAR, _TRANSLATE, _ROTATE, _BLEND = 0.99, 32.0, 135.0, 0.99
# The least number of bits that are kept of 8.
_BITS = 2
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "color", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
# Rec. 601, as Pillow turns colours to gray.
_GRAY = (0.299, 0.587, 0.114)


def trivial_augment(key: jax.Array, images: jax.Array) -> jax.Array:
    """Change each of the images `[B, H, W, C]`, uint8, by one operation; returns uint8."""
    which_key, step_key, sign_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, (len(images),), 0, len(OPERATIONS))
    step = jax.random.randint(step_key, (len(images),), 0, _STEPS)
    sign = jax.random.rademacher(sign_key, (len(images),), jnp.float32)
    return jax.vmap(changed)(images, which, step / (_STEPS - 1), sign)


def changed(image: jax.Array, which: jax.Array, amount: jax.Array, sign: jax.Array) -> jax.Array:
    """Return an image uint8 `[H, W, C]`, changed by an operation.

    Args:
      image: uint8 `[H, W, C]`.
      which: place in `OPERATIONS`.
      amount: from 0 to 1, of the largest.
      sign: 1 or -1, of those that have two directions.
    """
    pixels = image.astype(jnp.float32)
    both_ways = amount * sign
    moved = _moved(image, which, both_ways)
    blended = _blended(pixels, which, 1 + _BLEND * both_ways)
    kept_bits = 8 - jnp.round(amount * (8 - _BITS)).astype(jnp.uint8)
    posterized = image & (jnp.uint8(255) << (8 - kept_bits))
    solarized = jnp.where(pixels < 255 * (1 - amount), image, 255 - image)
    results = [moved, blended, posterized, solarized, _autocontrast(pixels), _equalized(image)]
    first = [OPERATIONS.index(name) for name in ("brightness", "posterize", "solarize", "autocontrast", "equalize")]
    return jnp.select([which < place for place in first], results[:-1], results[-1])


def _moved(image: jax.Array, which: jax.Array, amount: jax.Array) -> jax.Array:
    """Shear, translate or rotate, or leave as it is; the nearest pixel is taken, and black comes in."""
    height, width = image.shape[:2]
    angle = jnp.deg2rad(_ROTATE * amount)
    # Where a pixel of the result comes from: (x, y) = matrix @ (x, y) + offset, from the middle of pixels to theirs.
    plain, turned = jnp.eye(2), jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    shear = _SHEAR * amount
    matrices = jnp.stack(
        [plain, jnp.array([[1, shear], [0, 1]]), jnp.array([[1, 0], [shear, 1]]), plain, plain, turned]
    )
    middle = jnp.array([width, height]) / 2
    shift = _TRANSLATE * amount
    still = jnp.zeros(2)
    offsets = jnp.stack(
        [still, still, still, jnp.array([shift, 0.0]), jnp.array([0.0, shift]), middle - turned @ middle]
    )
    place = jnp.minimum(which, len(matrices) - 1)
    columns, rows = jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5)
    x, y = jnp.tensordot(matrices[place], jnp.stack([columns, rows]), 1) + offsets[place][:, None, None]
    x, y = (jnp.floor(value).astype(jnp.int32) for value in (x, y))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside[..., None], image[y.clip(0, height - 1), x.clip(0, width - 1)], 0)


def _blended(pixels: jax.Array, which: jax.Array, factor: jax.Array) -> jax.Array:
    """Return what lies at `factor` on the way from a poorer image, at 0, over the image itself, at 1."""
    weights = jnp.array(_GRAY if pixels.shape[-1] == 3 else (1.0,))
    gray = jnp.round(pixels @ weights)[..., None]
    poorer = jnp.stack(
        [
            jnp.zeros_like(pixels),  # brightness
            jnp.broadcast_to(gray, pixels.shape),  # color
            jnp.broadcast_to(jnp.floor(gray.mean() + 0.5), pixels.shape),  # contrast
            _smooth(pixels),  # sharpness
        ]
    )[jnp.clip(which - OPERATIONS.index("brightness"), 0, 3)]
    return jnp.floor((poorer + factor * (pixels - poorer)).clip(0, 255)).astype(jnp.uint8)


def _smooth(pixels: jax.Array) -> jax.Array:
    """Return Pillow's ImageFilter.SMOOTH: ones around a five, over 13; the outermost pixels stay as they are."""
    height, width = pixels.shape[:2]
    around = [pixels[row : height - 2 + row, column : width - 2 + column] for row in range(3) for column in range(3)]
    inner = jnp.round((sum(around) + 4 * around[4]) / 13)
    return pixels.at[1:-1, 1:-1].set(inner)


def _autocontrast(pixels: jax.Array) -> jax.Array:
    """Stretch each channel over all of 0 to 255; a channel of one value stays as it is."""
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    stretched = (pixels - low) * (255 / jnp.maximum(high - low, 1))
    return jnp.where(high > low, jnp.floor(stretched + 1e-3), pixels).astype(jnp.uint8)  # 1e-3: whole numbers stay so


def _equalized(image: jax.Array) -> jax.Array:
    """Let each value of a channel be about as frequent as any other, as Pillow's ImageOps.equalize does."""

    def of_channel(values: jax.Array) -> jax.Array:
        counts = jnp.zeros(256, jnp.int32).at[values].add(1)
        last = jnp.max(jnp.where(counts > 0, jnp.arange(256), 0))
        step = (counts.sum() - counts[last]) // 255
        before = jnp.cumsum(counts) - counts
        table = (step // 2 + before) // jnp.maximum(step, 1)
        return jnp.where(step > 0, table.clip(0, 255).astype(jnp.uint8)[values], values)

    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(image)
