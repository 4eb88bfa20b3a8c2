"""What our t-SNE costs over openTSNE's, called as its guide says, on the pixels of a run's test images."""

import time
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from train import settings
from train.benchmark.bare_step import Measurement
from train.data import dataset
from train.data.activations import Activations
from train.data.photos import Photos
from train.embedding import projection
from train.errors import UserError

_PERPLEXITY, _SEED = 30.0, 0


def tsne(config: ConfigDict) -> dict[str, Measurement]:
    """Return t-SNE as report and maps compute it, and openTSNE behind scikit-learn's PCA with the same settings."""
    try:
        from openTSNE import TSNE
    except ImportError:
        raise UserError('--suite=tsne: openTSNE is not installed; pip install -e ".[explore]"') from None
    from sklearn.decomposition import PCA

    settings.resolve(config)
    test = dataset.load(config.dataset).test
    if isinstance(test, Activations | Photos):
        raise UserError(f"--suite=tsne: {config.dataset.source} has no images in memory; try idx:FOLDER")
    pixels = test.images.reshape(test.total, -1).astype(np.float32) / 255

    def directly() -> object:
        reduced = PCA(projection.COMPONENTS, random_state=_SEED).fit_transform(pixels)
        return TSNE(perplexity=_PERPLEXITY, random_state=_SEED, **projection.method_for(len(pixels))).fit(reduced)

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return len(pixels) / (time.perf_counter() - began)

    return {
        "train/embedding": lambda: timed(lambda: projection.tsne(pixels, _PERPLEXITY, _SEED)),
        "openTSNE directly": lambda: timed(directly),
    }


SUITES = {"tsne": tsne}  # a map of the test images' pixels, ours and openTSNE's
