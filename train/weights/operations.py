"""What a network does to an image, as a list that two descriptions of one network have in common.

A graph in a file and one of our networks are the same where these lists are: a stride, a padding or a constant that
differs would load without a word and predict wrong.
"""

import math
from typing import Any, NamedTuple

from models.geometry import Shape, Windows
from models.layers import BatchNorm, Convolution, Dense, Dropout, LocalResponseNorm, Series
from models.network import Network
from models.pooling import AdaptiveAveragePool, AveragePool, MaxPool
from train.errors import UserError


class Operation(NamedTuple):
    """One step of a network.

    Attributes:
      kind: convolution, dense, batch_norm, local_response_norm, max_pool, average_pool, adaptive_average_pool, series,
        or a key of ACTIVATIONS.
      shape: of what it makes of an example, `(*spatial, C)`.
      details: whatever else makes it differ from others of its kind.
    """

    kind: str
    shape: Shape
    details: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """Return it as people would say it."""
        details = ", ".join(f"{name} {value}" for name, value in self.details)
        return f"{self.kind} to {'x'.join(map(str, self.shape))}" + (f" ({details})" if details else "")


class Operations(list[Operation]):
    """The steps so far, from an example of `shape`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_shape = shape

    @property
    def shape(self) -> Shape:
        """Shape of what the steps so far make."""
        return self[-1].shape if self else self.input_shape

    def slide(self, kind: str, windows: Windows, width: int | None = None, **details: Any) -> None:
        """Add a convolution or a pooling; windows that do the same count as the same, whatever they are called."""
        *sides, channels = self.shape
        outputs = tuple(window.outputs(side) for window, side in zip(windows, sides, strict=True))
        each = {
            "kernel": tuple(window.size for window in windows),
            "stride": tuple(window.stride for window in windows),
            "dilation": tuple(window.dilation for window in windows),
            "padding before": tuple(window.padding[0] for window in windows),
        }
        self.append(Operation(kind, (*outputs, width or channels), tuple((each | details).items())))

    def dense(self, width: int) -> None:
        """Add a dense layer on all that there is."""
        self.append(Operation("dense", (width,)))

    def each(self, kind: str, **details: float) -> None:
        """Add what leaves the shape as it is; an activation goes before a max pooling, with which it commutes."""
        place = len(self)
        while kind in ("relu", "tanh") and place and self[place - 1].kind == "max_pool":
            place -= 1
        shape = self[place - 1].shape if place else self.input_shape
        # Files have constants in float32: six digits of them are theirs.
        rounded = {name: float(f"{value:.6g}") for name, value in details.items()}
        self.insert(place, Operation(kind, shape, tuple(rounded.items())))


def of_network(network: Network) -> Operations:
    """Return what a network does, without what does nothing outside of training.

    Raises:
      UserError: it has layers that no other format knows (LeNet-5 of 1998).
    """
    steps = Operations(network.input_shape)
    for stage in network.plan:
        for layer in network.layers_of(stage):
            match layer:
                case Convolution():
                    steps.slide("convolution", layer.windows, layer.out_features, groups=layer.feature_group_count)
                case Dense():
                    steps.dense(layer.out_features)
                case BatchNorm():
                    steps.each("batch_norm")
                case LocalResponseNorm():
                    alpha = layer.alpha * layer.size  # as Caffe, ONNX and torch have it
                    steps.each("local_response_norm", size=layer.size, alpha=alpha, beta=layer.beta, k=layer.k)
                case MaxPool():
                    steps.slide("max_pool", layer.windows)
                case AveragePool():
                    steps.slide("average_pool", layer.windows)
                case AdaptiveAveragePool():
                    if layer.output(steps.shape) != steps.shape:
                        steps.append(Operation("adaptive_average_pool", layer.output(steps.shape)))
                case Series():
                    steps.append(Operation("series", layer.output(steps.shape)))
                case Dropout():
                    pass
                case _:
                    raise UserError(
                        f"stage {stage.name}: no other format has a layer like it ({type(layer).__name__}); "
                        "scripts.export --format=stablehlo takes every network"
                    )
        if stage.activation != "identity":
            steps.each(stage.activation)
    return steps


def difference(theirs: Operations, ours: Operations, head: str) -> str | None:
    """Say where two networks part, or nothing where they do the same, as far as `head` (settling.HEADS) keeps them."""
    if head != "keep":
        theirs, ours = (_until_dense(steps, last=head == "drop") for steps in (theirs, ours))
    if theirs.input_shape != ours.input_shape:
        return f"it takes images of {theirs.input_shape}, here they are {ours.input_shape}"
    for place, (there, here) in enumerate(zip(theirs, ours, strict=False), start=1):
        if there != here:
            return f"its step {place} is {there}, here it is {here}"
    if len(theirs) != len(ours):
        more, who = (theirs, "it") if len(theirs) > len(ours) else (ours, "the network here")
        return f"{who} goes on with {more[min(len(theirs), len(ours))]}"
    return None


def _until_dense(steps: Operations, *, last: bool) -> Operations:
    """Return the steps before the last dense layer, or before the first."""
    places = [place for place, step in enumerate(steps) if step.kind == "dense"] or [len(steps)]
    kept = Operations(steps.input_shape)
    kept.extend(steps[: places[-1 if last else 0]])
    return kept


def small_network(steps: Operations, refuse: str) -> dict[str, Any]:
    """Return the keys of a config that make LeNet5 do these steps, where it can.

    Whether it can is not known until the network it makes has been compared (`difference`).

    Args:
      steps: of the file's network.
      refuse: the beginning of the message where two steps contradict each other.

    Raises:
      UserError: its layers differ in what LeNet5 has once.
    """
    once: dict[str, set[Any]] = {"activation": set(), "pooling": set()}
    found: dict[str, list[int]] = {"widths": [], "kernels": [], "padding": [], "pools": [], "hidden": []}
    for step in steps:
        details = dict(step.details)
        match step.kind:
            case "convolution":
                found["widths"].append(step.shape[-1])
                found["kernels"].append(details["kernel"][0])
                found["padding"].append(details["padding before"][0])
                found["pools"].append(1)
            case "max_pool" | "average_pool" if found["pools"]:
                found["pools"][-1] *= details["kernel"][0]
                once["pooling"].add(step.kind.removesuffix("_pool"))
            case "dense":
                found["hidden"].append(math.prod(step.shape))
            case "relu" | "tanh" | "scaled_tanh":
                once["activation"].add(step.kind)
    for name, values in once.items():
        if len(values) > 1:
            raise UserError(f"{refuse}: has more than one {name}: {', '.join(sorted(values))}; our networks have one")
    sizes = {f"model.{name}": tuple(values) for name, values in found.items()}
    sizes["model.hidden"] = sizes["model.hidden"][:-1]
    # Without a hidden layer that is activated the network is linear; without a pooling either kind is the same.
    chosen = {f"model.{name}": next(iter(values)) for name, values in once.items() if values}
    return sizes | chosen
