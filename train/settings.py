"""What keys of a config must satisfy together, and how it is completed, stored and compared; rules.py: each by itself.

A config is resolved before any data is read: every value is checked, and what the network, the optimizer and the
schedule have defaults for gets them. What the data knows, `dataset.load` fills in. So the run folder's config.json says
what was done, even where later versions have other defaults.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from models import NETWORKS, full_name
from train import json_file
from train.errors import UserError
from train.optimizer import OPTIMIZERS, SCHEDULES
from train.rules import OPTIONAL, RULES


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every leaf, in alphabetical order."""
    for key in sorted(config):
        value = config[key]
        if isinstance(value, Mapping | ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def resolve(config: ConfigDict) -> None:
    """Check every value that is set, and those that depend on each other; give options their defaults, in place.

    Raises:
      UserError: names the key, the value and what it must be.
    """
    for key, value in leaves(config):
        if value is not None and key in RULES and (wrong := RULES[key](value)):
            raise UserError(f"config.{key}={value}: {wrong}")
    variants = NETWORKS[config.model.name]
    if config.model.variant is None:
        config.model.variant = next(iter(variants))
    elif config.model.variant not in variants:
        raise UserError(f"config.model.variant={config.model.variant}: {no_variant(config.model.name)}")
    networks = {(name, variant): make for name, forms in NETWORKS.items() for variant, make in forms.items()}
    if config.dataset.image_size is None:
        make = variants[config.model.variant]
        config.dataset.image_size = keyword_defaults(make)["image_size"]
    _fill(config.model, networks, (config.model.name, config.model.variant), "model")
    _fill(config.optimizer, OPTIMIZERS, config.optimizer.name, "optimizer")
    _fill(config.schedule, SCHEDULES, config.schedule.name, "schedule")
    if config.train.batch_size % config.train.accumulate:
        raise UserError(
            f"config.train.accumulate={config.train.accumulate}: "
            f"must divide config.train.batch_size={config.train.batch_size}"
        )
    if config.schedule.name != "constant" and config.schedule.warmup_epochs >= config.train.epochs:
        raise UserError(
            f"config.schedule.warmup_epochs={config.schedule.warmup_epochs:g}: "
            f"must be below config.train.epochs={config.train.epochs:g}; "
            f"try --config.schedule.warmup_epochs={config.train.epochs / 5:g}"
        )
    if config.schedule.name == "step" and not config.schedule.milestones:
        raise UserError(
            "config.schedule.name=step: needs config.schedule.milestones, the epochs at which the rate falls"
        )
    _resolve_transfer(config)
    if config.transfer.net_a and not config.model.name.startswith("vgg"):
        raise UserError(
            f"config.transfer.net_a={config.transfer.net_a}: {config.model.name} does not begin with VGG's A; "
            "leave it out"
        )
    _resolve_crops(config)
    if config.dataset.resize == "pad" and config.dataset.crop != 1:
        raise UserError(
            f"config.dataset.crop={config.dataset.crop:g}: config.dataset.resize=pad keeps all of an image; "
            "choose bilinear, or a crop of 1"
        )
    for key in ("shift", "pad_and_crop"):
        if config.augment[key] >= config.dataset.image_size:
            raise UserError(
                f"config.augment.{key}={config.augment[key]}: "
                f"must be below config.dataset.image_size={config.dataset.image_size}"
            )


def _resolve_crops(config: ConfigDict) -> None:
    """What is cut out of photos as they are decoded needs a stream of them."""
    augment, dataset = config.augment, config.dataset
    if augment.random_resized_crop and augment.scale_jitter:
        raise UserError(
            f"config.augment.scale_jitter={augment.scale_jitter}: config.augment.random_resized_crop="
            f"{augment.random_resized_crop:g} draws the size of a crop too; choose one"
        )
    if augment.scale_jitter and augment.scale_jitter[0] < dataset.image_size:
        raise UserError(
            f"config.augment.scale_jitter={augment.scale_jitter}: a crop of config.dataset.image_size="
            f"{dataset.image_size} pixels does not fit into the least of them; choose larger ones"
        )
    for key in ("random_resized_crop", "scale_jitter"):
        if augment[key]:
            if dataset.stream is False:
                raise UserError(
                    f"config.augment.{key}={augment[key]}: crops are cut out of photos as they are decoded; "
                    "it needs config.dataset.stream=True"
                )
            dataset.stream = True


def _resolve_transfer(config: ConfigDict) -> None:
    transfer = config.transfer
    if transfer.mode is None:
        transfer.mode = "stored" if transfer.weights else "scratch"
    if transfer.mode == "scratch":
        _refuse(config, ("weights", "frozen_until", "store"), "starts with random weights, all of which learn")
    elif not transfer.weights:
        raise UserError(
            f"config.transfer.mode={transfer.mode}: needs config.transfer.weights, a run folder or a weights file"
        )
    if transfer.mode == "finetune":
        _refuse(config, ("frozen_until", "store"), "lets all layers learn")
    elif transfer.layer_decay != 1:
        raise UserError(
            f"config.transfer.layer_decay={transfer.layer_decay:g}: is for config.transfer.mode=finetune, "
            f"not {transfer.mode}; leave it out"
        )
    if transfer.mode == "frozen":
        _refuse(config, ("store",), "stores nothing")
    if transfer.mode != "scratch":
        _refuse(config, ("net_a",), "starts with config.transfer.weights")
    if transfer.mode == "stored":
        for key in ("mixup", "cutmix"):
            if config.augment[key]:
                raise UserError(
                    f"config.augment.{key}={config.augment[key]:g}: config.transfer.mode=stored mixes no images; set 0"
                )
    if transfer.mode == "stored" and not transfer.views:
        for key, value in leaves(config.augment):
            if value:
                raise UserError(
                    f"config.augment.{key}={value}: stored activations are of middle crops; set config.transfer.views, "
                    "how many augmented views of each image are stored, or config.transfer.mode=frozen"
                )


def _refuse(config: ConfigDict, keys: tuple[str, ...], why: str) -> None:
    for key in keys:
        if config.transfer[key] is not None:
            raise UserError(
                f"config.transfer.{key}={config.transfer[key]}: config.transfer.mode={config.transfer.mode} {why}; "
                "leave it out"
            )


def no_variant(name: str) -> str:
    """Say which variants a network has."""
    variants = [variant for variant in NETWORKS[name] if variant]
    return f"{name} has the variants {', '.join(variants)}" if variants else f"{name} has no variants"


def keyword_defaults(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword parameters of a function, a class, or either with some of them set, and their defaults."""
    if isinstance(make, functools.partial):
        return keyword_defaults(make.func) | make.keywords
    return (make.__init__ if inspect.isclass(make) else make).__kwdefaults__ or {}


def _fill(section: ConfigDict, table: Mapping[Any, Callable[..., Any]], chosen: Any, path: str) -> None:
    """Give the options of what is chosen their defaults; refuse an option that only another choice takes.

    The options are the parameters with defaults of the table's functions and classes that are keys of the section.
    """
    options = {
        choice: {
            name: default for name, default in keyword_defaults(make).items() if name in section and name != "variant"
        }
        for choice, make in table.items()
    }
    accepted = options[chosen]
    for key in sorted(set().union(*options.values())):
        if key in accepted and section[key] is None:
            section[key] = accepted[key]
        elif key not in accepted and section[key] is not None:
            label = full_name(*chosen) if isinstance(chosen, tuple) else chosen
            takes = ", ".join(sorted(accepted)) or "no options"
            raise UserError(f"config.{path}.{key}={section[key]}: {label} does not take it (it takes {takes})")


def to_json(config: ConfigDict) -> str:
    """Return the config as JSON text; tuples become lists."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str | bytes) -> ConfigDict:
    """Return the locked config that `to_json` wrote.

    Raises:
      ValueError: the text is not a JSON object, its keys are not those that this version reads, or a value is of
        another kind or out of its bounds.
    """
    values = json_file.parsed(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    try:
        found = {key: tuple(value) if isinstance(value, list) else value for key, value in leaves(values)}
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if missing := RULES.keys() - found.keys():
        raise ValueError(f"made by another version of oldmasters: it lacks {', '.join(sorted(missing))}")
    if unknown := found.keys() - RULES.keys():
        raise ValueError(f"made by another version of oldmasters: it has {', '.join(sorted(unknown))}"[:500])
    for key, rule in RULES.items():
        value = found[key]
        wrong = rule(value) if value is not None else "has no value" if key not in OPTIONAL else None
        if wrong:
            raise ValueError(f"{key}: {str(value)[:100]}: {wrong}")
    whole: dict[str, Any] = {}
    for key, value in found.items():
        section, _, name = key.rpartition(".")
        (whole.setdefault(section, {}) if section else whole)[name] = value
    return ConfigDict(whole).lock()


def check_complete(config: ConfigDict) -> None:
    """Make sure that a config that has been stored is one that could have come of a launch.

    Raises:
      UserError: names the key.
    """
    dataset = config.dataset
    for key in ("image_size", "classes", "channels", "mean", "std"):
        if dataset[key] is None:
            raise UserError(f"config.dataset.{key}: has no value; the command that trains writes it")
    for key in ("mean", "std"):
        if len(dataset[key]) != dataset.channels:
            raise UserError(f"config.dataset.{key}: must be a number for each of {dataset.channels} channels")
    for key in ("class_names", "class_ids"):
        if dataset[key] is not None and len(dataset[key]) != dataset.classes:
            raise UserError(
                f"config.dataset.{key}: has {len(dataset[key]):,} names for {dataset.classes:,} classes; give one each"
            )
    resolve(config.copy_and_resolve_references())


def class_names(dataset: ConfigDict) -> tuple[str, ...]:
    """Return what the classes of a completed section `dataset` are called: their numbers where they have no names."""
    return tuple(dataset.class_names or map(str, range(dataset.classes)))


# What may change between two launches of the same run: where it computes, what it prints, what it keeps, who decodes,
# and where the data lies (the fingerprint of the data's content is compared instead).
NOT_IDENTITY = (
    "mesh.",
    "log.",
    "checkpoint.",
    "dataset.source",
    "dataset.data_dir",
    "dataset.workers",
    "transfer.store",
    "evaluate.report",
    "evaluate.protocol",
    "evaluate.scales",
)
# Of these, the hosts that share a run may each have their own.
OF_HOST = ("dataset.source", "dataset.data_dir", "dataset.workers", "transfer.weights", "transfer.net_a")
# Where the weights lie that a run has begun with may change, too; not whether it has.
ONE_OR_NONE = ("transfer.net_a", "transfer.weights")
# Schedules whose rate at a step does not depend on how many steps there will be: such a run may be made longer.
EXTENSIBLE_SCHEDULES = ("constant", "step")


def differences(there: ConfigDict, here: ConfigDict) -> list[str]:
    """Say which keys of a run's identity differ, `key: THERE there, HERE here`."""
    old, new = dict(leaves(there)), dict(leaves(here))
    extended = here.schedule.name in EXTENSIBLE_SCHEDULES and here.train.epochs > old.get("train.epochs", math.inf)
    return [
        f"{key}: {old.get(key)} there, {new.get(key)} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and not key.startswith(NOT_IDENTITY)
        and not (key == "train.epochs" and extended)
        and not (key in ONE_OR_NONE and old.get(key) and new.get(key))
    ]
