import importlib
import inspect
import json

import pytest
from ml_collections import ConfigDict

from configs import base
from tests.conftest import CHECKOUT
from train import settings
from train.errors import UserError


def changed(**changes: object) -> ConfigDict:
    config = base.get_config()
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return config


EXPERIMENTS = sorted(file.stem for file in (CHECKOUT / "configs").glob("*.py") if file.stem not in ("__init__", "base"))


ARGUMENTS = {
    "alexnet_imagenet": ("2012", "torchvision", "modern"),
    "vgg16_imagenet": ("paper", "net_a", "torchvision", "batch_norm", "modern"),
    "own_photos": ("a folder",),
    "permuted_mnist": ("lenet5", "mlp"),
    "shift_mnist": ("lenet5", "mlp"),
    "transfer_tiny_imagenet": ("fifteen", "scratch20", "transfer20"),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_legal(name: str) -> None:
    experiment = importlib.import_module(f"configs.{name}")
    settings.resolve(experiment.get_config())
    assert (name in ARGUMENTS) == bool(inspect.signature(experiment.get_config).parameters)
    for argument in ARGUMENTS.get(name, ()):
        config = experiment.get_config(argument)
        if config.transfer.mode == "finetune":
            config.transfer.weights = "runs/another"
        settings.resolve(config)


def test_every_rule_has_its_key() -> None:
    assert settings.RULES.keys() <= dict(settings.leaves(base.get_config())).keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__name": "lenet"},
            r"config.model.name=lenet: must be one of lenet5, lenet1d, alexnet, vgg, .*, mlp; nearest: lenet5",
        ),
        (
            {"dataset__resize": "pad", "dataset__crop": 0.9},
            r"crop=0.9: config.dataset.resize=pad keeps all",
        ),
        (
            {"augment__random_resized_crop": 0.1, "augment__scale_jitter": (256, 480)},
            r"scale_jitter=\(256, 480\): config.augment.random_resized_crop=0.1 draws the size of a crop too",
        ),
        (
            {"augment__scale_jitter": (20, 480)},
            r"scale_jitter=\(20, 480\): a crop of config.dataset.image_size=\d+ pixels does not fit into the least",
        ),
        ({"optimizer__name": "adam"}, r"config.optimizer.name=adam: must be one of sgd, adamw; nearest: adamw"),
        ({"schedule__name": "linear"}, r"must be one of constant, step, cosine, one_cycle"),
        ({"precision": "float16"}, r"must be one of float32, bfloat16; nearest: bfloat16"),
        (
            {"model__activation": "gelu"},
            r"config.model.activation=gelu: must be one of identity, relu, tanh, scaled_tanh",
        ),
        ({"model__pooling": "min"}, r"must be one of max, average"),
        ({"dataset__resize": "stretch"}, r"must be one of nearest, bilinear, bicubic, pad"),
        ({"train__batch_size": 0}, r"config.train.batch_size=0: must be at least 1"),
        ({"train__epochs": 0.0}, r"config.train.epochs=0.0: must be above 0"),
        ({"train__epochs": float("inf")}, r"config.train.epochs=inf: must be finite"),
        ({"schedule__learning_rate": float("nan")}, r"config.schedule.learning_rate=nan: must be finite"),
        ({"train__label_smoothing": 1.0}, r"must be at least 0 and below 1"),
        ({"augment__rotate": 270.0}, r"must be at least 0 and at most 180"),
        ({"model__hidden": (300, 0)}, r"each must be at least 1"),
        ({"model__hidden": (300, 10.5)}, r"must hold int"),
        ({"schedule__milestones": ("ten",)}, r"must hold float or int"),
        ({"dataset__only_classes": ("a",)}, r"only_classes=\('a',\): must hold two or more different names"),
        ({"dataset__channels": 4}, r"config.dataset.channels=4: must be 1 \(gray\) or 3 \(RGB\)"),
        ({"augment__scale_jitter": (9, 8)}, r"must be empty or hold two whole numbers of pixels"),
        (
            {"transfer__mode": "stored", "transfer__weights": "run", "augment__mixup": 0.2},
            r"config.augment.mixup=0.2: config.transfer.mode=stored mixes no images; set 0",
        ),
        ({"schedule__name": "step"}, r"step: needs config.schedule.milestones"),
        ({"augment__shift": 32}, r"config.augment.shift=32: must be below config.dataset.image_size=32"),
        ({"train__accumulate": 3}, r"config.train.accumulate=3: must divide config.train.batch_size=128"),
        ({"schedule__warmup_epochs": 10.0}, r"warmup_epochs=10: must be below config.train.epochs=10"),
        (
            {"model__name": "alexnet", "model__hidden": (300,)},
            r"config.model.hidden=\(300,\): alexnet torchvision does not take it \(it takes dropout, init\)",
        ),
        ({"model__name": "mlp", "model__pooling": "max"}, r"config.model.pooling=max: mlp does not take it"),
        ({"model__variant": "1999"}, r"config.model.variant=1999: lenet5 has the variants modern, 1998"),
        ({"model__name": "vgg16", "model__variant": "A"}, r"config.model.variant=A: vgg16 has the variants D"),
        ({"model__name": "mlp", "model__variant": "A"}, r"config.model.variant=A: mlp has no variants"),
        ({"model__variant": "1998", "model__pooling": "max"}, r"lenet5 1998 does not take it \(it takes dropout\)"),
        ({"optimizer__b1": 0.9}, r"sgd does not take it \(it takes momentum, nesterov\)"),
        ({"schedule__factor": 0.1}, r"cosine does not take it \(it takes no options\)"),
    ],
)
def test_what_is_wrong_is_named(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings.resolve(changed(**changes))


def test_the_chosen_gives_the_defaults() -> None:
    config = changed(model__name="mlp", optimizer__name="adamw")
    settings.resolve(config)
    assert config.model.to_dict() == {
        "name": "mlp",
        "hidden": (300, 100),
        "widths": None,
        "kernels": None,
        "padding": None,
        "pools": None,
        "activation": "relu",
        "dropout": 0.0,
        "batch_norm": None,
        "pooling": None,
        "variant": None,
        "init": None,
    }
    assert (config.optimizer.b1, config.optimizer.b2, config.optimizer.momentum) == (0.9, 0.999, None)
    settings.resolve(config)  # a completed config is legal


def test_json_and_back() -> None:
    config = changed(model__name="mlp", dataset__mean=(0.5, 0.25))
    settings.resolve(config)
    again = settings.from_json(settings.to_json(config))
    assert dict(settings.leaves(again)) == dict(settings.leaves(config))
    with pytest.raises(AttributeError):
        again.train.epoch = 3
    with pytest.raises(ValueError, match="not a JSON object"):
        settings.from_json("[]")


def test_a_config_of_another_version_is_named() -> None:
    config = base.get_config()
    values = json.loads(settings.to_json(config))
    for change, words in (
        (values | {"newer": {"key": 1}}, r"made by another version of oldmasters: it has newer.key"),
        (
            {key: value for key, value in values.items() if key != "seed"},
            r"another version .*: it lacks seed",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            settings.from_json(json.dumps(change))


def test_identity_leaves_out_where_and_how_loud() -> None:
    here = changed(mesh__data=2, log__every_steps=7, checkpoint__keep=3, dataset__source="idx:elsewhere")
    assert settings.differences(base.get_config(), here) == []
    different = settings.differences(base.get_config(), changed(seed=1, train__batch_size=64))
    assert different == ["seed: 0 there, 1 here", "train.batch_size: 128 there, 64 here"]


@pytest.mark.parametrize(("schedule", "may"), [("constant", True), ("step", True), ("cosine", False)])
def test_epochs_may_grow_where_the_schedule_does_not_know_them(schedule: str, may: bool) -> None:
    there = changed(schedule__name=schedule)
    assert (settings.differences(there, changed(schedule__name=schedule, train__epochs=20.0)) == []) is may
    assert settings.differences(there, changed(schedule__name=schedule, train__epochs=5.0))
