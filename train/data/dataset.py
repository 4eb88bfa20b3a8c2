"""From `dataset.source` to the three roles: train, validation, test."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.data import pixel_statistics
from train.data.examples import Examples
from train.data.photos import Photos
from train.data.resize import resize
from train.data.roles import Dataset, Origin, Read
from train.data.source import Source
from train.data.sources import read
from train.errors import UserError, nearest

# The share of images that test a network where the source has none set aside for it and the config does not say.
DEFAULT_TEST = 0.2


def load(config: ConfigDict) -> Dataset:
    """Read the source that the section `dataset` names, divide it, and complete the section with what the data says.

    Photos stay encoded where `stream` says so, or by default; otherwise images are brought to the size that the network
    sees.

    Where a source has train and val alone, val is the test and the checkpoint is chosen on a part of train. A source
    without either is divided for the test first.

    Args:
      config: the section `dataset`; classes, class_names, channels, mean, std, covariance, test and stream are set
        where they are not, and validation where the source has its own.

    Raises:
      UserError: the source is unknown, cannot be read, or contradicts the section.
    """
    if config.skip_bad_images and not config.source.startswith("folder:"):
        raise UserError(
            f"config.dataset.skip_bad_images=True: {config.source} is no folder of photos (folder:ROOT); leave it out"
        )
    return _divided(config, read(config.source, config))


def _divided(config: ConfigDict, source: Source) -> Dataset:
    """Do for a source that has been read what `load` says."""
    fingerprint = _fingerprint(source.splits)
    source = _of_classes(config, config.source, source)
    origins, test_split = _roles(config, source)
    if config.per_class is not None:
        origins["train"] = _some_of_each(origins["train"], config)
    streams = isinstance(origins["train"].images, Photos)
    if config.stream is None:
        config.stream = streams
    elif config.stream and not streams:
        raise UserError(
            f"config.dataset.stream=True: {config.source} holds pixels, and only photos that are files are streamed "
            "(config.augment.random_resized_crop needs it); leave both out"
        )
    sized = {role: _sized(origin.chosen(), config, config.source) for role, origin in origins.items()}
    _complete_pixels(config, sized["train"])
    for role, origin in origins.items():
        if not isinstance(origin.images, Photos):  # images of another size are wanted no more
            origins[role] = replace(origin, images=sized[role])
    return Dataset(
        sized["train"], sized.get("validation"), sized["test"], test_split, fingerprint, source.skipped, origins
    )


def _roles(config: ConfigDict, source: Source) -> tuple[dict[str, Origin], str]:
    """Return where the images of each role come from, and the source's own name for those of the test."""
    splits = source.splits
    _complete_classes(config, config.source, source)
    if not source.labels_fit and len(only := np.unique(splits["train"].labels)) == 1:
        raise UserError(
            f"{config.source}: all its training images have the label {only[0]}; it takes two classes, so add images "
            "of another"
        )

    origins = {split: _chosen(config, split, images) for split, images in splits.items()}
    test_split = "val" if "test" not in origins and "validation" in origins else "test"
    if test_split == "val":
        origins["test"] = origins.pop("validation")
    if "test" in origins:
        if config.test is not None:
            raise UserError(
                f"config.dataset.test={config.test:g}: {config.source} has test images of its own; leave it out"
            )
    else:
        if config.test is None:
            config.test = DEFAULT_TEST
        origins["train"], origins["test"] = _divide(origins["train"], config.test, config.split_seed, "test")
    if config.validation == 0:
        origins.pop("validation", None)
    elif "validation" in origins:
        config.validation = float(origins["validation"].total)  # the source's own, however many were asked for
    else:
        origins["train"], origins["validation"] = _divide(
            origins["train"], config.validation, config.split_seed, "validation"
        )
    return origins, test_split


class TestImages(NamedTuple):
    """What a trained network is tested on.

    Attributes:
      images: at the size that the network sees, or still encoded.
      split: which they are: "test", "val" or "all" of the source.
      skipped: files of the source that were left out, and why.
      ids: what each image is called.
    """

    images: Read
    split: str
    skipped: tuple[str, ...]
    ids: list[str]


