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
from train.protocols.looks import PROTOCOLS

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


def _range_of_pixels(values: tuple[Any, ...]) -> str | None:
    if not values:
        return None
    if len(values) != 2 or not all(type(value) is int for value in values) or not 1 <= values[0] <= values[1]:
        return "must be empty or hold two whole numbers of pixels, the least and the most"
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
    "augment.mixup": between(0),
    "augment.cutmix": between(0),
    "augment.scale_jitter": _range_of_pixels,
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
    "mesh.model": between(1),
    "checkpoint.keep": between(1),
    "checkpoint.every_steps": between(0),
    "evaluate.batch_size": between(1),
    "evaluate.every_epochs": between(0, above=True),
    "evaluate.protocol": one_of(*PROTOCOLS),
    "evaluate.scales": every(between(1), int),
    "log.every_steps": between(1),
}
