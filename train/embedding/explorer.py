"""explorer.html: maps to walk about in, with every image under its point, in one file that fetches nothing."""

import base64
import hashlib
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models import full_name
from train.data.photos import Photos
from train.data.resize import resize
from train.embedding import palette
from train.embedding.of_run import Embedding, Map
from train.pages import page

_SCRIPT = Path(page.__file__).parent / "templates" / "explorer.js"
# Longest side of a thumbnail in pixels: of many images smaller ones, so that the page stays below 15 MB.
_LARGE, _SMALL, _FEW = 64, 32, 2_500
# Thumbnails on a sheet: 100 a row of 32 pixels make 3,200, and a browser decodes a picture of that many squared.
_ACROSS, _ON_A_SHEET = 100, 10_000
# Colours of confidence: the part of viridis that stands out from a light ground and from a dark one.
_LEVELS, _FROM, _TO = 10, 0.2, 0.92


def build(embedding: Embedding) -> str:
    """Return the page.

    Raises:
      UserError: a photo cannot be read or decoded any more.
    """
    script = _SCRIPT.read_text()
    model = embedding.run.config.model
    return page.render(
        "explorer",
        name=embedding.run.path.resolve().name,
        network=full_name(model.name, model.variant),
        source=embedding.source,
        split=embedding.split,
        points=len(embedding.ids),
        total=embedding.total,
        perplexity=embedding.perplexity,
        folded=embedding.folded,
        neighbours=embedding.maps[0].quality.neighbours,
        methods={"pca": "PCA", "tsne": "t-SNE"},
        data=_data(embedding),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _data(embedding: Embedding) -> dict[str, Any]:
    """Return what the script shows."""
    import matplotlib.colors  # 0.7 s to import, wanted by pictures alone

    viridis = matplotlib.colormaps["viridis"](np.linspace(_FROM, _TO, _LEVELS))
    return {
        "classes": embedding.class_names,
        "looks": palette.looks(len(embedding.class_names)),
        "levels": [matplotlib.colors.to_hex(colour) for colour in viridis],
        "ids": embedding.ids,
        "labels": embedding.labels.tolist(),
        "stages": embedding.stages,
        "methods": embedding.methods,
        "checkpoints": [
            {
                "step": seen.step,
                "epoch": seen.epoch,
                "taken": seen.taken_for.tolist(),
                "confidence": np.round(seen.confidence.astype(np.float64), 4).tolist(),
            }
            for seen in embedding.seen
        ],
        "maps": [{"places": _places(one), "quality": asdict(one.quality)} for one in embedding.maps],
        "thumbnails": _thumbnails(embedding),
    }


def _places(one: Map) -> str:
    """Return the points of a map in a square, 0 to 65,535 both ways: uint16, little-endian, in base 64."""
    least, most = one.points.min(0).astype(np.float64), one.points.max(0).astype(np.float64)
    side = (most - least).max() or 1.0
    inside = 0.5 + (one.points - (least + most) / 2) / side
    return base64.b64encode(np.round(inside * 65_535).astype("<u2").tobytes()).decode()


def _thumbnails(embedding: Embedding) -> dict[str, Any]:
    """Return sheets of thumbnails, in rows of `across`, each of what the network sees of an image."""
    config, images = embedding.run.config.dataset, embedding.images
    side = min(config.image_size, _LARGE if images.total <= _FEW else _SMALL)
    if isinstance(images, Photos):
        tiles = images.middles(side, "bilinear", config.crop).images
    else:
        tiles = resize(images.images, side, "bilinear", 1.0)
    exact = side == config.image_size and tiles.shape[-1] == 1
    starts = range(0, len(tiles), _ON_A_SHEET)
    sheets = [page.embedded(_sheet(tiles[i : i + _ON_A_SHEET], exact=exact)) for i in starts]
    return {"side": side, "across": _ACROSS, "each": _ON_A_SHEET, "sheets": sheets}


def _sheet(tiles: np.ndarray, *, exact: bool) -> bytes:
    """Return tiles uint8 `[N, S, S, C]` in rows, as a PNG file where they must stay exact, or else a JPEG file."""
    count, side, _, channels = tiles.shape
    across = min(_ACROSS, count)
    rows = -(-count // across)
    filled = np.zeros((rows * across, side, side, channels), np.uint8)
    filled[:count] = tiles
    sheet = filled.reshape(rows, across, side, side, channels).swapaxes(1, 2).reshape(rows * side, across * side, -1)
    file = io.BytesIO()
    image = Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet)
    if exact:
        image.save(file, "png", optimize=True)
    else:
        image.save(file, "jpeg", quality=80)
    return file.getvalue()
