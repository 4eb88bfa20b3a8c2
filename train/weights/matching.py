"""Which tensor of a file goes where in a network: by a table of names, or, for small nets, by order."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models import MLP, LeNet5
from models.network import Network
from train.errors import UserError
from train.weights import layout, names
from train.weights.file import Tensor, WeightsFile
from train.weights.layout import Slot


class Row(NamedTuple):
    """One array's way.

    Attributes:
      slot: where it goes.
      tensor: what is read; None where it is not taken from the file.
      action: what is done to it.
    """

    slot: Slot
    tensor: Tensor | None
    action: str


class Match(NamedTuple):
    """A file beside a network.

    Attributes:
      table: by which names were matched.
      rows: a row for each array of the network.
      problems: what is missing, has another shape, or is too much; a line each, empty where all is well.
      left_out: of the file's dense layers, those that the network here begins anew.
    """

    table: str
    rows: list[Row]
    problems: list[str]
    left_out: list[Tensor]

    @property
    def fresh(self) -> list[str]:
        """Layers that are not taken from the file."""
        return list(dict.fromkeys(row.slot.layer for row in self.rows if row.action == NEW))

    def check(self, path: Path) -> None:
        """Raise UserError where there are problems; names all of them."""
        if self.problems:
            raise UserError(
                f"{path}: {len(self.problems)} of its tensors do not fit: {'; '.join(self.problems)}. "
                "Is it of this network?"
            )


NEW, ZEROS = "new: --head", "zeros: the file has no bias"


def match(file: WeightsFile, network: Network, dropped: Iterable[str]) -> Match:
    """Find the file's tensor for each array of a network.

    Args:
      file: what has been read.
      network: it may be one of shapes alone.
      dropped: layers that are left out.

    Raises:
      UserError: the network has layers that no other format knows.
    """
    slots, dropped = layout.slots(network), tuple(dropped)
    name, table = _table(file, network, slots)
    by_order = name == ORDER
    rows: list[Row] = []
    problems: list[str] = []
    used: set[str] = set()
    for slot in slots:
        layer = table.get(slot.layer)
        tensor = file.layers.get(layer or "", {}).get(slot.leaf)
        if tensor is not None:
            used.add(tensor.name)
        if slot.layer in dropped:
            rows.append(Row(slot, None, NEW))
        elif tensor is None and by_order and layer and slot.leaf == "bias":
            rows.append(Row(slot, None, ZEROS))
        elif tensor is None:
            where = f"{layer}, its {slot.leaf}," if layer else "a layer"
            problems.append(f"missing: {where} for {slot.name} {slot.shape}")
        elif not layout.fits(slot, tensor.shape, file.channels_first):
            wanted = layout.theirs(slot, file.channels_first)
            problems.append(f"another shape: {tensor.name} has {tensor.shape}, {slot.name} takes {wanted}")
        else:
            rows.append(Row(slot, tensor, layout.action(slot, file.channels_first)))
    replaced = _replaced(file, slots, table, dropped)
    left_out = [tensor for layer in replaced for tensor in file.layers[layer].values()]
    every = [*(tensor for layer in file.layers.values() for tensor in layer.values()), *file.others]
    used |= {tensor.name for tensor in left_out}
    problems += [f"too much: {tensor.name} {tensor.shape}" for tensor in every if tensor.name not in used]
    return Match(name, rows, problems, left_out)


def _replaced(file: WeightsFile, slots: list[Slot], table: names.Table, dropped: tuple[str, ...]) -> list[str]:
    """Return which of the file's dense layers are left out, whatever they are called: all of them, or the last."""
    kept = {table.get(slot.layer) for slot in slots if slot.layer not in dropped}
    beside = [layer for layer in file.kernels("dense") if layer not in kept]
    named = [table[layer] for layer in dropped if table.get(layer) in beside]
    return beside if len(dropped) > 1 else (named or beside[-1:])[: len(dropped)]


ORDER = "order"


def head_kernel(file: WeightsFile, network: Network) -> Tensor | None:
    """Return the kernel of the network's last layer in the file, where it has one."""
    slots = layout.slots(network)
    _, table = _table(file, network, slots)
    return file.layers.get(table.get(slots[-1].layer, ""), {}).get("kernel")


def dense_layers(network: Network) -> list[str]:
    """Return the names of a network's dense layers, the last being its head."""
    return [slot.layer for slot in layout.slots(network) if slot.kind == "dense" and slot.leaf == "kernel"]


def _table(file: WeightsFile, network: Network, slots: list[Slot]) -> tuple[str, names.Table]:
    """Choose the table that knows the most of the file's layers; small nets and graphs, which have any, go by order.

    Raises:
      UserError: their order is not known either.
    """
    known = {name: make(network) for name, make in names.tables(network).items()}
    known_layers = {name: sum(layer in file.layers for layer in table.values()) for name, table in known.items()}
    best = max(known_layers, key=known_layers.__getitem__)
    layers = {slot.layer: slot.kind for slot in slots}
    goes_by_order = file.operations is not None or isinstance(network, LeNet5 | MLP)
    if known_layers[best] == len(layers) or not goes_by_order:
        return best, known[best]
    _check_order(file)
    return ORDER, _by_order(file, layers)


def _check_order(file: WeightsFile) -> None:
    """Refuse layers in the order of their names where that may not be the network's: two could change places."""
    for kind in () if file.ordered else ("convolution", "dense"):
        shapes = file.kernels(kind)
        numbered = len({re.sub(r"\d+", "#", name) for name in shapes}) == 1  # conv1, conv2; features.0, features.3
        if not numbered and len(set(shapes.values())) < len(shapes):
            raise UserError(
                f"{file.path}: which of its layers comes first is not known: they stand in alphabetical order "
                f"({', '.join(shapes)}), and some have the same shape; save it as .pth, which keeps the network's order"
            )


def _by_order(file: WeightsFile, layers: dict[str, str]) -> names.Table:
    """Pair the file's convolutions with ours, one after the other, and its dense layers, and its normalisations."""
    table: names.Table = {}
    of_file: dict[str, list[str]] = {kind: list(file.kernels(kind)) for kind in ("convolution", "dense")}
    of_file["norm"] = [name for name, layer in file.layers.items() if "mean" in layer]
    for kind, found in of_file.items():
        ours = [name for name, its_kind in layers.items() if its_kind == kind]
        table |= dict(zip(ours, found, strict=False))
    return table


def read(
    rows: Iterable[Row], channels_first: bool, new: Callable[[Slot], np.ndarray]
) -> Iterable[tuple[Slot, np.ndarray]]:
    """Yield each array as the network has it, one after the other, so that two are never held at once."""
    for row in rows:
        if row.action == NEW:
            yield row.slot, new(row.slot)
        elif row.tensor is None:
            yield row.slot, np.zeros(row.slot.shape, np.float32)
        else:
            yield row.slot, layout.to_ours(row.tensor.read(), row.slot, channels_first)
