"""From `dataset.source` to the three roles: train, validation, test."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from train.data import idx, npz
from train.data.examples import Examples
from train.data.resize import resize
from train.errors import UserError, nearest

# What a source yields: examples by split ("train", perhaps "validation" and "test"), and class names if it knows them.
Source = tuple[dict[str, Examples], tuple[str, ...] | None]

# The share of images that test a network where the source has none set aside for it and the config does not say.
DEFAULT_TEST = 0.2


@dataclass(frozen=True)
class Dataset:
    """Examples by role, at the size that the network sees.

    Attributes:
      train: what the network learns from.
      validation: what chooses the checkpoint; None where the config says so.
      test: what the result is measured on, once.
      test_split: the source's own name for it: "test", or "val" where a source has train and val alone.
      fingerprint: SHA-256 of the source's images and labels, whatever their path.
    """

    train: Examples
    validation: Examples | None
    test: Examples
    test_split: str
    fingerprint: str


def _read_digits(path: str) -> Source:
    if path:
        raise UserError(f"config.dataset.source=digits:{path}: digits is embedded and takes nothing after the name")
    from sklearn.datasets import load_digits  # 1 s to import, wanted here alone

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # 17 levels of gray
    return {"train": Examples(images, digits.target.astype(np.int32))}, tuple(map(str, digits.target_names))


SOURCES: Mapping[str, Callable[[str], Source]] = {
    "digits": _read_digits,
    "idx": lambda path: (idx.read_folder(Path(path).expanduser()), None),
    "npz": lambda path: npz.read(Path(path).expanduser()),
}


def read(uri: str) -> Source:
    """Read what a `dataset.source` names.

    Raises:
      UserError: the source is unknown or cannot be read.
    """
    kind, _, path = uri.partition(":")
    if kind not in SOURCES:
        raise UserError(
            f"config.dataset.source={uri}: must start with one of {', '.join(SOURCES)}{nearest(kind, SOURCES)}"
        )
    splits, class_names = SOURCES[kind](path)
    for split, examples in splits.items():
        if not len(examples.labels):
            raise UserError(f"{uri}: its {split} split holds no image")
    return splits, class_names


def load(config: ConfigDict) -> Dataset:
    """Read the source that the section `dataset` names, divide it, and complete the section with what the data says.

    Where a source has train and val alone, val is the test and the checkpoint is chosen on a part of train. A source
    without either is divided for the test first.

    Args:
      config: the section `dataset`; classes, class_names, channels, mean, std and test are set where
        they are not, and validation where the source has its own.

    Raises:
      UserError: the source is unknown, cannot be read, or contradicts the section.
    """
    splits, class_names = read(config.source)
    fingerprint = _fingerprint(splits)
    if len(only := np.unique(splits["train"].labels)) == 1:
        raise UserError(f"{config.source}: all its training images have the label {only[0]}; it takes two classes")
    _complete_classes(config, config.source, splits, class_names)

    test_split = "val" if "test" not in splits and "validation" in splits else "test"
    if test_split == "val":
        splits["test"] = splits.pop("validation")
    if "test" in splits:
        if config.test is not None:
            raise UserError(f"config.dataset.test={config.test:g}: {config.source} has test images of its own")
    else:
        if config.test is None:
            config.test = DEFAULT_TEST
        splits["train"], splits["test"] = _divide(splits["train"], config.test, config.split_seed, "test")
    if config.validation == 0:
        splits.pop("validation", None)
    elif "validation" in splits:
        config.validation = float(len(splits["validation"].labels))  # the source's own, however many were asked for
    else:
        splits["train"], splits["validation"] = _divide(
            splits["train"], config.validation, config.split_seed, "validation"
        )
    sized = {
        role: Examples(resize(examples.images, config.image_size, config.resize), examples.labels)
        for role, examples in splits.items()
    }
    _complete_pixels(config, config.source, sized["train"].images)
    return Dataset(sized["train"], sized.get("validation"), sized["test"], test_split, fingerprint)


def load_test(config: ConfigDict, uri: str, trained_on: str) -> tuple[Examples, str]:
    """Read examples to test a trained network on: the source's test, else its val, else all there is.

    Args:
      config: the completed section `dataset` of the run.
      uri: the source.
      trained_on: fingerprint of the run's data; where the source is the same data, the run's own test is returned, for
        the rest has been seen in training.

    Returns:
      The examples, and which they are: "test", "val" or "all".

    Raises:
      UserError: the source cannot be read, or its channels or labels are not those of the run.
    """
    splits, class_names = read(uri)
    if _fingerprint(splits) == trained_on:
        own = config.copy_and_resolve_references()
        own.source = uri
        data = load(own)
        return data.test, data.test_split
    _complete_classes(config, uri, splits, class_names)
    role, name = next(pair for pair in (("test", "test"), ("validation", "val"), ("train", "all")) if pair[0] in splits)
    examples = splits[role]
    _complete_pixels(config, uri, examples.images)
    return Examples(resize(examples.images, config.image_size, config.resize), examples.labels), name


def _fingerprint(splits: Mapping[str, Examples]) -> str:
    digest = hashlib.sha256()
    for split, examples in sorted(splits.items()):
        digest.update(f"{split} {examples.images.shape}".encode())
        digest.update(np.ascontiguousarray(examples.images).data)
        digest.update(np.ascontiguousarray(examples.labels).data)
    return digest.hexdigest()


def _divide(examples: Examples, part: float, seed: int, role: str) -> tuple[Examples, Examples]:
    """Set a part aside, each class in proportion: a share below 1, or a count."""
    from sklearn.model_selection import train_test_split  # 1 s to import, not wanted by every source

    if len(lonely := np.flatnonzero(np.bincount(examples.labels) == 1)):
        raise UserError(
            f"config.dataset.{role}={part:g}: class {lonely[0]} has a single image, which cannot be divided; "
            "add some, or bring the splits yourself (npz:PREFIX of _train.npz and _test.npz)"
        )
    amount = part if part < 1 else round(part)
    try:
        rest, aside = train_test_split(
            np.arange(len(examples.labels)), test_size=amount, random_state=seed, stratify=examples.labels
        )
    except ValueError as error:
        raise UserError(
            f"config.dataset.{role}={part:g}: cannot set that many of {len(examples.labels)} images aside: "
            "of each class one must go and one stay"
        ) from error
    return examples.take(np.sort(rest)), examples.take(np.sort(aside))


def _complete_classes(
    config: ConfigDict, uri: str, splits: Mapping[str, Examples], class_names: tuple[str, ...] | None
) -> None:
    """Set class_names and classes, and hold every label against them."""
    if class_names is not None:
        if config.class_names is not None and config.class_names != class_names:
            raise UserError(
                f"{uri}: its classes are {_shortly(class_names)}; those of config.dataset.class_names "
                f"are {_shortly(config.class_names)}"
            )
        config.class_names = class_names
    if config.class_names is not None:
        if config.classes not in (None, len(config.class_names)):
            raise UserError(f"config.dataset.classes={config.classes}: there are {len(config.class_names)} class names")
        config.classes = len(config.class_names)
    elif config.classes is None:
        config.classes = max(2, int(splits["train"].labels.max()) + 1)
    for split, examples in splits.items():
        outside = np.flatnonzero((examples.labels < 0) | (examples.labels >= config.classes))
        if len(outside):
            raise UserError(
                f"{uri}: label {examples.labels[outside[0]]} of {split} image {outside[0]} is outside "
                f"the classes 0 to {config.classes - 1} ({len(outside)} such labels)"
            )


def _shortly(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _complete_pixels(config: ConfigDict, uri: str, images: np.ndarray) -> None:
    """Set channels, and mean and std by channel, from the images, where they are not set."""
    channels = images.shape[-1]
    if config.channels not in (None, channels):
        raise UserError(f"config.dataset.channels={config.channels}: the images of {uri} have {channels}")
    config.channels = channels
    for name in ("mean", "std"):
        if config[name] is not None and len(config[name]) != channels:
            raise UserError(f"config.dataset.{name}={config[name]}: the images have {channels} channels")
    if config.mean is not None and config.std is not None:
        return
    # Counting gray levels is exact in integers, so the figures are the same bits on every machine.
    levels, counts = np.arange(256), np.zeros((channels, 256), np.int64)
    for image in images:  # one by one, for bincount takes eight bytes a pixel
        for channel in range(channels):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    total = counts.sum(axis=1)
    mean = (counts * levels).sum(axis=1) / total
    variance = (counts * levels**2).sum(axis=1) / total - mean**2
    if config.mean is None:
        config.mean = tuple((mean / 255).tolist())
    if config.std is None:
        # A channel that never varies is centred and left alone.
        config.std = tuple((np.where(variance > 0, np.sqrt(variance), 255) / 255).tolist())
