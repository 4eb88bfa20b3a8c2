"""A network to scale: maps as blocks whose sides are pixels and whose depth is channels."""

from typing import Any

from models import full_name
from train.pages.drawing import as_file

# Of a block's outline: how far its back face lies to the right and up, as a share of its side.
_SLANT = 0.25
_GAP = 0.16
# Room for "102,764,544" below a bar.
_LABEL = 0.3
_COLOURS = {"conv": "#7aa6d8", "pool": "#e0a06b", "norm": "#c9c9c9", "dense": "#8cc08a"}


def draw(summary: dict[str, Any], kind: str) -> bytes:
    """Return an SVG or PNG file (`kind`: "svg" or "png") with the stages of a summary (see summary.py).

    Blocks are as high and as deep as maps have pixels, and as wide as they have channels, in a scale of its own; bars
    are as high as dense layers have units, in a third. The scales stand below.
    """
    from matplotlib.figure import Figure  # 0.7 s to import, wanted here alone
    from matplotlib.patches import Polygon

    stages = [("input", [summary["image_size"]] * 2 + [summary["channels"]], None), *_stages(summary)]
    maps = [shape for _, shape, _ in stages if len(shape) > 1]
    units = [shape[0] for _, shape, _ in stages if len(shape) == 1]
    pixel = 1 / max(shape[0] for shape in maps)
    channel = min(0.9, 6 / len(maps)) / max(shape[-1] for shape in maps)
    unit = 1 / max(units)

    left, blocks, labels = 0.0, [], []
    for name, shape, parameters in stages:
        dense = len(shape) == 1
        height = shape[0] * (unit if dense else pixel)
        width = 0.06 if dense else max(shape[-1] * channel, 0.01)
        depth = 0.0 if dense else height * _SLANT * (1 if len(shape) == 3 else 0)
        blocks.append((left, width, height, depth, _kind(name, dense)))
        text = f"{name}\n{'x'.join(map(str, shape))}"
        labels.append((left + width / 2, text + (f"\n{parameters:,}" if parameters else "")))
        left += max(width + depth + _GAP, _LABEL)

    figure = Figure(figsize=(max(7.0, 2.6 * left), 4.6))
    axis = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    for start, width, height, depth, colour in blocks:
        low, high = -height / 2, height / 2
        front = [(start, low), (start + width, low), (start + width, high), (start, high)]
        top = [
            (start, high),
            (start + width, high),
            (start + width + depth, high + depth),
            (start + depth, high + depth),
        ]
        side = [
            *((start + width, low), (start + width, high)),
            *((start + width + depth, high + depth), (start + width + depth, low + depth)),
        ]
        for face, alpha in ((front, 1.0), (top, 0.75), (side, 0.55)):
            axis.add_patch(Polygon(face, facecolor=colour, edgecolor="black", linewidth=0.6, alpha=alpha))
    for place, text in labels:
        axis.text(place, -0.56, text, ha="center", va="top", fontsize=7, rotation=0, linespacing=1.3)
    axis.text(0, -0.98, _scales(summary, pixel, channel, unit), fontsize=8, va="top")
    axis.set(xlim=(-0.1, left), ylim=(-1.08, 0.85), aspect="equal")
    axis.set_axis_off()
    return as_file(figure, kind, dpi=120, bbox_inches="tight")


def _stages(summary: dict[str, Any]) -> list[tuple[str, list[int], int | None]]:
    return [(stage["name"], stage["shape"], stage["parameters"] or None) for stage in summary["stages"]]


def _kind(name: str, dense: bool) -> str:
    if name == "input":
        return "#ffffff"
    if dense:
        return _COLOURS["dense"]
    return next((colour for kind, colour in _COLOURS.items() if name.lower().startswith(kind)), _by_letter(name))


def _by_letter(name: str) -> str:
    """LeNet-5's stages are called C and S for convolution and subsampling."""
    return _COLOURS["pool" if name.startswith("S") else "conv"]


def _scales(summary: dict[str, Any], pixel: float, channel: float, unit: float) -> str:
    name = full_name(summary["model"], summary["variant"])
    return (
        f"{name}: {summary['parameters']:,} parameters, {summary['macs']:,} multiply-accumulates. "
        f"The height of the largest block is {1 / pixel:,.0f} pixels; so wide would be {1 / channel:,.0f} channels, "
        f"and a bar so high is {1 / unit:,.0f} units."
    )
