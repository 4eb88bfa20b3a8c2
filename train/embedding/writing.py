"""A folder with maps: their numbers, their pictures, and the page to walk about in."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from models import full_name
from train.embedding import explorer, palette
from train.embedding.of_run import Embedding, Map
from train.errors import UserError
from train.pages import drawing, page
from train.pages.drawing import NewFigure
from train.run import to_json
from train.whole import whole_file, write_whole

POINTS, FIGURES, PAGE = "embedding.npz", "embedding.json", "explorer.html"
_OURS = {POINTS, FIGURES, PAGE, "pca.png", "tsne.png"}
# Of a panel, in inches.
_SIDE = 3.4


def check(folder: Path) -> None:
    """Make sure that nothing else is in the folder.

    Raises:
      UserError: it holds other files than an earlier call has written; names one.
    """
    if not folder.exists():
        return
    if others := sorted(
        entry.name for entry in folder.iterdir() if entry.name.removeprefix(".").removesuffix(".draft") not in _OURS
    ):
        raise UserError(f"--output={folder}: holds other files ({others[0]}); name a new folder or an empty one")


def write(embedding: Embedding, folder: Path) -> list[Path]:
    """Write everything into a folder, which is made where it is not there, and return the files.

    Raises:
      UserError: a photo cannot be read or decoded any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in _OURS - {POINTS, FIGURES}:  # the page comes last
        (folder / stale).unlink(missing_ok=True)
    with whole_file(folder / POINTS) as file:
        np.savez(file, **arrays(embedding))
    write_whole(folder / FIGURES, to_json(figures(embedding)))
    pictures = [folder / f"{method}.png" for method in embedding.methods]
    for method, path in zip(embedding.methods, pictures, strict=True):
        with drawing.plain() as new:
            write_whole(path, draw(embedding.panels(method), embedding.labels, embedding.class_names, new))
    write_whole(folder / PAGE, page.encoded(explorer.build(embedding)))
    return [folder / POINTS, folder / FIGURES, *pictures, folder / PAGE]


def arrays(embedding: Embedding) -> dict[str, Any]:
    """Return what is in embedding.npz, whose axes `steps`, `stages` and `methods` name.

    Returns:
      coordinates, float32 `[steps, stages, methods, N, 2]`; labels `[N]`; predictions and confidence `[steps, N]`; ids
      `[N]`; class_names.
    """
    axes = len(embedding.seen), len(embedding.stages), len(embedding.methods)
    return {
        "coordinates": np.stack([one.points for one in embedding.maps]).reshape(*axes, -1, 2),
        "steps": np.array([seen.step for seen in embedding.seen]),
        "stages": np.array(embedding.stages),
        "methods": np.array(embedding.methods),
        "labels": embedding.labels,
        "predictions": np.stack([seen.taken_for for seen in embedding.seen]),
        "confidence": np.stack([seen.confidence for seen in embedding.seen]),
        "ids": np.array(embedding.ids),
        "class_names": np.array(embedding.class_names),
    }


def figures(embedding: Embedding) -> dict[str, Any]:
    """Return what is in embedding.json: what was mapped, and the figures of each map."""
    model = embedding.run.config.model
    return {
        "run": str(embedding.run.path),
        "network": full_name(model.name, model.variant),
        "source": embedding.source,
        "split": embedding.split,
        "images": embedding.total,
        "points": len(embedding.ids),
        "perplexity": embedding.perplexity,
        "folded": embedding.folded,
        "checkpoints": [
            {
                "step": seen.step,
                "epoch": seen.epoch,
                "accuracy": float(np.mean(seen.taken_for == embedding.labels)),
            }
            for seen in embedding.seen
        ],
        "maps": [
            {"step": one.step, "stage": one.stage, "method": one.method} | asdict(one.quality) for one in embedding.maps
        ],
    }


def draw(rows: Sequence[Sequence[Map]], labels: np.ndarray, class_names: Sequence[str], new: NewFigure) -> bytes:
    """Return a PNG file with maps in rows, and classes in colours and shapes.

    Args:
      rows: as `Embedding.panels` returns them.
      labels: of the points, `[N]`.
      class_names: by label.
      new: makes the figure.
    """
    columns = len(rows[0])
    figure = new(max(columns * _SIDE, 2 * _SIDE), len(rows) * (_SIDE + 0.4) + 0.5)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis, one in zip(axes.flat, itertools.chain.from_iterable(rows), strict=True):
        palette.scatter(axis, one.points, labels, class_names)
        of = one.quality
        told = f"trustworthiness {of.trustworthiness:.3f}, {of.neighbours}-NN accuracy {100 * of.knn_map:.1f} %"
        axis.set_title(f"{one.stage}, step {one.step:,}\n{told}", fontsize=8)
    drawing.legend(figure, len(class_names))
    return drawing.png(figure)
