"""Images of noise with one small bright square, whose stripes alone decide the class; and a network that knows it."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from configs import base
from train.loop import train
from train.run import RunFolder

SIDE, SQUARE = 24, 8
# Small enough to learn it in seconds.
MODEL = {"widths": (8, 16), "kernels": (3, 3), "padding": (0, 0), "pools": (2, 2), "hidden": (16,)}


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 `[N, SIDE, SIDE, 1]`, their classes (stripes lying, standing), and the squares' corners `[N, 2]`."""
    random = np.random.default_rng(seed)
    images = random.normal(60, 12, (count, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    kinds, corners = random.integers(0, 2, count), random.integers(2, SIDE - SQUARE - 1, (count, 2))
    lying = np.broadcast_to(np.where(np.arange(SQUARE) % 2, 90, 255)[:, np.newaxis], (SQUARE, SQUARE))
    for image, kind, (row, column) in zip(images, kinds, corners, strict=True):
        image[row : row + SQUARE, column : column + SQUARE] = lying.T if kind else lying
    return images[..., np.newaxis], kinds, corners


def write(folder: Path, class_names: tuple[str, str] = ("lying", "standing")) -> str:
    """Write training and test images, and return the source."""
    for role, count, seed in (("train", 1200, 0), ("test", 60, 1)):
        images, kinds, _ = draw(count, seed)
        np.savez(folder / f"squares_{role}.npz", image=images, label=kinds, class_names=np.array(class_names))
    return f"npz:{folder / 'squares'}"


def learnt(folder: Path, source: str, epochs: float = 5.0, **model: object) -> RunFolder:
    """A run that has learnt the source, in five epochs."""
    config: ConfigDict = base.get_config()
    config.model.update(model)
    config.dataset.update(source=source, image_size=SIDE)
    config.schedule.learning_rate = 0.02
    config.train.update(epochs=epochs, batch_size=50)
    config.evaluate.report = config.log.tensorboard = False
    train(config, folder)
    return RunFolder(folder)
