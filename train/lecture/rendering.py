"""An example as text for the terminal, as JSON, and as a picture."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import UserError
from train.lecture.examples import Example, number
from train.pages.drawing import as_file, clean
from train.whole import write_whole

# A matrix up to this side is shown number by number.
_NUMBERS = 7


def as_json(name: str, example: Example) -> dict[str, Any]:
    """Return {"example", "title", "input", "filter", "output", "steps", "notes"}; matrices are lists of rows."""
    fields = {key: _plain(getattr(example, key)) for key in ("title", "input", "filter", "output", "steps", "notes")}
    return {"example": name} | fields


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_text(example: Example) -> str:
    """Return the title, small matrices side by side, the steps and the notes."""
    parts = [example.title]
    small = [panel for panel in example.panels if max(panel[1].shape) <= _NUMBERS]
    if small and len(small) == len(example.panels):
        columns = _columns(len(small))
        parts += [_side_by_side(small[start : start + columns]) for start in range(0, len(small), columns)]
    return "\n\n".join([*parts, "\n".join(example.steps), "\n".join(example.notes)])


def _columns(panels: int) -> int:
    """Return how many stand in a row: three where there are many, as an image has channels."""
    return min(panels, 5) if panels < 6 else 3


def _side_by_side(panels: list[tuple[str, np.ndarray]]) -> str:
    blocks = []
    for name, matrix in panels:
        cells = [[number(value) for value in row] for row in matrix]
        width = max(len(cell) for row in cells for cell in row)
        lines = [name, *(" ".join(cell.rjust(width) for cell in row) for row in cells)]
        blocks.append([line.ljust(max(map(len, lines))) for line in lines])
    height = max(map(len, blocks))
    blocks = [block + [" " * len(block[0])] * (height - len(block)) for block in blocks]
    return "\n".join("    ".join(row).rstrip() for row in zip(*blocks, strict=True))


def save(example: Example, path: Path) -> None:
    """Draw the matrices of an example into a PNG or SVG file.

    Raises:
      UserError: it has none.
    """
    if not example.panels:
        raise UserError(f"--output={path}: this example has numbers, and nothing to draw; --json has them")
    from matplotlib.figure import Figure  # 0.7 s to import, wanted here alone

    photos = max(example.panels[0][1].shape) > _NUMBERS
    columns = 4 if photos else _columns(len(example.panels))
    rows = math.ceil(len(example.panels) / columns)
    height, width = np.max([matrix.shape for _, matrix in example.panels], axis=0)
    figure = Figure(figsize=(columns * 3.2, rows * (3.2 * height / width + 0.4)), layout="constrained")
    for axis, (name, matrix) in zip(figure.subplots(rows, columns, squeeze=False).flat, example.panels, strict=False):
        axis.set_title(clean(name), fontsize=11, parse_math=False)
        axis.set(xticks=[], yticks=[])
        if photos:
            if name in example.filter and abs(example.filter[name].sum()) < 1e-6:  # it answers to changes: none is gray
                most = float(np.abs(matrix).max()) / 2
                axis.imshow(matrix, cmap="gray", vmin=-most, vmax=most)
            else:
                axis.imshow(matrix, cmap="gray", vmin=0, vmax=255)
            continue
        axis.imshow(matrix, cmap="Blues", vmin=0, vmax=2 * max(1.0, float(matrix.max())))
        # Every cell is as large, and a small matrix stands in the middle.
        down, right = (height - len(matrix)) / 2, (width - len(matrix[0])) / 2
        axis.set(xlim=(-0.5 - right, width - 0.5 - right), ylim=(height - 0.5 - down, -0.5 - down), frame_on=False)
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, number(float(value)), ha="center", va="center", fontsize=13)
    for axis in figure.axes[len(example.panels) :]:
        axis.set_axis_off()
    write_whole(path, as_file(figure, path.suffix[1:].lower()))
