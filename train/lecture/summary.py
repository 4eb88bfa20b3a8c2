"""A network in figures: what each stage costs and sees, and the memory that training takes."""

import os
from typing import Any

import jax
from flax import nnx
from rich.box import SIMPLE
from rich.table import Table

from models import NETWORKS, Network, full_name
from models.arithmetic import GeometryError
from models.network import NetworkError
from models.summary import inference_memory, rows, training_memory
from train.errors import UserError, nearest
from train.settings import keyword_defaults, no_variant
from train.terminal import console


def network(name: str, variant: str | None, **options: Any) -> tuple[Network, dict[str, Any]]:
    """Return a network of shapes alone, and what it was made of: model, variant, image_size, channels, classes.

    Args:
      name: a key of `NETWORKS`.
      variant: one of its variants; None for the first.
      options: of the network; those that are None have the network's defaults.

    Raises:
      UserError: there is no such network, or the options make none.
    """
    if name not in NETWORKS:
        raise UserError(f"--model={name}: must be one of {', '.join(NETWORKS)}{nearest(name, NETWORKS)}")
    variants = NETWORKS[name]
    if variant is not None and variant not in variants:
        raise UserError(f"--variant={variant}: {no_variant(name)}")
    chosen = variant or next(iter(variants))
    make = variants[chosen]
    known = keyword_defaults(make)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := given.keys() - known.keys():
        raise UserError(f"--{min(unknown)}: {name} does not take it; leave it out")
    try:
        built = nnx.eval_shape(lambda: make(**given, rngs=nnx.Rngs(0)))
    except GeometryError as error:
        raise UserError(f"{full_name(name, chosen)}: {error}; give a larger --image_size") from error
    except NetworkError as error:
        raise UserError(f"{full_name(name, chosen)}: {error}") from error
    sizes = {key: (known | given)[key] for key in ("image_size", "channels", "classes")}
    return built, {"model": name, "variant": chosen, **sizes}


def available_memory() -> int:
    """Return the bytes of a device's memory; of the machine's where the device has none of its own."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(built: Network, made_of: dict[str, Any], batch_size: int, memory: int) -> dict[str, Any]:
    """Return what --json prints.

    Args:
      built: the network.
      made_of: as `network` returns it.
      batch_size: whose memory is predicted.
      memory: bytes there are for training, for the largest batch.
    """
    found = rows(built)
    training, inference = training_memory(built), inference_memory(built)
    return {
        **made_of,
        "parameters": sum(row.parameters for row in found),
        "macs": sum(row.macs for row in found),
        "connections": sum(row.connections for row in found),
        "stages": [
            {
                "name": row.name,
                "shape": list(row.shape),
                "parameters": row.parameters,
                "macs": row.macs,
                "activations": row.activations,
                "connections": row.connections,
                # The same along each dimension: images are squares, and so are windows.
                "receptive_field": row.fields[0].size,
                "receptive_field_stride": row.fields[0].stride,
                "receptive_field_offset": row.fields[0].offset,
            }
            for row in found
        ],
        "memory": {
            "batch_size": batch_size,
            "training_bytes": training.of(batch_size),
            "inference_bytes": inference.of(batch_size),
            "available_bytes": memory,
            "largest_training_batch": training.largest_batch(memory),
        },
    }


def print_table(summary: dict[str, Any]) -> None:
    """Print a summary for people."""
    side = summary["image_size"]
    name = full_name(summary["model"], summary["variant"])
    heading = f"{name}, {side}x{side}x{summary['channels']} pixels, {summary['classes']} classes"
    table = Table(title=heading, box=SIMPLE, title_justify="left")
    table.add_column("stage")
    for column in ("shape", "parameters", "MACs", "sees", "every", "from"):
        table.add_column(column, justify="right")
    for stage in summary["stages"]:
        field = (stage[f"receptive_field{part}"] for part in ("", "_stride", "_offset"))
        shape = "x".join(map(str, stage["shape"]))
        table.add_row(stage["name"], shape, f"{stage['parameters']:,}", f"{stage['macs']:,}", *map(str, field))
    table.add_section()
    table.add_row("all", "", f"{summary['parameters']:,}", f"{summary['macs']:,}")
    console().print(table)
    memory = summary["memory"]
    print(
        "A number of a map sees so many pixels a side, its neighbour those so many further on, the first from there.\n"
        f"Training with batches of {memory['batch_size']}: {_size(memory['training_bytes'])} "
        "(float32, SGD with momentum); "
        f"inference: {_size(memory['inference_bytes'])}.\n"
        f"Of {_size(memory['available_bytes'])}, batches of about {memory['largest_training_batch']:,} are the largest."
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.2f} MiB"
