"""Pictures as PNG files, on a light and on a dark ground: names of any kind, and sheets of captioned thumbnails."""

import contextlib
import io
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# Of a sheet, in inches: longest side of a thumbnail, the gap beside it, a line of text, and what the title takes.
_SIDE, _GAP, _LINE, _TITLE = 1.75, 0.15, 0.165, 0.45


class Entry(NamedTuple):
    """What belongs together on a sheet.

    Attributes:
      pictures: uint8 `[H, W, C]` each, side by side, C being 1 or 3.
      captions: the lines below each picture, the last in gray.
      title: above them; "" for none.
      alarming: whether the title is red.
    """

    pictures: Sequence[np.ndarray]
    captions: Sequence[Sequence[str]]
    title: str = ""
    alarming: bool = False


class Drawn(NamedTuple):
    """A figure as two PNG files: for a light ground, and for a dark one."""

    light: bytes
    dark: bytes


NewFigure = Callable[[float, float], "Figure"]


@contextlib.contextmanager
def plain(*, dark: bool = False) -> Iterator[NewFigure]:
    """Yield what makes a figure of a width and a height in inches; all of it must be drawn before this ends.

    A `$` in a name begins no formula here, and a letter that the font lacks is drawn as a box without a warning.

    Args:
      dark: light lines on the dark ground of the pages, instead of dark ones on white.
    """
    import matplotlib  # 0.7 s to import, wanted by pictures alone
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False} | (_dark() if dark else {})
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield lambda width, height: Figure(figsize=(width, height), layout="constrained")


def _dark() -> dict[str, str]:
    ground, line = "#14171a", "#d5d9dd"  # of templates/style.css
    grounds = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), ground)
    lines = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return grounds | dict.fromkeys(lines, line) | {"grid.color": "#343b43"}


def both(draw: Callable[[NewFigure], bytes]) -> Drawn:
    """Return what `draw` makes of a function that makes figures, on a light and on a dark ground."""
    with plain() as new:
        light = draw(new)
    with plain(dark=True) as new:
        return Drawn(light, draw(new))


def png(figure: "Figure") -> bytes:
    """Return a figure, as large as what is drawn on it, as a PNG file."""
    return as_file(figure, "png", bbox_inches="tight", pad_inches=0.1)


def as_file(figure: "Figure", kind: str, *, dpi: int = 100, **how: Any) -> bytes:
    """Return a figure as a file (`kind`: "svg" or "png"), which is the same whenever the same is drawn."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "oldmasters"}):
        figure.savefig(file, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None, **how)
    return file.getvalue()


def legend(figure: "Figure", classes: int) -> None:
    """Put the labels of the first axis below a figure, of more than 40 classes none."""
    if classes > 40:
        return
    # get_legend_handles_labels leaves out what begins with an underscore.
    handles = [drawn for drawn in figure.axes[0].collections if drawn.get_label()]
    shown = [shortened(str(drawn.get_label()), 18) for drawn in handles]
    figure.legend(
        handles,
        shown,
        loc="outside lower center",
        ncols=min(10, max(1, len(shown))),
        fontsize=8,
        frameon=False,
        markerscale=2.2,
        handletextpad=0.2,
        columnspacing=1.0,
    )


def clean(text: str) -> str:
    """Return one line that can be drawn: what is no printable character is a replacement character."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shortened(text: str, columns: int) -> str:
    """Return the text, or its beginning and its end around an ellipsis; wide letters take two columns."""
    widths = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text]
    if sum(widths) <= columns:
        return text
    keep = len(text) - 1
    while keep > 1 and sum(_around(widths, keep)) >= columns:
        keep -= 1
    return _elided(text, keep)


def _around(items: Sequence[int], keep: int) -> list[int]:
    return [*items[: keep // 3], *items[len(items) - (keep - keep // 3) :]]


def _elided(text: str, keep: int) -> str:
    """Return that many letters: a third from the beginning, the rest from the end, where file names differ."""
    return f"{text[: keep // 3]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (keep - keep // 3) :]}"


def sheet(entries: Sequence[Entry], columns: int, title: str) -> bytes:
    """Return a PNG file with the entries in rows, each picture as large as fits a square.

    Args:
      entries: one or more, with as many pictures and lines each.
      columns: entries a row.
      title: above all.
    """
    pictures, lines = len(entries[0].pictures), len(entries[0].captions[0])
    columns = min(columns, len(entries))
    above = _LINE * 1.3 if any(entry.title for entry in entries) else 0.0
    width = pictures * (_SIDE + _GAP) + (_GAP if pictures > 1 else 0)
    rows = [entries[start : start + columns] for start in range(0, len(entries), columns)]
    heights = [max(_height(picture) for entry in row for picture in entry.pictures) for row in rows]
    around = above + lines * _LINE + 1.5 * _GAP
    total = max(columns * width + _GAP, 4.0), _TITLE + sum(heights) + len(rows) * around
    with plain() as new:
        figure = new(*total)
        figure.set_layout_engine("none")

        def write(text: str, left: float, top: float, room: float, **style: Any) -> None:
            _fit(figure.text(left / total[0], 1 - top / total[1], clean(text), va="top", **style), room)

        write(title, _GAP, 0.1, total[0] - 2 * _GAP, fontsize=10, weight="bold")
        top = _TITLE
        for row, height in zip(rows, heights, strict=True):
            for column, entry in enumerate(row):
                left = _GAP + column * width
                color = "firebrick" if entry.alarming else "black"
                write(entry.title, left, top, width - _GAP, fontsize=9, color=color)
                for number, (picture, captions) in enumerate(zip(entry.pictures, entry.captions, strict=True)):
                    x, below = left + number * (_SIDE + _GAP), top + above + height
                    box = (x / total[0], 1 - below / total[1], _SIDE / total[0], height / total[1])
                    axis = figure.add_axes(box, anchor="SW")
                    shown = picture.squeeze(-1) if picture.shape[-1] == 1 else picture
                    axis.imshow(shown, cmap="gray", vmin=0, vmax=255)
                    axis.set_axis_off()
                    for line, caption in enumerate(captions):
                        gray = "dimgray" if line == lines - 1 else "black"
                        write(caption, x, below + 0.04 + line * _LINE, _SIDE, fontsize=8, color=gray)
            top += height + around
        return png(figure)


def _height(picture: np.ndarray) -> float:
    """Return how high a picture is that fits the square, in inches."""
    height, width, _ = picture.shape
    return _SIDE * min(1.0, height / width)


def _fit(text: "Text", room: float) -> None:
    """Shorten a text until it takes no more than so many inches."""
    whole = text.get_text()
    figure = text.get_figure(root=True)
    assert figure is not None
    keep = len(whole) - 1
    while text.get_window_extent().width > room * figure.dpi and keep > 1:
        text.set_text(_elided(whole, keep))
        keep -= 1
