"""The model card (Mitchell et al. 2019, arXiv 1810.03993): what one must know to use an exported file, in Markdown."""

import html
import re
from pathlib import Path

from ml_collections import ConfigDict

from models import full_name
from train import network
from train.run import RunFolder
from train.settings import class_names, to_json
from train.terminal import printable
from train.whole import write_whole

_LOAD = {
    "safetensors": "`safetensors.torch.load_file(FILE)` is the state_dict of the network in PyTorch, whose images are "
    "`[B, C, H, W]`.",
    "torch": "`torch.load(FILE, weights_only=True)` is the state_dict of the network in PyTorch, whose images are "
    "`[B, C, H, W]`.",
    "keras": "`model.load_weights(FILE)` of the same layers in Keras 3, channels last; images are `[B, H, W, C]`. "
    "Batch normalisation, where there is one, takes epsilon=1e-5.",
    "onnx": "`onnxruntime.InferenceSession(FILE)`; its input `images` is `[B, C, H, W]`, its output `logits`.",
    "stablehlo": "`jax.export.deserialize(open(FILE, 'rb').read()).call(images)`, images being `[B, H, W, C]`: logits.",
}


def write(folder: RunFolder, kind: str, output: Path) -> None:
    """Write `OUTPUT.md`.

    Args:
      folder: the run.
      kind: the file's format.
      output: the file.
    """
    write_whole(output.with_name(f"{output.name}.md"), _text(folder, kind, output.name))


def _text(folder: RunFolder, kind: str, name: str) -> str:
    config, result, environment = folder.config, folder.result or {}, folder.environment
    dataset = config.dataset
    parameters = network.count_parameters(network.describe(config)[1])
    weights, test = environment.get("weights"), result.get("test")
    if weights:
        origin = f"Weights from {_as_code(weights['file'])} (SHA-256 {_as_text(weights['sha256'])})"
        origin += f", the published {_as_text(weights['published'])}." if weights["published"] else "."
        if proof := weights["proof"]:
            origin += f" Proved equal to the source, within {proof['relative']:.1g} of the largest value, on "
            origin += f"{proof['images']} images: {', '.join(map(_as_text, proof['of']))}."
        if weights["new_layers"]:
            origin += f" Begun anew, and not trained: {', '.join(map(_as_text, weights['new_layers']))}."
        origin += (
            f" Images are prepared as {_as_text(weights['preprocessing'])}; the names of the classes: "
            f"{_as_text(weights['class_names'])}."
        )
    else:
        counts = ", ".join(f"{count:,} for {_as_text(role)}" for role, count in environment["data"]["counts"].items())
        origin = f"Trained on {_as_code(dataset.source.partition(':')[0])} images ({counts})."
        if begun := config.transfer.weights or config.transfer.net_a:
            origin += f" It began with layers of {_as_code(Path(begun).name)}, whose terms may hold for it too."
            if last := config.transfer.frozen_until:
                origin += f" Those up to {_as_text(last)} are still as they were there."
    figures = (
        f"Accuracy {test['accuracy']:.2%} on {test['count']:,} {_as_text(result['test_split'])} images, "
        f"loss {test['loss']:.4f}."
        if test
        else "None measured in this run; `python -m scripts.evaluate --run=RUN --source=URI` does."
    )
    middle = (
        "set in the middle of zeros"
        if dataset.resize == "pad"
        else f"of which the middle square ({dataset.crop:.4g} of the shorter side) is scaled ({dataset.resize})"
    )
    colours = f"3 channels, in the order {dataset.channel_order}" if dataset.channels == 3 else "1 channel, gray"
    in_order = " (red, green, blue)" if dataset.channels == 3 else ""
    names = class_names(dataset)
    more = f", ...: {len(names):,}, all in the config below" if len(names) > 20 else ""
    classes = ", ".join(map(_as_text, names[:20])) + more
    rounded = " These are bfloat16." if kind == "stablehlo" and config.precision == "bfloat16" else ""
    scrambled = "" if dataset.permutation is None else f"\n- pixels permuted by NumPy's generator {dataset.permutation}"
    return f"""# {name}

{full_name(config.model.name, config.model.variant)}, {parameters:,} parameters. {origin}

## How to load it

{_LOAD[kind].replace("FILE", repr(name))}{rounded}

## How images are prepared

- {dataset.image_size}x{dataset.image_size} pixels with {colours}, {middle}
- pixels from 0..255 to 0..1, minus the mean {_numbers(dataset.mean)}, over the deviation {_numbers(dataset.std)}\
{in_order}{scrambled}

## Figures

{figures}

## Classes

{classes}

## Config

Without the folders in which things lay.

```json
{to_json(_without_folders(config))}```
"""


def _without_folders(config: ConfigDict) -> ConfigDict:
    """Return a config for others to read: of what lies on this machine the names, but not where."""
    shown = config.copy_and_resolve_references()
    kind, _, place = config.dataset.source.partition(":")
    if kind != "tfds":
        shown.dataset.source = f"{kind}:{Path(place).name}" if place else kind
    for section, key in (("dataset", "data_dir"), *(("transfer", key) for key in ("weights", "store", "net_a"))):
        if config[section][key]:
            shown[section][key] = Path(config[section][key]).name
    return shown


def _as_text(name: str) -> str:
    """Return a name as Markdown shows it: letter by letter, and on its line."""
    return re.sub(r"[\\`*_\[\]()#|~$!]", r"\\\g<0>", html.escape(printable(name), quote=False))


def _as_code(name: object) -> str:
    return f"`{printable(str(name)).replace('`', chr(39))}`"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.7g}" for value in values)