def load_test(config: ConfigDict, uri: str, trained_on: str, *, sized: bool = True) -> TestImages:
    """Read examples to test a trained network on: the source's test, else its val, else all there is.

    Args:
      config: the completed section `dataset` of the run.
      uri: the source.
      trained_on: fingerprint of the run's data; where the source is the same data, the run's own test is returned, for
        the rest has been seen in training.
      sized: whether images come at the size that the network sees (or encoded); False: as the source has them.

    Raises:
      UserError: the source cannot be read, or its channels or labels are not those of the run.
    """
    source = read(uri, config)
    own = _fingerprint(source.splits) == trained_on
    source = _of_classes(config, uri, source if own else _numbered(config, source))
    if own:
        of_run = config.copy_and_resolve_references()
        of_run.source = uri
        origins, name = _roles(of_run, source)
        origin = origins["test"]
    else:
        splits = source.splits
        _complete_classes(config, uri, source)
        names = (("test", "test"), ("validation", "val"), ("train", "all"))
        role, name = next(pair for pair in names if pair[0] in splits)
        origin = _chosen(config, role, splits[role])
    images = origin.chosen()
    fitting = _sized(images, config, uri) if sized else _of_channels(images, config, uri)
    return TestImages(fitting, name, source.skipped, origin.ids())


def _of_channels(images: Read, config: ConfigDict, uri: str) -> Read:
    """Hold the channels of images to the config's."""
    if isinstance(images, Photos):
        return replace(images, channels=config.channels or images.channels)
    channels = images.images.shape[-1]
    if config.channels not in (None, channels):
        raise UserError(f"config.dataset.channels={config.channels}: the images of {uri} have {channels}; leave it out")
    return images


def _sized(images: Read, config: ConfigDict, uri: str) -> Read:
    """Bring images to the size that the network sees, or leave photos encoded; hold their channels to the config."""
    images = _of_channels(images, config, uri)
    if isinstance(images, Photos):
        if config.resize == "pad":
            raise UserError(
                f"config.dataset.resize=pad: {uri} holds photos of any size; choose nearest, bilinear or bicubic"
            )
        return images if config.stream else images.middles(config.image_size, config.resize, config.crop)
    return Examples(resize(images.images, config.image_size, config.resize, config.crop), images.labels)


def _fingerprint(splits: Mapping[str, Read]) -> str:
    digest = hashlib.sha256()
    for split, images in sorted(splits.items()):
        if isinstance(images, Photos):
            digest.update(f"{split} {images.records.fingerprint}".encode())
        else:
            digest.update(f"{split} {images.images.shape}".encode())
            digest.update(np.ascontiguousarray(images.images).data)
            digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()


def _divide(images: Origin, part: float, seed: int, role: str) -> tuple[Origin, Origin]:
    """Set a part aside, each class in proportion: a share below 1, or a count."""
    from sklearn.model_selection import train_test_split  # 1 s to import, not wanted by every source

    if len(lonely := np.flatnonzero(np.bincount(images.labels) == 1)):
        raise UserError(
            f"config.dataset.{role}={part:g}: class {lonely[0]} has a single image, which cannot be divided; "
            "add some, or bring the splits yourself (npz:PREFIX of _train.npz and _test.npz)"
        )
    amount = part if part < 1 else round(part)
    try:
        rest, aside = train_test_split(
            np.arange(images.total), test_size=amount, random_state=seed, stratify=images.labels
        )
    except ValueError as error:
        raise UserError(
            f"config.dataset.{role}={part:g}: cannot set that many of {images.total} images aside: "
            "of each class one must go and one stay; try another number"
        ) from error
    if len(gone := np.setdiff1d(images.labels, images.labels[rest])):
        raise UserError(
            f"config.dataset.{role}={part:g}: no image of class {gone[0]} is left to train on; set fewer aside"
        )
    return images.take(np.sort(rest)), images.take(np.sort(aside))


