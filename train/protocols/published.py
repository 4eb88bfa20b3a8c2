"""Figures that others have published for the same network on the same data."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from models import NETWORKS
from train.protocols import wordnet
from train.settings import keyword_defaults


class Published(NamedTuple):
    """A figure from outside.

    Attributes:
      accuracy: top-1, a share of 1.
      what: was measured.
      source: where it stands.
      top5: top-5, a share of 1, where it stands there too.
      protocols: what looked at the images: keys of `looks.PROTOCOLS`, whose answers were averaged.
      training: least and most pixels of a photo's shorter side in training, where the source tells figures apart by it.
      networks: how many were averaged.
    """

    accuracy: float
    what: str
    source: str
    top5: float | None = None
    protocols: tuple[str, ...] = ("center",)
    training: tuple[int, int] | None = None
    networks: int = 1


# Of all four files of MNIST, as train/data/dataset.py takes the fingerprint of what is read; they are the same for
# everybody. Sets of TFDS are known by their name.
_FINGERPRINTS = {"9693e358ae12125af5b2ddd25984a4fcbb094949ce37634a4b348009b35dc92c": "mnist"}
# The numbers of ImageNet 2012's classes in their order, with spaces between them.
_IMAGENET = "791ce0333040dd249d13133f90d28ef0263ffc01e5de0afd85b3e32048d7d456"
_LECUN = "LeCun, Bottou, Bengio, Haffner 1998 (doi:10.1109/5.726791), section III"
_KRIZHEVSKY = "Krizhevsky, Sutskever, Hinton 2012, table 2"
_SIMONYAN = "Simonyan, Zisserman 2014 (arXiv 1409.1556), table {}"


def _of_vgg(
    top1_error: float, top5_error: float, table: int, protocols: tuple[str, ...], training: tuple[int, int]
) -> Published:
    sizes = f"S = {training[0]}" if training[0] == training[1] else f"S from {training[0]} to {training[1]}"
    what = f"{' and '.join(protocols).replace('_', '-')}, {sizes}"
    shares = [round(1 - error / 100, 5) for error in (top1_error, top5_error)]
    return Published(shares[0], what, _SIMONYAN.format(table), shares[1], protocols, training)


# By data, network, variant, and whether it normalises batches.
_FIGURES: dict[tuple[str, str, str | None, bool], tuple[Published, ...]] = {
    ("mnist", "lenet5", None, False): (
        Published(0.9905, "LeNet-5 of 1998, without distortions", _LECUN),
        Published(0.9920, "LeNet-5 of 1998, with distortions", _LECUN),
    ),
    ("imagenet2012", "alexnet", "torchvision", False): (
        Published(0.56522, "centre crop", "torchvision, AlexNet_Weights.IMAGENET1K_V1", 0.79066),
    ),
    ("imagenet2012", "alexnet", "2012", False): (
        Published(1 - 0.407, "one network, ten crops", _KRIZHEVSKY, 1 - 0.182, ("ten_crop",)),
        Published(1 - 0.381, "five networks, ten crops", _KRIZHEVSKY, 1 - 0.164, ("ten_crop",), networks=5),
    ),
    ("imagenet2012", "alexnet", "caffenet", False): (
        Published(0.574, "centre crop", "Caffe, bvlc_reference_caffenet", 0.804),
    ),
    ("imagenet2012", "vgg", "D", False): (
        _of_vgg(27.0, 8.8, 3, ("dense",), (256, 256)),
        _of_vgg(26.8, 8.7, 3, ("dense",), (384, 384)),
        _of_vgg(25.6, 8.1, 3, ("dense",), (256, 512)),
        _of_vgg(26.6, 8.6, 4, ("multi_scale",), (256, 256)),
        _of_vgg(26.5, 8.6, 4, ("multi_scale",), (384, 384)),
        _of_vgg(24.8, 7.5, 4, ("multi_scale",), (256, 512)),
        _of_vgg(24.6, 7.5, 5, ("multi_crop",), (256, 512)),
        _of_vgg(24.4, 7.2, 5, ("multi_crop", "multi_scale"), (256, 512)),
        Published(0.71592, "centre crop", "torchvision, VGG16_Weights.IMAGENET1K_V1", 0.90382),
    ),
    ("imagenet2012", "vgg", "D", True): (
        Published(0.73360, "centre crop", "torchvision, VGG16_BN_Weights.IMAGENET1K_V1", 0.91516),
    ),
}


def figures(config: ConfigDict, data: dict[str, Any]) -> tuple[Published, ...]:
    """Return what has been published for a run's network on its data, or nothing.

    Args:
      config: the completed config of the run.
      data: the entry `data` of environment.json: source and fingerprint.
    """
    section, model = config.dataset, config.model
    if section.only_classes or section.per_class or section.permutation is not None:
        return ()  # another task
    chosen = {key: value for key, value in model.items() if key not in ("name", "variant", "batch_norm", "init")}
    usual = keyword_defaults(NETWORKS[model.name][model.variant])
    if any(value not in (None, usual.get(key)) for key, value in chosen.items()):
        return ()  # another network
    size = usual["image_size"]
    if section.image_size != size:
        return ()
    source = str(data["source"])
    named = source.removeprefix("tfds:").partition(":")[0] if source.startswith("tfds:") else None
    name = _FINGERPRINTS.get(data["fingerprint"], "imagenet2012" if _are_imagenets(section) else named)
    network = "vgg" if model.name.startswith("vgg") else model.name
    found = (_FIGURES.get((name or "", network, variant, bool(model.batch_norm))) for variant in (model.variant, None))
    return next(filter(None, found), ())


def _are_imagenets(section: ConfigDict) -> bool:
    """Whether the classes are those of ImageNet 2012."""
    classes = wordnet.identifiers(section) or ()
    return hashlib.sha256(" ".join(classes).encode()).hexdigest() == _IMAGENET


def is_like(figure: Published, config: ConfigDict, protocols: Sequence[str], networks: int) -> bool:
    """Whether runs of this config, asked by these protocols, may be compared with a published figure."""
    once = round(config.dataset.image_size / config.dataset.crop)
    training = config.augment.scale_jitter or (once, once)
    alike = figure.training in (None, tuple(training))
    return alike and networks == figure.networks and sorted(protocols) == sorted(figure.protocols)
