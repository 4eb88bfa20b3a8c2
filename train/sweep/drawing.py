"""The pictures of a sweep: parallel coordinates, and learning curves."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from train.pages import drawing
from train.pages.drawing import NewFigure
from train.sweep.folder import Outcome
from train.sweep.trials import as_text, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From blue, which is seen on a dark ground, to yellow.
_COLOURS, _DARKEST = "viridis", 0.22
_FAILED = "#b3261e"
# An axis of so many different numbers or fewer has a mark at each.
_MARKED = 8
# Of accuracies: the worst runs are drawn at the lower end of the axis, or they would press the good ones together.
_LOWEST = 0.1


class _Axis:
    """A swept key from 0 (the least of its values) to 1.

    Args:
      values: of all runs.
      log: equal ratios are equally far apart.
    """

    def __init__(self, values: Sequence[Any], log: bool) -> None:
        numbers = all(type(value) in (int, float) for value in values)
        self.marks: list[tuple[float, str]]
        if numbers and len(set(values)) > 1:
            to: Callable[[float], float] = math.log if log and min(values) > 0 else float
            low, high = to(min(values)), to(max(values))
            self._place: Callable[[Any], float] = lambda value: (to(value) - low) / (high - low)
            shown = sorted(set(values)) if len(set(values)) <= _MARKED else _round_marks(low, high, to is math.log)
            self.marks = [(self._place(value), as_text(value)) for value in shown]
        else:
            names = list(dict.fromkeys(map(as_text, values)))
            places = {name: (number + 0.5) / len(names) for number, name in enumerate(names)}
            self._place = lambda value: places[as_text(value)]
            self.marks = [(place, drawing.shortened(name, 18)) for name, place in places.items()]

    def __call__(self, value: Any) -> float:
        return self._place(value)


def _round_marks(low: float, high: float, log: bool) -> list[float]:
    """Return some round numbers between two bounds; of logarithms, 1, 2 and 5 of each decade."""
    if log:
        decades = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
        every = [float(f"{factor}e{decade}") for decade in decades for factor in (1, 2, 5)]
        inside = [value for value in every if low <= math.log(value) <= high]
        return inside if len(inside) <= _MARKED else [value for value in inside if f"{value:e}".startswith("1.0")]
    from matplotlib.ticker import MaxNLocator

    return [value for value in map(float, MaxNLocator(5).tick_values(low, high)) if low <= value <= high]


def parallel(found: dict[str, Any], new: NewFigure) -> bytes:
    """Return a PNG file of parallel coordinates: a vertical axis a key, the last the accuracy, and a line a run.

    Args:
      found: see figures.py; one run or more has a figure.
      new: makes the figure.
    """
    import matplotlib

    split, keys = found["chosen_by"], found["keys"]
    runs = [run for run in found["runs"] if run[split] or run["status"] == "failed"]
    shares = [run[split]["accuracy"] for run in runs if run[split]]
    low, high = _bounds(shares)
    log_keys = {key for key in keys if key in found["log_keys"] or _wide(runs, key)}
    axes = {key: _Axis([run["values"][key] for run in runs], key in log_keys) for key in keys}
    figure = new(max(6.0, 1.9 * (len(keys) + 1)), 4.4)
    plot = figure.subplots()
    across = np.linspace(0, len(keys), 40 * len(keys) + 1)
    jitter = np.random.default_rng(0)
    colours = matplotlib.colormaps[_COLOURS]
    # The best lie on top.
    for run in sorted(runs, key=lambda run: run[split]["accuracy"] if run[split] else -1.0):
        share = run[split]["accuracy"] if run[split] else None
        failed = run["status"] == "failed" or share is None
        at = 0.0 if share is None else min(max((share - low) / (high - low), 0.0), 1.0)
        places = [axes[key](run["values"][key]) for key in keys]
        # Runs that share a value lie beside each other there, not on one another.
        points = [place + jitter.uniform(-0.012, 0.012) for place in places] + [-0.04 if failed else at]
        style: dict[str, Any] = {
            "color": _FAILED if failed else colours(_DARKEST + (0.95 - _DARKEST) * at),
            "alpha": 0.9 if failed else 0.7 + 0.25 * at,
        }
        line = "--" if failed else ":" if run["status"] != "finished" else "-"
        plot.plot(across, _smooth(points, across), line, linewidth=1.1 + 0.8 * at, **style)
    short = short_names(keys)
    for number, key in enumerate(keys):
        _draw_axis(plot, number, axes[key].marks, short[key] + (" (log)" if key in log_keys else ""))
    ticks = [(tick - low) / (high - low) for tick in np.linspace(low, high, 6)]
    names = [f"{low + (high - low) * tick:.1%}" for tick in ticks]
    if min(shares) < low:
        names[0] = f"{names[0]} or less"
    marks = list(zip(ticks, names, strict=True))
    if any(run["status"] == "failed" for run in runs):
        marks = [(-0.04, "failed"), *[mark for mark in marks if mark[0] > 0.02]]
    _draw_axis(plot, len(keys), marks, f"{split} accuracy", right=True)
    plot.set(xlim=(-0.25, len(keys) + 0.45), ylim=(-0.08, 1.12))
    plot.set_axis_off()
    return drawing.png(figure)


def _bounds(shares: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis of accuracies: from the worst, or a little below the better half, to the best."""
    low, high = min(shares), max(shares)
    middle = float(np.median(shares))
    low = max(low, middle - max(2 * (high - middle), _LOWEST))
    return (low, high) if high - low > 1e-6 else (max(0.0, high - 0.01), high + 1e-6)