def _of_classes(config: ConfigDict, uri: str, source: Source) -> Source:
    """Number the classes of `only_classes` in their order there; images of others get the label -1."""
    only = config.only_classes
    if only is None or source.class_names == only:
        return source
    if source.class_names is None:
        raise UserError(f"config.dataset.only_classes={_shortly(only)}: {uri} has no names of classes; leave it out")
    for name in only:
        if name not in source.class_names:
            raise UserError(
                f"config.dataset.only_classes: {uri} has no class {name!r}{nearest(name, source.class_names)}; "
                f"it has {_shortly(source.class_names)}"
            )
    largest = max(len(source.class_names), *(int(images.labels.max()) + 1 for images in source.splits.values()))
    new_label = np.full(largest, -1, np.int32)
    new_label[[source.class_names.index(name) for name in only]] = np.arange(len(only))
    splits = {name: images.relabelled(new_label) for name, images in source.splits.items()}
    return source._replace(splits=splits, class_names=only, labels_fit=True)


def _numbered(config: ConfigDict, source: Source) -> Source:
    """Number the classes of a source as in the config, where all of them are there: by name, or by their number."""
    classes = config.classes
    for known in (config.class_names, config.class_ids, tuple(map(str, range(classes)))):
        names = source.class_names
        if known and names and names != known and set(names) <= set(known):
            new_label = np.array([known.index(name) for name in names], np.int32)
            splits = {split: images.relabelled(new_label) for split, images in source.splits.items()}
            return source._replace(splits=splits, class_names=config.class_names)
    return source


def _chosen(config: ConfigDict, split: str, images: Read) -> Origin:
    """Return the images of a split that are of the classes wanted."""
    every = Origin.all_of(split, images)
    return every if config.only_classes is None else every.take(np.flatnonzero(images.labels >= 0))


def _some_of_each(images: Origin, config: ConfigDict) -> Origin:
    """Keep `per_class` images of each class, drawn by the split's seed."""
    order = np.random.default_rng(config.split_seed).permutation(images.total)
    labels = images.labels[order]
    kept = []
    for label in np.unique(labels):
        of_class = order[labels == label]
        if len(of_class) < config.per_class:
            raise UserError(
                f"config.dataset.per_class={config.per_class}: of class {label} there are {len(of_class)} images "
                "to train on; choose at most as many"
            )
        kept.append(of_class[: config.per_class])
    return images.take(np.sort(np.concatenate(kept)))


def _complete_classes(config: ConfigDict, uri: str, source: Source) -> None:
    """Set class_names and classes, and hold every label against them."""
    class_names = source.class_names
    if class_names is not None:
        if config.class_names is not None and class_names not in (config.class_names, config.class_ids):
            raise UserError(
                f"{uri}: its classes are {_shortly(class_names)}; those of config.dataset.class_names "
                f"are {_shortly(config.class_names)}; leave that key out, or name the data it belongs to"
            )
        if class_names != config.class_ids:
            config.class_names = class_names
    if config.class_names is not None:
        if config.classes not in (None, len(config.class_names)):
            raise UserError(
                f"config.dataset.classes={config.classes}: there are {len(config.class_names)} class names; leave it "
                "out"
            )
        config.classes = len(config.class_names)
    elif config.classes is None:
        config.classes = max(2, int(source.splits["train"].labels.max()) + 1)
    for split, images in source.splits.items() if not source.labels_fit else ():
        outside = np.flatnonzero((images.labels < 0) | (images.labels >= config.classes))
        if len(outside):
            raise UserError(
                f"{uri}: label {images.labels[outside[0]]} of {split} image {outside[0]} is outside "
                f"the classes 0 to {config.classes - 1} ({len(outside)} such labels); mend them, "
                "or set a larger config.dataset.classes"
            )


def _shortly(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _complete_pixels(config: ConfigDict, images: Read) -> None:
    """Set channels, and mean, std and covariance by channel, from the images, where they are not set."""
    config.channels = channels = images.channels if isinstance(images, Photos) else images.images.shape[-1]
    for name in ("mean", "std"):
        if config[name] is not None and len(config[name]) != channels:
            raise UserError(
                f"config.dataset.{name}={config[name]}: the images have {channels} channels; give a number for each"
            )
    if config.covariance is not None and len(config.covariance) != channels**2:
        raise UserError(f"config.dataset.covariance={config.covariance}: takes {channels**2} numbers, row by row")
    if None in (config.mean, config.std, config.covariance):
        measured = pixel_statistics.measure(images, config.image_size, config.resize, config.crop)
        for name, values in measured.items():
            if config[name] is None:
                config[name] = values
