"""What a trained network says of images, with or without a label."""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from train import devices, settings
from train.checkpoints import load_network
from train.cores import cores
from train.data import decode
from train.data.boxes import middle_box
from train.data.resize import resize
from train.data.transforms import normalise
from train.errors import UserError
from train.integrity import USELESS
from train.network import PyTree, narrowed
from train.run import RunFolder

_T = TypeVar("_T")

# Stands for the one image whose bytes come from standard input.
STDIN = "-"

# What makes a file of a folder an image. Those of kinds that cannot be decoded count, so that they are not passed over
# in silence.
_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".heic", ".heif", ".tif", ".tiff")
)


@dataclass(frozen=True)
class Guess:
    """A class, and how probable the network finds it.

    Attributes:
      name: of the class; where the run knows none, its index.
      index: among the logits.
      probability: from 0 to 1.
    """

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What the network says of an image: guesses, the most probable first."""

    image: str
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Unusable:
    """An image that the network cannot be shown, or has no answer to, and why."""

    image: str
    why: str


def find(names: Sequence[str]) -> list[str]:
    """Return the images that are meant by names of files and folders, or `STDIN`, in their order.

    A folder stands for the images in it and in folders below, sorted; names that begin with a dot do not count. Whether
    a file is there and is an image is left to whoever reads it.

    Raises:
      UserError: a folder holds no image or cannot be read, or standard input is to be two images.
    """
    if names.count(STDIN) > 1:
        raise UserError(f"{STDIN}: is given {names.count(STDIN)} times; standard input is the bytes of one image")
    found: list[str] = []
    for name in names:
        found += _inside(name) if _is_folder(name) else [name]
    return found


def _is_folder(name: str) -> bool:
    try:
        return name != STDIN and Path(name).is_dir()
    except OSError:  # reading it will say why
        return False


def _inside(folder: str) -> list[str]:
    def refuse(error: OSError) -> None:  # left alone, os.walk passes over what it cannot enter
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or leave it out")

    images: list[Path] = []
    for below, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [Path(below, name) for name in files if not name.startswith(".")]
        images += [path for path in shown if path.suffix.lower() in _SUFFIXES]
    if not images:
        raise UserError(
            f"{folder}: holds no image, that is, no file with a name like photo.jpg, photo.png or photo.webp"
        )
    return [str(path) for path in sorted(images)]


def predict(folder: RunFolder, images: Sequence[str], top: int) -> Iterator[Prediction | Unusable]:
    """Return an iterator over what the best checkpoint of a run says of images, in their order.

    Images are brought to the network as the run's own were. They are decoded a batch at a time, so there may be any
    number of them; the iterator yields the first when two batches have been decoded.

    Args:
      folder: the run.
      images: files, or `STDIN`.
      top: guesses an image; with fewer classes, all of them.

    Raises:
      UserError: the run has no checkpoint.
    """
    config, mesh = folder.config, devices.make_mesh(None)
    graph, params, stats = load_network(folder, mesh)
    params = narrowed(params, config.precision)
    classes = settings.class_names(config.dataset)

    def rank(params: PyTree, stats: PyTree, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        network = nnx.merge(graph, params, stats)
        logits = network(normalise(batch, config.dataset)).astype(jnp.float32)
        return jax.lax.top_k(jnp.exp(network.log_probabilities(logits)), min(top, len(classes)))

    compiled = devices.jit(rank, config.precision, mesh)
    each = mesh.size  # a whole number of images for each device
    size = -(-max(1, min(config.evaluate.batch_size, len(images))) // each) * each

    def computing() -> Iterator[tuple[Sequence[str], list[str | None], tuple[jax.Array, jax.Array]]]:
        for names, reasons, batch in _batches(images, config.dataset, size):
            yield names, reasons, compiled(params, stats, jax.device_put(batch, devices.by_batch(mesh)))

    def answers() -> Iterator[Prediction | Unusable]:
        for names, reasons, ranked in _one_behind(computing()):
            shares, order = (array.tolist() for array in jax.device_get(ranked))
            # Behind the names, the last batch is filled up.
            for name, why, probabilities, indices in zip(names, reasons, shares, order, strict=False):
                if why is not None:
                    yield Unusable(name, why)
                    continue
                if not np.isfinite(probabilities).all():
                    yield Unusable(name, f"the answer to it is not finite; {USELESS}")
                    continue
                ranking = zip(indices, probabilities, strict=True)
                yield Prediction(name, tuple(Guess(classes[index], index, share) for index, share in ranking))

    return answers()


def sized(data: bytes, config: ConfigDict) -> np.ndarray:
    """Return an encoded image as a network sees it before `normalise`: uint8 `[image_size, image_size, channels]`.

    Args:
      data: a JPEG, PNG or WebP file.
      config: the completed section `dataset` of the run.

    Raises:
      BadImage: it is no such file, is damaged, or is too large for a network whose images are padded.
    """
    size = config.image_size
    if config.resize != "pad":
        middle = partial(middle_box, share=config.crop, size=size)
        return decode.crop(data, middle, size, config.resize, config.channels)
    image = decode.pixels(data, config.channels)
    height, width, _ = image.shape
    if max(height, width) > size:
        raise decode.BadImage(
            f"has {width}x{height} pixels and the network sees {size}x{size}: its images were padded, not scaled "
            "(config.dataset.resize=pad); make it as large as the images it was trained on, or train with "
            "--config.dataset.resize=bilinear"
        )
    return resize(image[np.newaxis], size, config.resize, config.crop)[0]


def _batches(
    images: Sequence[str], config: ConfigDict, size: int
) -> Iterator[tuple[Sequence[str], list[str | None], np.ndarray]]:
    """Yield names, why each cannot be used (or None), and their batch `[size, image_size, image_size, channels]`.

    Every batch has the same shape, so that one program is compiled; what is missing in one is black.
    """
    with ThreadPoolExecutor(cores()) as threads:  # Pillow decodes outside Python's lock
        for start in range(0, len(images), size):
            names = images[start : start + size]
            batch = np.zeros((size, config.image_size, config.image_size, config.channels), np.uint8)
            yield names, list(threads.map(partial(_load, config), names, batch)), batch


def _load(config: ConfigDict, name: str, place: np.ndarray) -> str | None:
    """Read an image into its place in a batch, or say why it cannot be used."""
    try:
        if name == STDIN:
            if sys.stdin is None:  # of a process that was started without
                return "cannot be read (it is closed)"
            data = decode.read(sys.stdin.buffer)
        else:
            with Path(name).open("rb") as file:
                data = decode.read(file)
        place[:] = sized(data, config)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except decode.BadImage as error:
        return str(error)
    return None


def _one_behind(items: Iterator[_T]) -> Iterator[_T]:
    """Yield each item when the next has been made: a device computes one batch while the host decodes another."""
    made: list[_T] = []
    for item in items:
        yield from made
        made = [item]
    yield from made
