"""How the run went: loss, accuracy and learning rate by epoch."""

from collections.abc import Sequence
from typing import Any

from train.pages import drawing
from train.pages.drawing import NewFigure

_COLOURS = {"train": "#4c8bd0", "validation": "#d9742b"}


def draw(records: Sequence[dict[str, Any]], best_epoch: float | None, new: NewFigure) -> bytes:
    """Return a PNG file.

    Args:
      records: lines of metrics.jsonl, one or more.
      best_epoch: the epoch of the checkpoint that was chosen; None where it is not known.
      new: makes the figure.
    """
    figure = new(10.5, 3.1)
    losses, accuracies, rates = figure.subplots(1, 3)
    for split, colour in _COLOURS.items():
        lines = [record for record in records if record["split"] == split]
        if not lines:
            continue
        epochs = [line["epoch"] for line in lines]
        # Few points are seen as points: an evaluation an epoch, of three epochs.
        style: dict[str, Any] = {"color": colour, "linewidth": 1.4, "marker": "o" if len(lines) < 20 else None}
        losses.plot(epochs, [line["loss"] for line in lines], label=split, markersize=3, **style)
        accuracies.plot(epochs, [line["accuracy"] for line in lines], label=split, markersize=3, **style)
    steps = [record for record in records if record["split"] == "train"]
    rates.plot([line["epoch"] for line in steps], [line["learning_rate"] for line in steps], color="#6a9f58")
    for axis, name in ((losses, "loss"), (accuracies, "accuracy"), (rates, "learning rate")):
        axis.set(title=name, xlabel="epoch")
        axis.grid(alpha=0.5)
        if best_epoch is not None and axis is not rates:
            axis.axvline(best_epoch, color="gray", linestyle=":", linewidth=1.2, label="chosen checkpoint")
    losses.set_ylim(bottom=0)
    accuracies.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    losses.legend(fontsize=8)
    return drawing.png(figure)
