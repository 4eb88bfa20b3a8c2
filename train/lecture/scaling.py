"""What a step costs on many devices, on paper: sums to be done before hardware is rented.

A network's sizes are read off the network; of machines, the figures are their makers'. Nothing overlaps here: a step
takes as long as computing and communicating one after the other. XLA does overlap a part, so a real step lies between
the longer of the two and their sum. docs/scaling.md has the tables and what they leave out.
"""

from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from models import Network
from models.layers import Dense
from models.summary import rows
from train.errors import UserError
from train.terminal import console

_FLOAT = 4  # bytes of a parameter, a gradient, an activation: communicated in float32
# Gradients by activations and by kernels each cost what the forward pass does.
_PASSES = 3


class Machine(NamedTuple):
    """A kind of host.

    Attributes:
      title: what it is.
      devices: on a host, or in whatever is joined by the fast links.
      flops: peak of a device, operations a second (2 a multiply-accumulate).
      inside: bytes a second from a device to its neighbour, one way.
      between: bytes a second out of a host, one way.
      source: whose figures these are.
    """

    title: str
    devices: int
    flops: float
    inside: float
    between: float
    source: str


_A100 = "NVIDIA A100 datasheet: 156 TFLOP/s TF32, NVLink 600 GB/s both ways"
MACHINES = {
    "a100_ethernet": Machine("8 x A100 a host, 100 Gb/s Ethernet", 8, 156e12, 300e9, 12.5e9, _A100),
    "a100_infiniband": Machine("8 x A100 a host, 8 x 200 Gb/s InfiniBand", 8, 156e12, 300e9, 200e9, _A100),
    "h100_infiniband": Machine(
        *("8 x H100 a host, 8 x 400 Gb/s InfiniBand", 8, 494e12, 450e9, 400e9),
        "NVIDIA H100 datasheet: 989 TFLOP/s TF32 with sparsity, so half of it; NVLink 900 GB/s both ways",
    ),
    "v5e": Machine(
        *("TPU v5e, pods of 256", 256, 197e12, 200e9, 800e9),
        "Google Cloud, TPU v5e: 197 TFLOP/s bfloat16, links of 400 GB/s both ways, 6.4 Tb/s out of a pod",
    ),
}


class Sizes(NamedTuple):
    """What of a network matters here.

    Attributes:
      macs: multiply-accumulates of an image, forward.
      convolutions: bytes of the gradients of all but the dense layers.
      dense: bytes of those of the dense layers.
      gathered: bytes of an image's activations that the first divided dense layer gathers.
      summed: bytes of an image's activations that are summed over the devices that share kernels: behind each layer
        divided by its inputs, and on the way back in front of each divided by its outputs.
    """

    macs: int
    convolutions: int
    dense: int
    gathered: int
    summed: int


class Step(NamedTuple):
    """A step on a mesh: seconds, and bytes that leave a host (on a single host, a device)."""

    data: int
    model: int
    compute: float
    communicate: float
    bytes_out: float

    @property
    def seconds(self) -> float:
        """Computing, then communicating."""
        return self.compute + self.communicate


def sizes(network: Network) -> Sizes:
    """Return the sizes of a network of shapes.

    Args:
      network: its dense layers are divided in turns, as `devices.of_state` does it.
    """
    stages = rows(network)
    parameters, macs = sum(stage.parameters for stage in stages), sum(stage.macs for stage in stages)
    layers = [getattr(network, name) for stage in network.plan for name in stage.layers if isinstance(name, str)]
    kernels = [layer.kernel.shape for layer in layers if isinstance(layer, Dense)]
    dense = sum(inputs * outputs + outputs for inputs, outputs in kernels)
    forward = sum(outputs for _, outputs in kernels[1::2])
    backward = sum(inputs for inputs, _ in kernels[::2])
    gathered = kernels[0][0] if kernels else 0
    return Sizes(macs, _FLOAT * (parameters - dense), _FLOAT * dense, _FLOAT * gathered, _FLOAT * (forward + backward))