def _wide(runs: Sequence[dict[str, Any]], key: str) -> bool:
    """Whether the numbers of a key lie so far apart that equal ratios say more: a factor of 5, and none is 0."""
    values = [run["values"][key] for run in runs]
    return all(type(value) is float and value > 0 for value in values) and max(values) >= 5 * min(values)


def _smooth(points: Sequence[float], across: np.ndarray) -> np.ndarray:
    """Return a curve through the points at 0, 1, ... that is level at each, so that lines can be told apart."""
    before = np.minimum(across.astype(int), len(points) - 2)
    part = across - before
    ease = part * part * (3 - 2 * part)
    values = np.asarray(points)
    return values[before] * (1 - ease) + values[before + 1] * ease


def _draw_axis(
    plot: "Axes", place: float, marks: Sequence[tuple[float, str]], name: str, *, right: bool = False
) -> None:
    line = "gray"
    plot.plot([place, place], [-0.04, 1.02], color=line, linewidth=1.0, zorder=3)
    for height, text in marks:
        plot.plot([place - 0.02, place + 0.02], [height, height], color=line, linewidth=1.0, zorder=3)
        beside, align = (0.05, "left") if right else (-0.05, "right")
        label = plot.text(place + beside, height, drawing.clean(text), va="center", ha=align, fontsize=8)
        ground = plot.get_facecolor()
        label.set_bbox({"facecolor": ground, "edgecolor": "none", "alpha": 0.75, "pad": 0.8})
        label.set_zorder(4)
    plot.text(
        place, 1.06, drawing.clean(drawing.shortened(name, 28)), ha="center", va="bottom", fontsize=9, weight="bold"
    )


def curves(found: dict[str, Any], outcomes: Sequence[Outcome], new: NewFigure) -> bytes:
    """Return a PNG file of all runs' learning curves: the loss in training, and the accuracy on validation images.

    Args:
      found: see figures.py.
      outcomes: of its runs, in their order.
      new: makes the figure.
    """
    import matplotlib
    from matplotlib.ticker import LogLocator, NullFormatter

    split = found["chosen_by"]
    shares = [run[split]["accuracy"] for run in found["runs"] if run[split]]
    low, high = _bounds(shares)
    colours = matplotlib.colormaps[_COLOURS]
    figure = new(10.5, 3.8)
    losses, accuracies = figure.subplots(1, 2)
    every: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for run, outcome in sorted(
        zip(found["runs"], outcomes, strict=True),
        key=lambda pair: pair[0][split]["accuracy"] if pair[0][split] else -1.0,
    ):
        share = run[split]["accuracy"] if run[split] else low
        at = min(max((share - low) / (high - low), 0.0), 1.0)
        failed = run["status"] == "failed"
        colour = _FAILED if failed else colours(_DARKEST + (0.95 - _DARKEST) * at)
        style: dict[str, Any] = {"color": colour, "linewidth": 1.1, "alpha": 0.8}
        for axis, kind, name in ((losses, "train", "loss"), (accuracies, "validation", "accuracy")):
            lines = [line for line in outcome.records if line["split"] == kind]
            if lines:
                values = [line[name] for line in lines]
                every[name] += values
                axis.plot(
                    [line["epoch"] for line in lines],
                    values,
                    marker="o" if len(lines) < 4 else None,
                    markersize=3,
                    **style,
                )
                if run["status"] != "finished":
                    axis.plot(lines[-1]["epoch"], values[-1], "x" if failed else "|", markersize=6, **style)
    losses.set(title="loss in training", xlabel="epoch")
    accuracies.set(title="accuracy on validation images", xlabel="epoch")
    if every["loss"] and min(every["loss"]) > 0:
        losses.set_yscale("log")
        losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        losses.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        losses.yaxis.set_minor_formatter(NullFormatter())
        losses.set_ylim(top=min(max(every["loss"]), 20 * float(np.median(every["loss"]))) * 1.2)
    if every["accuracy"]:
        accuracies.set_ylim(float(np.quantile(every["accuracy"], 0.1)) - 0.02, max(every["accuracy"]) + 0.005)
        accuracies.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    for axis in (losses, accuracies):
        axis.grid(alpha=0.4)
    return drawing.png(figure)
