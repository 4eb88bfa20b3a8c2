"""Photos of nothing, with the edges and the layout of photos."""

from pathlib import Path

import numpy as np
from PIL import Image

from train.data.examples import Examples


def scene(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Return coarse colours, ellipses and grain; two seeds have nothing in common."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(12):
        middle, radii = random.uniform((0, 0), (height, width)), random.uniform(3, 20, 2)
        inside = ((rows - middle[0]) / radii[0]) ** 2 + ((columns - middle[1]) / radii[1]) ** 2 < 1
        pixels[inside] = 0.4 * pixels[inside] + 0.6 * random.integers(0, 256, 3)
    pixels += random.normal(0, 3, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(path: Path, image: Image.Image, quality: int = 92) -> None:
    """Write a JPEG or PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": quality} if path.suffix == ".jpg" else {}))


def folder_of(root: Path, train: int = 24, test: int = 12) -> Path:
    """Write scenes in two classes: train/{ants,bees}/N.jpg from seed 0 on, test/{ants,bees}/N.jpg from 1000 on."""
    for role, first, count in (("train", 0, train), ("test", 1000, test)):
        for number in range(count):
            save(root / role / ("ants", "bees")[number % 2] / f"{number:02}.jpg", scene(first + number))
    return root


def in_memory(seeds: range, classes: int = 2, side: int = 48) -> Examples:
    """Return square scenes, with labels in turn."""
    images = np.stack([np.asarray(scene(seed, side, side)) for seed in seeds])
    return Examples(images, np.arange(len(images), dtype=np.int32) % classes)
