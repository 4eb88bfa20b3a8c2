"""Figures that others have published for the same network on the same data."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from models import NETWORKS
from train.settings import keyword_defaults


class Published(NamedTuple):
    """A figure from outside.

    Attributes:
      accuracy: top-1, a share of 1.
      what: was measured.
      source: where it stands.
    """

    accuracy: float
    what: str
    source: str


# Of all four files of MNIST, as train/data/dataset.py takes the fingerprint of what is read; they are the same for
# everybody. Sets of TFDS are known by their name.
_FINGERPRINTS = {"9693e358ae12125af5b2ddd25984a4fcbb094949ce37634a4b348009b35dc92c": "mnist"}
_LECUN = "LeCun, Bottou, Bengio, Haffner 1998 (doi:10.1109/5.726791), section III"
_FIGURES: dict[tuple[str, str, str | None], tuple[Published, ...]] = {
    ("mnist", "lenet5", None): (
        Published(0.9905, "LeNet-5 of 1998, without distortions", _LECUN),
        Published(0.9920, "LeNet-5 of 1998, with distortions", _LECUN),
    ),
    ("imagenet2012", "alexnet", "torchvision"): (
        Published(0.56522, "centre crop", "torchvision, AlexNet_Weights.IMAGENET1K_V1"),
    ),
    ("imagenet2012", "alexnet", "2012"): (
        Published(1 - 0.407, "one network, ten crops", "Krizhevsky, Sutskever, Hinton 2012, table 2"),
    ),
    ("imagenet2012", "alexnet", "caffenet"): (Published(0.574, "centre crop", "Caffe, bvlc_reference_caffenet"),),
    ("imagenet2012", "vgg", "D"): (
        Published(1 - 0.270, "single scale, S = 256", "Simonyan, Zisserman 2014 (arXiv 1409.1556), table 3"),
        Published(0.71592, "centre crop", "torchvision, VGG16_Weights.IMAGENET1K_V1"),
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
    chosen = {key: value for key, value in model.items() if key not in ("name", "variant")}
    usual = keyword_defaults(NETWORKS[model.name][model.variant])
    if any(value not in (None, usual.get(key)) for key, value in chosen.items()):
        return ()  # another network
    size = usual["image_size"]
    if section.image_size != size:
        return ()
    source = str(data["source"])
    named = source.removeprefix("tfds:").partition(":")[0] if source.startswith("tfds:") else None
    name = _FINGERPRINTS.get(data["fingerprint"], named)
    network = "vgg" if model.name.startswith("vgg") else model.name
    return _FIGURES.get((name or "", network, model.variant)) or _FIGURES.get((name or "", network, None)) or ()
