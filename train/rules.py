"""What each key of a config must be, by itself."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from models import NETWORKS
from models.layers import ACTIVATIONS, INITS
from models.lenet5 import POOLINGS
from train.data.activations import STORED_TYPES
from train.data.resize import RESIZES
from train.errors import nearest
from train.optimizer import OPTIMIZERS, SCHEDULES
from train.protocols.looks import LARGEST, PROTOCOLS

# Says what is wrong with a value, of whatever kind, or nothing.
Rule = Callable[[Any], str | None]
_LARGEST = 2.0**1023
_LAYERS = 100  # of one kind, that a network may have


def one_of(*choices: str) -> Rule:
    """The value is one of the choices."""
    return lambda value: (
        None if value in choices else f"must be one of {', '.join(choices)}{nearest(str(value), choices)}"
    )


def between(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False, whole: bool = False
) -> Rule:
    """The value is a finite number within the bounds; `above` and `below` leave the bounds themselves out."""
    words = f"must be {'above' if above else 'at least'} {low:g}" if low > -math.inf else "must be finite"
    if high < math.inf:
        words += f" and {'below' if below else 'at most'} {high:,.10g}"

    def rule(value: Any) -> str | None:
        if type(value) not in ((int,) if whole else (int, float)):
            return "must be a whole number" if whole else "must be a number"
        if not abs(value) < _LARGEST:  # infinite, no number, or a whole number that no float holds
            return "must be finite"
        fits_low = value > low if above else value >= low
        fits_high = value < high if below else value <= high
        return None if fits_low and fits_high else words

    return rule


def every(rule: Rule, *kinds: type, most: int = 2**20) -> Rule:
    """Each item of a tuple is of one of the kinds and satisfies the rule, and there are at most so many."""

    def check(values: Any) -> str | None:
        if not isinstance(values, tuple) or not all(type(value) in kinds for value in values):
            return f"must hold {' or '.join(kind.__name__ for kind in kinds)}"
        if len(values) > most:
            return f"must hold at most {most:,}"
        return next((f"each {wrong}" for value in values if (wrong := rule(value))), None)

    return check


def text(value: Any) -> str | None:
    """The value is a text."""
    return None if isinstance(value, str) and "\0" not in value else "must be a text"


def switch(value: Any) -> str | None:
    """The value is true or false."""
    return None if isinstance(value, bool) else "must be True or False"


def _different_names(names: Any) -> str | None:
    if (
        not isinstance(names, tuple)
        or len(names) < 2
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        return "must hold two or more different names"
    return None


def _range_of_pixels(values: Any) -> str | None:
    if values == ():
        return None
    if (
        not isinstance(values, tuple)
        or len(values) != 2
        or not all(type(value) is int for value in values)
        or not 1 <= values[0] <= values[1] <= LARGEST
    ):
        return f"must be empty or hold two whole numbers of pixels, the least and the most, of {LARGEST:,} at most"
    return None


RULES: Mapping[str, Rule] = {
    "seed": between(0, 2**32 - 1, whole=True),  # a larger one would be another seed to jax
    "precision": one_of("float32", "bfloat16"),
    "model.name": one_of(*NETWORKS),
    "model.variant": text,
    "model.activation": one_of(*ACTIVATIONS),
    "model.pooling": one_of(*POOLINGS),
    "model.widths": every(between(1, 2**24), int, most=_LAYERS),
    "model.kernels": every(between(1, 2**24), int, most=_LAYERS),
    "model.padding": every(between(0, 2**14), int, most=_LAYERS),
    "model.pools": every(between(1, 2**24), int, most=_LAYERS),
    "model.hidden": every(between(1, 2**24), int, most=_LAYERS),
    "model.init": one_of(*INITS),
    "model.dropout": between(0, 1, below=True),
    "model.batch_norm": switch,
    "dataset.source": text,
    "dataset.data_dir": text,
    "dataset.skip_bad_images": switch,
    "dataset.stream": switch,
    "dataset.image_size": between(1, LARGEST, whole=True),
    "dataset.resize": one_of(*RESIZES),
    "dataset.validation": between(0),
    "dataset.test": between(0, above=True),
    "dataset.permutation": between(0, 2**32 - 1, whole=True),
    "dataset.only_classes": _different_names,
    "dataset.per_class": between(1, whole=True),
    "dataset.split_seed": between(0, 2**32 - 1, whole=True),
    "dataset.crop": between(0.001, 1),
    "dataset.workers": between(0, whole=True),
    "dataset.classes": between(2, 2**24, whole=True),
    "dataset.channels": lambda value: None if type(value) is int and value in (1, 3) else "must be 1 (gray) or 3 (RGB)",
    "dataset.channel_order": one_of("RGB", "BGR"),
    "dataset.class_names": every(text, str),
    "dataset.class_ids": every(text, str),
    "dataset.mean": every(between(-math.inf), float, int),
    "dataset.std": every(between(0, above=True), float, int),
    "dataset.covariance": every(between(-math.inf), float, int),
    "augment.shift": between(0, whole=True),
    "augment.rotate": between(0, 180),
    "augment.scale": between(0, 1, below=True),
    "augment.shear": between(0, 1),
    "augment.pad_and_crop": between(0, whole=True),
    "augment.flip": switch,
    "augment.trivial_augment": switch,
    "augment.random_resized_crop": between(0, 1),
    "augment.color_noise": between(0),
    "augment.mixup": between(0),
    "augment.cutmix": between(0),
    "augment.scale_jitter": _range_of_pixels,
    "optimizer.name": one_of(*OPTIMIZERS),
    "optimizer.momentum": between(0, 1, below=True),
    "optimizer.nesterov": switch,
    "optimizer.decay_all": switch,
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
    "train.batch_size": between(1, whole=True),
    "train.accumulate": between(1, whole=True),
    "train.label_smoothing": between(0, 1, below=True),
    "train.ema": between(0, 1, below=True),
    "transfer.mode": one_of("scratch", "finetune", "frozen", "stored"),
    "transfer.weights": text,
    "transfer.frozen_until": text,
    "transfer.store": text,
    "transfer.net_a": text,
    "transfer.layer_decay": between(0, 1, above=True),
    "transfer.dtype": one_of(*STORED_TYPES),
    "transfer.views": between(0, whole=True),
    "mesh.data": between(1, whole=True),
    "mesh.model": between(1, whole=True),
    "checkpoint.keep": between(1, whole=True),
    "checkpoint.every_steps": between(0, whole=True),
    "evaluate.batch_size": between(1, whole=True),
    "evaluate.every_epochs": between(1e-6),
    "evaluate.protocol": one_of(*PROTOCOLS),
    "evaluate.scales": every(between(1, LARGEST), int),
    "evaluate.report": switch,
    "log.every_steps": between(1, whole=True),
    "log.tensorboard": switch,
}

# Keys that may have no value: what is chosen does not take them, the data does not have them, or nobody wants them.
OPTIONAL = frozenset(
    f"{section}.{name}"
    for section, names in {
        "model": "variant activation pooling widths kernels padding pools hidden dropout batch_norm init",
        "dataset": "data_dir stream image_size test permutation only_classes per_class classes class_names class_ids "
        "channels mean std covariance",
        "optimizer": "momentum nesterov b1 b2",
        "schedule": "milestones factor",
        "transfer": "mode weights frozen_until store net_a",
        "mesh": "data",
        "evaluate": "scales",
    }.items()
    for name in names.split()
)
