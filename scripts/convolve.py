"""Work out the lecture's examples of convolution: input, filter, each position's products, output.

    python -m scripts.convolve filter
    python -m scripts.convolve channels --output=channels.png
    python -m scripts.convolve edges --image=photo.jpg --output=edges.png

The examples: filter, padding, stride, max_pool, average_pool, channels, nonlinearity, shrink (32 pixels under 5x5
filters), usage (how often each pixel counts), mlp (why not a perceptron) and edges (filters on a photo).
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.convolve")

import json
from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.errors import UserError, nearest
from train.lecture import rendering
from train.lecture.edges import edges, read
from train.lecture.examples import EXAMPLES

_NAMES = (*EXAMPLES, "edges")
_JSON = flags.DEFINE_boolean("json", False, "Print JSON instead of text.")
_IMAGE = flags.DEFINE_string("image", None, "edges: a photo. Default: one that comes with scikit-learn.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Draw the example into this PNG or SVG file. Default for edges: edges.png."
)


def main(name: str) -> None:
    """Compute, print, draw."""
    if name not in _NAMES:
        raise UserError(f"{name or 'EXAMPLE'}: must be one of {', '.join(_NAMES)}{nearest(name, _NAMES)}")
    if _IMAGE.value and name != "edges":
        raise UserError(f"--image={_IMAGE.value}: {name} takes none; edges does")
    output = _OUTPUT.value or ("edges.png" if name == "edges" and not _JSON.value else None)
    path = outputs.picture(output) if output else None
    if name == "edges":
        photo = read(_IMAGE.value)
        example = edges(photo, Path(_IMAGE.value).name if _IMAGE.value else "china.jpg of scikit-learn")
    else:
        example = EXAMPLES[name]()
    if path:
        rendering.save(example, path)
    if _JSON.value:
        print(json.dumps(rendering.as_json(name, example)))
    else:
        print(rendering.as_text(example), *([path] if path else []), sep="\n\n")


if __name__ == "__main__":
    command.launch(main, takes="EXAMPLE")
