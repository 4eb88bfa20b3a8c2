"""From a file, flags and what is known of published files to a complete config; what nobody states is asked for."""

from collections.abc import Iterable, Mapping
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from models import NETWORKS, Network, full_name
from train import network, settings
from train.errors import UserError, nearest
from train.weights import matching
from train.weights.file import WeightsFile
from train.weights.operations import difference, of_network, small_network
from train.weights.published import PREPROCESSINGS, Published, class_names

HEADS = ("keep", "drop", "drop_dense")
# Networks that have no sizes of their own: any number of layers, of any width.
SMALL = ("lenet5", "lenet1d", "mlp")
# What tensors' shapes do not show of a small net, and of how images are prepared, each with an example.
_UNSEEN = {"model.activation": "relu", "model.pooling": "max", "model.padding": "'(0,0)'", "model.pools": "'(2,2)'"}
PREPARATION = {
    "dataset.image_size": "28",
    "dataset.channels": "1",
    "dataset.resize": "bilinear",
    "dataset.crop": "1.0",
    "dataset.channel_order": "RGB",
    "dataset.mean": "'(0.5,)'",
    "dataset.std": "'(0.5,)'",
}
_LARGEST_IMAGE = 4096  # pixels a side
# Images a batch where they are photos: inference of VGG-16 takes 40 MB each.
_BATCH_OF_PHOTOS = 50


class Statements:
    """Who says what about a config; the first one counts.

    Args:
      config: completed in place.
      given: its keys, dotted, that the command line has set.
    """

    def __init__(self, config: ConfigDict, given: Iterable[str]) -> None:
        self._config = config
        self._keys = set(given)

    def add(self, values: Mapping[str, Any], who: str = "") -> None:
        """Set the keys that are not stated yet; of a source with a name, others must agree with it.

        Raises:
          UserError: they do not.
        """
        known = dict(settings.leaves(self._config))
        for key, value in values.items():
            if key not in known:
                raise UserError(f"{who} states config.{key}, which this version does not have; export it again")
            if key not in self._keys:
                try:
                    self._config.update_from_flattened_dict({key: value})
                except (TypeError, ValueError) as error:
                    raise UserError(
                        f"{who or 'the file'}: config.{key} cannot be {value!r}; export it again"
                    ) from error
                self._keys.add(key)
            elif who and known[key] != value:
                raise UserError(f"config.{key}={known[key]}: {who} has {value}; leave it out")

    def require(self, examples: Mapping[str, str], why: str) -> None:
        """Raise UserError where keys are not stated, with an example of each."""
        if missing := [f"--config.{key}={example}" for key, example in examples.items() if key not in self._keys]:
            raise UserError(f"{why}; say it, for instance: {' '.join(missing)}")

    def __contains__(self, key: str) -> bool:
        """Whether a key is stated."""
        return key in self._keys


def complete(
    config: ConfigDict,
    given: Iterable[str],
    file: WeightsFile,
    known: Published | None,
    preprocessing: str | None,
    head: str,
) -> Network:
    """Set every key of the config that the flags, the file or its hash state, and check it.

    Args:
      config: as `configs.base` has it, with what the command line has set; completed in place.
      given: the keys that it has set, dotted.
      file: what has been read.
      known: which published file it is, if any.
      preprocessing: a key of `PREPROCESSINGS`, or None.
      head: one of `HEADS`: keep, drop (the last layer) or drop_dense (all dense layers).

    Returns:
      the network, with shapes in the place of arrays.

    Raises:
      UserError: something is stated twice and differs, or not at all, or is not what the file has.
    """
    said = Statements(config, given)
    _add_what_the_file_says(said, file, head)
    if known and head == "keep" and known.head != "keep":
        raise UserError(
            f"{file.path}: is the published {known.name}, whose dense layers cannot be used; "
            f"--head={known.head} --config.dataset.classes=N begins them anew"
        )
    if known:
        name, variant = known.model
        general = "vgg" if name.startswith("vgg") and config.model.name == "vgg" else name  # vgg D is vgg16
        said.add({"model.name": general, "model.variant": variant}, f"the published {known.name}")
    if "model.name" not in said:
        raise UserError(f"--model=NAME is missing: {file.path.name} does not say which network it is of")
    if config.model.name not in NETWORKS:
        choices = nearest(config.model.name, NETWORKS)
        raise UserError(f"--model={config.model.name}: must be one of {', '.join(NETWORKS)}{choices}")
    _add_what_shapes_show(config, said, file, head)
    if known and preprocessing not in (None, known.preprocessing):
        raise UserError(f"--preprocessing={preprocessing}: the published {known.name} takes {known.preprocessing}")
    if prepared := preprocessing or (known.preprocessing if known else None):
        values = {f"dataset.{key}": value for key, value in PREPROCESSINGS[prepared].items()}
        said.add(values, f"the published {known.name}" if known else "")
    needless = {"dataset.crop"} if config.dataset.resize == "pad" else set()
    needless |= {"dataset.channel_order"} if config.dataset.channels == 1 else set()
    said.require(
        {key: example for key, example in PREPARATION.items() if key not in needless},
        f"how images are prepared for {file.path.name} stands neither in it nor in a flag "
        f"(--preprocessing={'|'.join(PREPROCESSINGS)}: those of published weights)",
    )
    for key in ("mean", "std"):
        if len(config.dataset[key]) != config.dataset.channels:
            raise UserError(
                f"config.dataset.{key}={config.dataset[key]}: images have {config.dataset.channels} channels; "
                "give as many numbers"
            )
    if config.dataset.image_size > _LARGEST_IMAGE:  # a file may claim anything; dense layers would take all memory
        raise UserError(f"config.dataset.image_size={config.dataset.image_size}: must be at most {_LARGEST_IMAGE:,}")
    if config.dataset.image_size > 100:
        said.add({"evaluate.batch_size": _BATCH_OF_PHOTOS})
    if known and head == "keep" and config.dataset.class_names is None:
        said.add({f"dataset.{key}": value for key, value in class_names("imagenet").items()})
    _add_classes(config, said, file, head)
    config.dataset.source = ""
    settings.resolve(config)
    described = nnx.merge(*network.describe(config))
    if file.operations is not None:
        there = difference(file.operations, of_network(described), head)
        if there:
            raise UserError(
                f"{file.path}: is not {full_name(config.model.name, config.model.variant)}: {there}; --model and "
                "--variant say what it is"
            )
    return described


