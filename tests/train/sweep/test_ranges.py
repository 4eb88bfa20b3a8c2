import math
from pathlib import Path

import numpy as np
import pytest

from configs import base
from scripts.command_line import check_key
from tests.conftest import CHECKOUT
from train.errors import UserError
from train.sweep.ranges import Asha, Ranges, Span, read
from train.sweep.trials import as_text, check, config_of, shard, trials


def written(tmp_path: Path, text: str, given: tuple[str, ...] = ()) -> Ranges:
    path = tmp_path / "ranges.toml"
    path.write_text(text)
    return read(path, base.get_config(), check_key, given)


def test_a_grid_is_every_combination_in_the_order_of_the_file(tmp_path: Path) -> None:
    ranges = written(
        tmp_path,
        '[grid]\nschedule.learning_rate = [1, 0.05]\n"seed" = [3, 4]\nmodel.widths = [[2, 3]]\naugment.flip = [true]',
    )
    found = trials(ranges)
    assert [trial.name for trial in found] == [
        f"learning_rate={rate}--seed={seed}--widths=2-3--flip=true" for rate in ("1", "0.05") for seed in (3, 4)
    ]
    config = config_of(base.get_config(), found[0])
    assert type(config.schedule.learning_rate) is float
    assert config.model.widths == (2, 3)
    assert config.augment.flip is True
    assert found[0].values["schedule.learning_rate"] == 1.0


def test_draws_lie_within_their_bounds_and_are_equally_likely_by_ratio(tmp_path: Path) -> None:
    ranges = written(
        tmp_path,
        "[random]\n"
        'schedule.learning_rate = {low = 0.001, high = 1, scale = "log"}\n'
        "optimizer.momentum = {low = 0.8, high = 0.9}\n"
        "augment.shift = {low = 1, high = 3}\n"
        'evaluate.batch_size = {low = 1, high = 1000, scale = "log"}\n'
        'model.activation = ["relu", "tanh"]\n'
        "[draws]\ncount = 2000",
    )
    drawn = list(ranges.draws())
    rates, shifts = ([each[key] for each in drawn] for key in ("schedule.learning_rate", "augment.shift"))
    assert min(rates) >= 0.001
    assert max(rates) <= 1
    assert all(float(f"{rate:.4g}") == rate for rate in rates)
    counts, _ = np.histogram(np.log10(rates), bins=3, range=(-3, 0))  # a third in each decade
    assert counts == pytest.approx([2000 / 3] * 3, rel=0.15)
    assert set(shifts) == {1, 2, 3}
    assert all(type(shift) is int for shift in shifts)
    sizes = [each["evaluate.batch_size"] for each in drawn]
    assert all(type(size) is int and 1 <= size <= 1000 for size in sizes)
    assert np.median(sizes) == pytest.approx(math.sqrt(1000), rel=0.3)
    assert {each["model.activation"] for each in drawn} == {"relu", "tanh"}
    assert ranges.is_log("schedule.learning_rate")
    assert not ranges.is_log("optimizer.momentum")


def test_more_draws_and_more_keys_change_no_draw(tmp_path: Path) -> None:
    text = "[random]\noptimizer.momentum = {{low = 0.8, high = 0.9}}\n{}[draws]\nseed = 7\ncount = {}"
    few = list(written(tmp_path, text.format("", 3)).draws())
    many = list(written(tmp_path, text.format("train.ema = {low = 0.5, high = 0.9}\n", 9)).draws())
    assert [each["optimizer.momentum"] for each in few] == [each["optimizer.momentum"] for each in many[:3]]
    assert len({each["optimizer.momentum"] for each in many}) == 9


def test_each_draw_is_combined_with_all_of_the_grid_and_none_is_run_twice(tmp_path: Path) -> None:
    ranges = written(tmp_path, "[grid]\nseed = [0, 1]\n[random]\naugment.shift = [1, 2]\n[draws]\ncount = 40")
    assert sorted(trial.name for trial in trials(ranges)) == [
        f"shift={shift}--seed={seed}" for shift in (1, 2) for seed in (0, 1)
    ]


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    every = trials(written(tmp_path, f"[grid]\nseed = {list(range(7))}"))
    parts = [shard(every, f"{number}/3") for number in range(3)]
    assert sorted(trial.name for part in parts for trial in part) == sorted(trial.name for trial in every)
    assert sum(map(len, parts)) == 7
    for wrong in ("3/3", "1", "-1/3", "0/0", "a/b"):
        with pytest.raises(UserError, match="must be i/n"):
            shard(every, wrong)