def step(of: Sizes, machine: Machine, batch: int, data: int, model: int, utilisation: float) -> Step:
    """Return what a step costs.

    An all-reduce of S bytes in a ring of n takes 2 (n - 1) / n S out of each device, an all-gather or a broadcast half
    of it (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"). A ring
    through several hosts leaves each of them once; where several rings leave a host, they share its way out.

    Args:
      of: the network.
      machine: which hosts.
      batch: images a device.
      data: groups of devices.
      model: devices of a group, neighbours, which share the kernels of dense layers.
      utilisation: share of the peak that is reached.
    """
    devices, group = data * model, batch * model
    compute = 2 * _PASSES * of.macs * batch / (machine.flops * utilisation)
    # Of each collective: bytes out of a device in its ring, devices in the ring, rings that leave a host side by side.
    rings = [
        (_reduced(of.convolutions, devices), devices, 1),
        (_reduced(of.dense / model, data), devices if data > 1 else 1, min(model, machine.devices)),
    ]
    if model > 1:
        moved = _reduced(of.gathered * group, model) / 2 + _reduced(of.summed * group, model)
        rings.append((moved, model, 1))
    seconds = bytes_out = 0.0
    for out, extent, side_by_side in rings:
        seconds += out / machine.inside
        if extent > machine.devices:
            seconds += max(0.0, out * side_by_side / machine.between - out / machine.inside)
            bytes_out += out * side_by_side
        elif devices <= machine.devices:
            bytes_out += out
    return Step(data, model, compute, seconds, bytes_out)


def _reduced(size: float, devices: int) -> float:
    return 2 * (devices - 1) / devices * size


def best(of: Sizes, machine: Machine, batch: int, devices: int, utilisation: float) -> Step:
    """Return the quickest step over all divisions of a power of two of devices; of equals the smallest `model`."""
    models = [2**power for power in range(devices.bit_length())]
    steps = [step(of, machine, batch, devices // model, model, utilisation) for model in models]
    return min(steps, key=lambda one: one.seconds)


def sheet(of: Sizes, name: str, batch: int, utilisation: float, most: int = 1024) -> dict[str, Any]:
    """Return the table for 1, 2, 4, ... `most` devices of a machine of `MACHINES`, as JSON has it.

    Raises:
      UserError: there is no such machine.
    """
    if name not in MACHINES:
        raise UserError(f"--scaling={name}: must be one of {', '.join(MACHINES)}")
    machine = MACHINES[name]
    lines = []
    for devices in (2**power for power in range(most.bit_length())):
        plain = step(of, machine, batch, devices, 1, utilisation)
        quickest = best(of, machine, batch, devices, utilisation)
        lines.append({"devices": devices, "data": _line(plain), "best": _line(quickest)})
    return {"machine": name, "images_per_device": batch, "utilisation": utilisation, **of._asdict(), "steps": lines}


def _line(of: Step) -> dict[str, Any]:
    return of._asdict() | {
        "seconds": of.seconds,
        "share": of.communicate / of.seconds,
        "limit": "computing" if of.compute >= of.communicate else "network",
    }


def print_sheet(found: dict[str, Any]) -> None:
    """Print the table."""
    machine = MACHINES[found["machine"]]
    print(f"{machine.title} ({machine.source}); {found['utilisation']:.0%} of the peak")
    print(
        f"{found['images_per_device']} images a device; gradients of convolutions {found['convolutions'] / 1e6:,.2f} "
        f"MB, of dense layers {found['dense'] / 1e6:,.2f} MB"
    )
    table = Table(box=SIMPLE, padding=(0, 1))
    alone, shared = ("MB out", "ms a step", "network"), ("best mesh", "MB out", "ms a step", "network")
    for title in ("devices", "ms computing", *alone, *shared):
        table.add_column(title, justify="right", no_wrap=True)
    for line in found["steps"]:
        plain, quickest = (
            (f"{one['bytes_out'] / 1e6:,.1f}", f"{one['seconds'] * 1e3:,.2f}", f"{one['share']:.0%}")
            for one in (line["data"], line["best"])
        )
        mesh = f"{line['best']['data']} x {line['best']['model']}"
        table.add_row(f"{line['devices']:,}", f"{line['data']['compute'] * 1e3:,.2f}", *plain, mesh, *quickest)
    console(110).print(table)
