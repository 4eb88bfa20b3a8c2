"""Run folders with networks that nobody has trained."""

from pathlib import Path

import jax
import numpy as np

from configs import base
from train import environment, network, settings
from train.checkpoints import Checkpoints
from train.run import RunFolder


def fresh_run(path: Path, name: str, variant: str | None, size: int, classes: int = 5, **model: object) -> Path:
    """Make a run folder of a network as it begins, with biases and batch statistics that are not 0 or 1."""
    config = base.get_config()
    config.model.update(name=name, variant=variant, **model)
    channels = 3 if name.startswith(("alexnet", "vgg")) else 1
    config.dataset.update(image_size=size, channels=channels, classes=classes)
    config.dataset.update(mean=(0.5,) * channels, std=(0.25,) * channels)
    settings.resolve(config)
    _, params, stats = network.build(config, jax.random.key(0))
    random = np.random.default_rng(0)

    def changed(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf if leaf.ndim > 1 else random.uniform(0.5, 1.5, leaf.shape), np.float32)

    path.mkdir()
    data = {"source": "", "fingerprint": "", "counts": {"train": 1}, "skipped": []}
    RunFolder.create(path, config, environment.machine() | {"data": data})
    with Checkpoints(path) as checkpoints:
        checkpoints.save_network(jax.tree.map(changed, params), jax.tree.map(changed, stats))
        checkpoints.wait()
    return path