def _add_what_the_file_says(said: Statements, file: WeightsFile, head: str) -> None:
    """State what stands in the file; how images are prepared and what classes are called, a flag may say otherwise."""
    states = {key: value for key, value in file.states.items() if head == "keep" or "class" not in key}
    open_to_flags = {key for key in states if key.startswith("dataset.")} - {"dataset.channels", "dataset.classes"}
    if file.operations is not None:  # a graph takes images of its own size
        open_to_flags -= {"dataset.image_size"}
    said.add({key: value for key, value in states.items() if key not in open_to_flags}, file.path.name)
    said.add({key: states[key] for key in open_to_flags})


def _add_what_shapes_show(config: ConfigDict, said: Statements, file: WeightsFile, head: str) -> None:
    """State the channels of images, the sizes of a small net, and whether VGG has batch normalisation."""
    name, model = file.path.name, config.model.name
    convolutions = list(file.kernels("convolution").values())
    if convolutions and model != "mlp":
        said.add({"dataset.channels": convolutions[0][1 if file.channels_first else -2]}, name)
    if model.startswith("vgg"):
        said.add({"model.batch_norm": any("mean" in layer for layer in file.layers.values())}, name)
    if model not in SMALL or config.model.variant not in (None, "modern"):
        return
    widths = [shape[0] if file.channels_first else shape[-1] for shape in file.kernels("dense").values()]
    sizes: dict[str, Any] = {
        "model.widths": tuple(shape[0] if file.channels_first else shape[-1] for shape in convolutions),
        "model.kernels": tuple(shape[2] if file.channels_first else shape[0] for shape in convolutions),
        "model.hidden": tuple(widths[:-1]),
    }
    unseen = _UNSEEN
    if file.operations is not None:
        sizes, unseen = small_network(file.operations, name), {}
    if model == "mlp":
        sizes = {key: value for key, value in sizes.items() if key in ("model.hidden", "model.activation")}
        unseen = {key: example for key, example in unseen.items() if key == "model.activation"}
    hidden = sizes.pop("model.hidden")
    said.add(sizes, name)
    # Where a head is left out, a flag may say that the file has none, or that there are to be other layers.
    said.add({"model.hidden": hidden}, name if head == "keep" else "")
    said.require(unseen, f"what is between the layers of {name} does not stand in it")


def _add_classes(config: ConfigDict, said: Statements, file: WeightsFile, head: str) -> None:
    """State how many classes there are."""
    if config.dataset.class_names is not None:
        said.add({"dataset.classes": len(config.dataset.class_names)}, "config.dataset.class_names")
    if head == "keep":
        try_with = config.copy_and_resolve_references()
        try_with.dataset.classes = config.dataset.classes or 10
        settings.resolve(try_with)
        kernel = matching.head_kernel(file, nnx.merge(*network.describe(try_with)))
        if kernel is not None:
            width = kernel.shape[0] if file.channels_first else kernel.shape[-1]
            said.add({"dataset.classes": width}, f"the head of {file.path.name} (--head=drop leaves it out)")
    if "dataset.classes" not in said:
        raise UserError(
            f"{file.path.name}: has no head that could say how many classes there are; leave it out with --head=drop "
            "(or --head=drop_dense, with all dense layers) and give --config.dataset.classes=N"
        )
