"""What a config must satisfy beyond the types that configs/base.py gives, and how it is completed, stored and compared.

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
from models.layers import ACTIVATIONS, INITS
from models.lenet5 import POOLINGS
from train.data.activations import STORED_TYPES
from train.data.resize import RESIZES
from train.errors import UserError, nearest
from train.optimizer import OPTIMIZERS, SCHEDULES

# Says what is wrong with a value, or nothing.
Rule = Callable[[Any], str | None]


def one_of(*choices: str) -> Rule:
    """The value is one of the choices."""
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}{nearest(value, choices)}"


def between(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """The value is finite and within the bounds; `above` and `below` leave the bounds themselves out."""
    words = f"must be {'above' if above else 'at least'} {low:g}" if low > -math.inf else "must be finite"
    if high < math.inf:
        words += f" and {'below' if below else 'at most'} {high:,.10g}"

    def rule(value: float) -> str | None:
        if not math.isfinite(value):
            return "must be finite"
        fits_low = value > low if above else value >= low
        fits_high = value < high if below else value <= high
        return None if fits_low and fits_high else words

    return rule


def every(rule: Rule, *kinds: type) -> Rule:
    """Each item of a tuple is of one of the kinds and satisfies the rule."""

    def check(values: tuple[Any, ...]) -> str | None:
        if not all(type(value) in kinds for value in values):
            return f"must hold {' or '.join(kind.__name__ for kind in kinds)}"
        return next((f"each {wrong}" for value in values if (wrong := rule(value))), None)

    return check


def _different_names(names: tuple[Any, ...]) -> str | None:
    if len(names) < 2 or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return "must hold two or more different names"
    return None


RULES: Mapping[str, Rule] = {
    "seed": between(0, 2**32 - 1),  # a larger one would be another seed to jax
    "precision": one_of("float32", "bfloat16"),
    "model.name": one_of(*NETWORKS),
    "model.activation": one_of(*ACTIVATIONS),
    "model.pooling": one_of(*POOLINGS),
    "model.widths": every(between(1), int),
    "model.kernels": every(between(1), int),
    "model.padding": every(between(0), int),
    "model.pools": every(between(1), int),
    "model.hidden": every(between(1), int),
    "model.init": one_of(*INITS),
    "model.dropout": between(0, 1, below=True),
    "dataset.image_size": between(1),
    "dataset.resize": one_of(*RESIZES),
    "dataset.validation": between(0),
    "dataset.test": between(0, above=True),
    "dataset.permutation": between(0, 2**32 - 1),
    "dataset.only_classes": _different_names,
    "dataset.per_class": between(1),
    "dataset.split_seed": between(0, 2**32 - 1),
    "dataset.crop": between(0, 1, above=True),
    "dataset.workers": between(0),
    "dataset.classes": between(2),
    "dataset.channels": lambda value: None if value in (1, 3) else "must be 1 (gray) or 3 (RGB)",
    "dataset.channel_order": one_of("RGB", "BGR"),
    "dataset.class_names": every(lambda name: None, str),
    "dataset.class_ids": every(lambda name: None, str),
    "dataset.mean": every(between(-math.inf), float, int),
    "dataset.std": every(between(0, above=True), float, int),
    "dataset.covariance": every(between(-math.inf), float, int),
    "augment.shift": between(0),
    "augment.rotate": between(0, 180),
    "augment.scale": between(0, 1, below=True),
    "augment.shear": between(0, 1),
    "augment.pad_and_crop": between(0),
    "augment.random_resized_crop": between(0, 1),
    "augment.color_noise": between(0),
    "optimizer.name": one_of(*OPTIMIZERS),
    "optimizer.momentum": between(0, 1, below=True),
    "optimizer.b1": between(0, 1, below=True),
    "optimizer.b2": between(0, 1, below=True),
    "optimizer.weight_decay": between(0),
    "optimizer.clip_norm": between(0),
    "schedule.name": one_of(*SCHEDULES),
    "schedule.learning_rate": between(0, above=True),
    "schedule.warmup_epochs": between(0),
    "schedule.milestones": every(between(0, above=True), float, int),
    "schedule.factor": between(0, above=True),
    "train.epochs": between(0, above=True),
    "train.batch_size": between(1),
    "train.accumulate": between(1),
    "train.label_smoothing": between(0, 1, below=True),
    "train.ema": between(0, 1, below=True),
    "transfer.mode": one_of("scratch", "finetune", "frozen", "stored"),
    "transfer.layer_decay": between(0, 1, above=True),
    "transfer.dtype": one_of(*STORED_TYPES),
    "transfer.views": between(0),
    "mesh.data": between(1),
    "checkpoint.keep": between(1),
    "checkpoint.every_steps": between(0),
    "evaluate.batch_size": between(1),
    "evaluate.every_epochs": between(0, above=True),
    "log.every_steps": between(1),
}


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
            f"config.transfer.net_a={config.transfer.net_a}: {config.model.name} does not begin with VGG's A"
        )
    if config.augment.random_resized_crop:
        if config.dataset.stream is False:
            raise UserError(
                f"config.augment.random_resized_crop={config.augment.random_resized_crop:g}: crops are cut out of "
                "photos as they are decoded; it needs config.dataset.stream=True"
            )
        config.dataset.stream = True
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
            f"not {transfer.mode}"
        )
    if transfer.mode == "frozen":
        _refuse(config, ("store",), "stores nothing")
    if transfer.mode != "scratch":
        _refuse(config, ("net_a",), "starts with config.transfer.weights")
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
                f"config.transfer.{key}={config.transfer[key]}: config.transfer.mode={config.transfer.mode} {why}"
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


def from_json(text: str) -> ConfigDict:
    """Return the locked config that `to_json` wrote.

    Raises:
      ValueError: the text is not a JSON object, or lacks keys that this version reads.
    """

    def with_tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_tuples(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    if missing := RULES.keys() - dict(leaves(values)).keys():
        raise ValueError(f"made by another version of oldmasters: it lacks {', '.join(sorted(missing))}")
    return ConfigDict(with_tuples(values)).lock()


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
)
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