def test_names_are_files_and_tell_apart_what_they_cannot_hold(tmp_path: Path) -> None:
    ranges = written(tmp_path, '[grid]\ndataset.source = ["npz:a/b", "npz:a_b"]\naugment.shift = [1]')
    names = [trial.name for trial in trials(ranges)]
    assert len(set(names)) == 2
    assert all("/" not in name and name.startswith("source=npz_a_b--shift=1~") for name in names)
    # Two keys that end alike are named in full.
    ranges = written(tmp_path, "[grid]\nevaluate.batch_size = [5]\ntrain.batch_size = [6]")
    assert trials(ranges)[0].name == "evaluate.batch_size=5--train.batch_size=6"
    assert [as_text(value) for value in (1e-4, 0.1 + 0.2, True, (1, 2), "a")] == [
        "0.0001",
        "0.30000000000000004",
        "true",
        "1-2",
        "a",
    ]
    (name,) = {trial.name for trial in trials(written(tmp_path, f'[grid]\ndataset.source = ["idx:{"ö" * 200}"]'))}
    assert len(name.encode()) <= 120


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\ntrain.epoch = [1]", r"config.train.epoch: no such key; nearest: config.train.epochs"),
        ("[grid]\nlearning_rate = [1]", r"nearest: config.schedule.learning_rate"),
        ("[grid]\ntrain = [1]", r"config.train is a section"),
        ("[grid]\ntrain.epochs.x = [1]", r"grid: train.epochs: takes a list of values"),
        ('[grid]\nseed = ["a"]', r"ranges.toml: grid: seed: 'a' must be a whole number"),
        ("[grid]\nseed = [1.5]", r"1.5 must be a whole number"),
        ("[grid]\naugment.flip = [1]", r"1 must be true or false"),
        ("[grid]\ntrain.epochs = [true]", r"True must be a number"),
        ("[grid]\nmodel.widths = [6, 16]", r"6 must be a list"),
        ("[grid]\nseed = []", r"seed: is empty; give one value or more"),
        ("[grid]\nseed = [1, 1]", r"seed: holds 1 twice"),
        ("[grid]\nseed = 3", r"takes a list of values, as \[0, 1, 2\]"),
        ("[grid]\nseed = {low = 0, high = 3}", r"a range belongs into \[random\]"),
        ("", r"varies nothing"),
        ("[grid]", r"varies nothing"),
        ("[grid]\nseed = [1]\nseed = [2]", r"is not TOML: Cannot overwrite a value"),
        ('[grid]\ntrain.epochs = [1]\n"train.epochs" = [2]', r"train.epochs: stands there twice"),
        ("seed is 3", r"is not TOML"),
        ("seed = [1]", r"seed: stands in no table"),
        ("[gird]\nseed = [1]", r"gird: no such table; .*nearest: grid"),
        ("[random]\nseed = [1]", r"draws: count is missing"),
        ("[random]\nseed = [1]\n[draws]\ncount = 0", r"draws: count=0: must be at least 1"),
        ("[random]\nseed = [1]\n[draws]\ncount = 1.5", r"draws: count: 1.5 must be a whole number"),
        ("[random]\nseed = [1]\n[draws]\nnumber = 3", r"draws: number: must be one of count, seed"),
        ("[grid]\nseed = [1]\n[draws]\ncount = 3", r"there is no \[random\]"),
        ("[grid]\nseed = [1]\n[random]\nseed = [1]\n[draws]\ncount = 3", r"stands in \[grid\] and in \[random\]"),
        ("[random]\nseed = {low = 3}\n[draws]\ncount = 1", r"seed: high is missing"),
        ("[random]\nseed = {low = 3, high = 3}\n[draws]\ncount = 1", r"low must be below high"),
        ("[random]\nseed = {low = 3, hihg = 4}\n[draws]\ncount = 1", r"hihg: must be one of .*; nearest: high"),
        ('[random]\nmodel.name = {low = "a"}\n[draws]\ncount = 1', r"only numbers have a low and a high"),
        ('[random]\ntrain.ema = {low = 0, high = 1, scale = "log"}\n[draws]\ncount = 1', r"must be above 0"),
        ('[random]\ntrain.ema = {low = 0.1, high = 1, scale = "lag"}\n[draws]\ncount = 1', r"nearest: log"),
        ("[random]\ntrain.ema = 3\n[draws]\ncount = 1", r"takes a list of values, or"),
        ("[grid]\nseed = [1]\n[asha]\ngrace = 0", r"asha: grace=0: must be at least 1"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        written(tmp_path, text)


def test_a_key_has_one_master(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--config.seed: .*ranges.toml varies it"):
        written(tmp_path, "[grid]\nseed = [1]", given=("train.epochs", "seed"))
    with pytest.raises(UserError, match=r"--sweep=nowhere.toml: cannot be read \(No such file or directory\)"):
        read(Path("nowhere.toml"), base.get_config(), check_key)


def test_every_trial_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    every = trials(written(tmp_path, "[grid]\noptimizer.momentum = [0.5, 1.5]"))
    with pytest.raises(UserError, match=r"momentum=1.5: config.optimizer.momentum=1.5: must be at least 0 and below 1"):
        check(base.get_config(), every)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "configs" / "sweeps").glob("*.toml")), ids=lambda path: path.stem)
def test_our_own_files_are_legal(path: Path) -> None:
    ranges = read(path, base.get_config(), check_key)
    check(base.get_config(), trials(ranges))
    assert ranges.asha == Asha() or "asha" in path.stem
    assert not any(isinstance(choices, Span) and choices.low >= choices.high for choices in ranges.random.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\nseed = " + "[" * 100_000, "nested too deeply|is not TOML"),
        ("[grid]\nseed = [1" + "0" * 400 + "]", "too many digits"),
        ("[grid]\nschedule.learning_rate = [1" + "0" * 400 + "]", "too many digits"),
        ("[grid]\nseed = [1" + "0" * 10_000 + "]", "is not TOML"),
        ("[grid]\nschedule.learning_rate = [inf]\nseed = 2020-01-01", "takes a list"),
        ("[random]\nschedule.learning_rate = {low = -1e308, high = 1e308}\n[draws]\ncount = 1", "both finite"),
        ("[random]\nschedule.learning_rate = {low = 0.1, high = 1}\n[draws]\ncount = 1000000000000", "makes 1,000,000"),
        (
            "[grid]\n" + "\n".join(f"{key} = {list(range(1, 1001))}" for key in ("seed", "train.batch_size")),
            "1,000,000",
        ),
        ("[grid]\nseed = [0]\n" + "#" * 2**20, "which no such file takes"),
        ('[grid]\n"\\u001b]0;x\\u0007" = [1]', "no such key"),
    ],
)
def test_what_no_sweep_can_be_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        written(tmp_path, text)
    assert str(error.value).isprintable()
