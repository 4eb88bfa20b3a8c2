"""Photos from files to batches: ours, a DataLoader of PyTorch with Pillow as torchvision uses it, and tf.data."""

import contextlib
import io
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from train import settings
from train.benchmark.process import Side
from train.data import predecoded, sources
from train.data.photos import Photos
from train.errors import UserError

SUITE = "input"
# Who else does it: the process, and the package it takes.
PEERS = {"torch": ("torch_input", "torch"), "tensorflow": ("tensorflow_input", "tensorflow")}
# As many photos, in as many classes, whose sides are the average ones of ImageNet's at least.
_PHOTOS, _CLASSES, _SIDES, _QUALITY = 1_000, 10, (500, 375), 90
# Pixels of the shorter side of what is decoded before.
_CACHED = 256
# Seconds of one measurement.
_TURN = 5.0


def measure(config: ConfigDict, peer: str, repeats: int, threads: int) -> dict[str, Any]:
    """Measure images/s in turns, after one turn that does not count: ours, ours decoded before, and the peer's.

    All have the same photos, and crops from the same distribution; what is decoded before, at 256 pixels.

    Args:
      config: of photos in files; its crops, size and batches.
      peer: a key of `PEERS`.
      repeats: turns that count.
      threads: processes of a DataLoader, threads of tf.data; this project takes all cores.

    Returns:
      A row: `images_per_second` (median) with `spread` ([minimum, maximum]), and `memory_growth`, the bytes by which
      the process grew from the first turn that counts to the last; the same with the prefixes `cached_` and `peer_`;
      and the ratio of ours to the peer's.

    Raises:
      UserError: the source has no photos in files, or a side has failed.
    """
    settings.resolve(config)
    if not config.augment.random_resized_crop:
        raise UserError(f"--suite={SUITE}: cuts random crops; set config.augment.random_resized_crop=0.08")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_photos(config))
        sides = {
            prefix: stack.enter_context(Side(module, threads))
            for prefix, module in (("", "jax_input"), ("cached_", "jax_input"), ("peer_", PEERS[peer][0]))
        }
        photos, cache = f"folder:{folder}/photos", f"cache:{folder}/cache"
        config.dataset.source = photos
        predecoded.write(sources.read(photos, config.dataset), photos, Path(folder, "cache"), _CACHED, "bilinear")
        size, batch, smallest = config.dataset.image_size, config.train.batch_size, config.augment.random_resized_crop
        work = {"folder": f"{folder}/photos", "size": size, "batch_size": batch, "smallest": smallest}
        ready = {"": sides[""].ask("prepare", config=settings.to_json(config))}
        config.dataset.source = cache
        ready["cached_"] = sides["cached_"].ask("prepare", config=settings.to_json(config))
        ready["peer_"] = sides["peer_"].ask("prepare", **work)
        answers: dict[str, list[dict[str, Any]]] = {prefix: [] for prefix in sides}
        for turn in range(repeats + 1):
            for prefix, side in list(sides.items())[:: 1 if turn % 2 else -1]:
                answer = side.ask("measure", seconds=_TURN)
                if turn:
                    answers[prefix].append(answer)
    row: dict[str, Any] = {"suite": SUITE, "peer": peer, "fraction_of_limit": None}
    for prefix, of_side in answers.items():
        figures = [answer["images_per_second"] for answer in of_side]
        row |= {
            f"{prefix}setting": ready[prefix]["setting"],
            f"{prefix}images_per_second": statistics.median(figures),
            f"{prefix}spread": [min(figures), max(figures)],
            f"{prefix}memory_growth": of_side[-1]["resident_bytes"] - of_side[0]["resident_bytes"],
        }
    return row | {"ratio": row["images_per_second"] / row["peer_images_per_second"]}


@contextlib.contextmanager
def _photos(config: ConfigDict) -> Iterator[str]:
    """Yield a folder with photos/, 1,000 of the source in class folders; small ones are enlarged to 500 x 375."""
    images = sources.read(config.dataset.source, config.dataset).splits["train"]  # undivided: a photo a class will do
    if not isinstance(images, Photos):
        raise UserError(
            f"--suite={SUITE}: {config.dataset.source} holds pixels; name photos: --config.dataset.source=folder:ROOT"
        )
    records = images.records.read(images.index[np.arange(_PHOTOS) % images.total].tolist())
    with tempfile.TemporaryDirectory() as folder:
        for number, (data, _) in enumerate(records):
            if not isinstance(data, bytes):
                raise UserError(f"--suite={SUITE}: {config.dataset.source} is decoded already; name the photos")
            place = Path(folder, "photos", str(number % _CLASSES), f"{number}.jpg")
            place.parent.mkdir(exist_ok=True, parents=True)
            place.write_bytes(_enlarged(data))
        yield folder


def _enlarged(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    factor = min(_SIDES) / min(image.size)
    if image.format == "JPEG" and factor <= 1:
        return data
    sides = [round(side * max(1, factor)) for side in image.size]
    out = io.BytesIO()
    image.convert("RGB").resize((sides[0], sides[1]), Image.Resampling.BICUBIC).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
