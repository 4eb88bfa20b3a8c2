"""Show what each stage of a network costs and sees: shape, parameters, multiply-accumulates, receptive field, memory.

    python -m scripts.summarize --model=alexnet --variant=2012
    python -m scripts.summarize --model=vgg16 --batch_size=64 --memory=16 --draw=vgg16.svg
    python -m scripts.summarize --model=lenet5 --json
    python -m scripts.summarize --model=alexnet --scaling=a100_ethernet

Everything is read off the network itself; nothing is trained, and no memory is taken.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.summarize")

import json
import math

from absl import flags

from models import NETWORKS
from scripts import command, outputs
from train.errors import UserError
from train.lecture import drawing, scaling, summary
from train.whole import write_whole

_MODEL = flags.DEFINE_string("model", None, f"The network: {', '.join(NETWORKS)}.")
_VARIANT = flags.DEFINE_string("variant", None, "Its variant; a wrong one lists them. Default: the network's first.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Side of the input, in pixels.", lower_bound=1)
_CHANNELS = flags.DEFINE_integer("channels", None, "Channels of the input.", lower_bound=1)
_CLASSES = flags.DEFINE_integer("classes", None, "Number of logits.", lower_bound=1)
_BATCH_NORM = flags.DEFINE_boolean("batch_norm", None, "vgg: batch normalisation behind each convolution.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 128, "Images a step, whose memory is predicted.", lower_bound=1, upper_bound=2**31
)
_MEMORY = flags.DEFINE_float("memory", None, "GiB there are for training. Default: the device's.", lower_bound=0)
_SCALING = flags.DEFINE_enum(
    "scaling", None, [*scaling.MACHINES], "Show a step on 1 to 1,024 devices of these hosts, --batch_size images each."
)
_UTILISATION = flags.DEFINE_float(
    "utilisation", 0.4, "scaling: share of a device's peak that computing reaches.", lower_bound=0.01, upper_bound=1
)
_JSON = flags.DEFINE_boolean("json", False, "Print JSON instead of a table.")
_DRAW = flags.DEFINE_string("draw", None, "Draw the network to scale into this SVG or PNG file.")


def main() -> None:
    """Describe, print, draw."""
    if not _MODEL.value:
        raise UserError(f"--model=NAME is missing: one of {', '.join(NETWORKS)}")
    if not math.isfinite(_UTILISATION.value):
        raise UserError(f"--utilisation={_UTILISATION.value}: must be finite")
    path = outputs.picture(_DRAW.value) if _DRAW.value else None
    built, made_of = summary.network(
        _MODEL.value,
        _VARIANT.value,
        image_size=_IMAGE_SIZE.value,
        channels=_CHANNELS.value,
        classes=_CLASSES.value,
        batch_norm=_BATCH_NORM.value,
    )
    if _SCALING.value:
        if _DRAW.value or _MEMORY.value is not None:
            raise UserError(f"--{'draw' if _DRAW.value else 'memory'}: is of one device; leave --scaling out, or this")
        found = made_of | scaling.sheet(scaling.sizes(built), _SCALING.value, _BATCH_SIZE.value, _UTILISATION.value)
        if _JSON.value:
            print(json.dumps(found))
        else:
            scaling.print_sheet(found)
        return
    if _MEMORY.value is not None and not _MEMORY.value < 2**40:
        raise UserError(f"--memory={_MEMORY.value}: must be finite, and is in GiB")
    memory = summary.available_memory() if _MEMORY.value is None else int(_MEMORY.value * 2**30)
    described = summary.describe(built, made_of, _BATCH_SIZE.value, memory)
    if _JSON.value:
        print(json.dumps(described))
    else:
        summary.print_table(described)
    if path:
        write_whole(path, drawing.draw(described, path.suffix[1:].lower()))
        if not _JSON.value:
            print(path)


if __name__ == "__main__":
    command.launch(main)
