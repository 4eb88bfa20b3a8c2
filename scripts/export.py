"""Write a run's network as a file for others, with a model card beside it.

    python -m scripts.export --run=runs/mnist --format=onnx --output=lenet5.onnx
    python -m scripts.export --run=runs/vgg16 --format=torch --output=vgg16.pth

safetensors and torch: under torchvision's names, where it has the network; keras: .weights.h5; onnx; stablehlo: any of
our networks, with any number of images, for CPU, GPU and TPU. Neither PyTorch nor Keras has to be installed.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.export")

from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.errors import UserError
from train.run import RunFolder
from train.weights import exporting

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_FORMAT = flags.DEFINE_enum("format", None, list(exporting.FORMATS), "The format of the file.")
_OUTPUT = flags.DEFINE_string("output", None, "The file; FILE.md, the card, is written beside it.")


def main() -> None:
    """Check, write."""
    if not (_RUN.value and _FORMAT.value and _OUTPUT.value):
        raise UserError(f"takes --run=FOLDER, --format={'|'.join(exporting.FORMATS)} and --output=FILE")
    output = outputs.file(_OUTPUT.value)
    exporting.check(_FORMAT.value, output)
    exporting.export(RunFolder(Path(_RUN.value).expanduser()), _FORMAT.value, output)
    print(f"{output}: {output.stat().st_size / 1e6:,.2f} MB; {output.name}.md says how to use it")


if __name__ == "__main__":
    command.launch(main)
