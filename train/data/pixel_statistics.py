"""Mean, deviation and covariance of pixels by channel."""

import numpy as np

from train.data.examples import Examples
from train.data.photos import Photos

# Photos that are not in memory are sampled: a thousand of 224x224 pixels settle the third decimal.
_SAMPLE = 1_000
# Pixels counted at a time: bincount takes eight bytes for each.
_COUNTED = 2**20


def measure(images: Examples | Photos, size: int, resize: str, share: float) -> dict[str, tuple[float, ...]]:
    """Return mean `[C]`, std `[C]` and covariance `[C * C]` (row by row) of pixels, which are 0..1.

    Mean and std of images in memory are of all of them. Photos are judged by a thousand, evenly spread, cut and scaled
    as for evaluation, and rounded to four decimals. So is the covariance of either.
    """
    sample = images.take(np.unique(np.linspace(0, images.total - 1, _SAMPLE).round().astype(int)))
    if isinstance(sample, Photos):
        sample = sample.middles(size, resize, share)
    if isinstance(images, Photos):
        mean, std = (np.round(figures, 4) for figures in _mean_and_std(sample.images))
    else:
        mean, std = _mean_and_std(images.images)
    return {
        "mean": tuple(mean.tolist()),
        # A channel that never varies is centred and left alone.
        "std": tuple(np.where(std > 0, std, 1.0).tolist()),
        "covariance": tuple(np.round(_covariance(sample.images), 4).ravel().tolist()),
    }


def _mean_and_std(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Counting gray levels is exact in integers, so the figures are the same bits on every machine.
    channels = images.shape[-1]
    levels, counts = np.arange(256), np.zeros((channels, 256), np.int64)
    some = max(1, _COUNTED // images[0].size)
    for start in range(0, len(images), some):
        for channel in range(channels):
            counts[channel] += np.bincount(images[start : start + some, ..., channel].ravel(), minlength=256)
    total = counts.sum(axis=1)
    mean = (counts * levels).sum(axis=1) / total
    variance = (counts * levels**2).sum(axis=1) / total - mean**2
    return mean / 255, np.sqrt(np.maximum(variance, 0)) / 255


def _covariance(images: np.ndarray) -> np.ndarray:
    channels = images.shape[-1]
    count, total, products = 0, np.zeros(channels), np.zeros((channels, channels))
    for image in images:
        values = image.reshape(-1, channels).astype(np.float64) / 255
        count, total, products = count + len(values), total + values.sum(0), products + values.T @ values
    mean = total / count
    return products / count - np.outer(mean, mean)
