"""Train many runs that differ in some keys, and put them beside each other.

    python -m scripts.sweep --config=configs/lenet5_digits.py --sweep=configs/sweeps/lenet5_digits.toml --workdir=DIR
    python -m scripts.sweep --config=FILE --sweep=FILE --workdir=DIR --by=processes --jobs=2 --config.train.epochs=5

--sweep is a TOML file of ranges (train/sweep/ranges.py has its form). --by=vmap trains runs that differ in numbers
alone (seeds, rates, decays) together in one compiled program, group after group; --by=processes starts scripts.train
for each; --by=ray does so under Ray Tune, which stops runs that are behind (ASHA); --address=auto finds a cluster.
--shard=i/n takes every n-th trial, for n array jobs on the same folder.
The same command goes on where it was stopped, and repeats nothing. Each run leaves a run folder, DIR/runs/NAME; what
came of all stands in DIR/sweep.html and sweep.json. The exit status is 1 where a run has failed or has no end: what is
not its own fault (no room, another process, a signal) leaves it open, and the same command goes on with it.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.sweep")

import sys
from functools import partial
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from scripts import command
from scripts.command_line import check_key, config_arguments
from train.errors import UserError
from train.sweep import figures, ranges, table, trials, writing
from train.sweep.folder import SweepFolder

_SWEEP = flags.DEFINE_string("sweep", None, "The file of ranges.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the sweep.")
_BY = flags.DEFINE_enum("by", "vmap", ["vmap", "processes", "ray"], "Who trains the runs.")
_JOBS = flags.DEFINE_integer("jobs", 1, "processes, ray: runs at once, which share the cores.", lower_bound=1)
_SHARD = flags.DEFINE_string("shard", "0/1", "Take every n-th trial, from the i-th, which counts from 0: i/n.")
_ADDRESS = flags.DEFINE_string("address", None, "ray: of a cluster; auto finds it. By default Ray runs here.")
_RETRY = flags.DEFINE_boolean("retry_failed", False, "Run those again that have failed.")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "List the trials, and train none.")


def main() -> None:
    """Read the ranges, train, show."""
    for flag in (_SWEEP, _WORKDIR):
        if not flag.value and not (flag is _WORKDIR and _DRY_RUN.value):
            what = "the file of ranges, such as configs/sweeps/lenet5_digits.toml" if flag is _SWEEP else "its folder"
            raise UserError(f"--{flag.name}=... is missing: {what}")
    for name, takers in {"jobs": ("processes", "ray"), "address": ("ray",)}.items():
        if flags.FLAGS[name].present and _BY.value not in takers:
            raise UserError(f"--{name}: is for --by={' or '.join(takers)}; leave it out")
    config = flags.FLAGS.config
    given = tuple(config_flags.get_override_values(flags.FLAGS["config"]))
    own = ranges.read(Path(str(_SWEEP.value)).expanduser(), config, check_key, given)
    every = trials.trials(own)
    trials.check(config, every)
    mine = trials.shard(every, _SHARD.value)
    if _DRY_RUN.value:
        print("\n".join([*(trial.name for trial in mine), f"{len(mine)} of {len(every)} trials"]))
        return
    reports = [] if "evaluate.report" in given else ["--config.evaluate.report=False"]  # scripts.report draws one
    if reports:
        config.evaluate.report = False
    # Of whatever folder Ray's processes are in, it is the same.
    folder = SweepFolder.create(Path(str(_WORKDIR.value)).expanduser().absolute(), config)
    folder.check_data(every)
    with folder.writing(f"shard-{_SHARD.value.replace('/', '-of-')}"):
        if _RETRY.value:
            for trial in mine:
                folder.forget_failure(trial)
        line = [sys.executable, "-m", "scripts.train", *config_arguments(sys.argv), *reports]
        if flags.FLAGS.compilation_cache is not None:
            line.append(f"--compilation_cache={flags.FLAGS.compilation_cache}")
        say = partial(print, flush=True)
        if _BY.value == "vmap":
            from train.sweep import by_vmap

            by_vmap.run(folder, config, mine, say)
        elif _BY.value == "processes":
            from train.sweep import by_processes

            by_processes.run(folder, line, mine, _JOBS.value, say)
        else:
            from train.sweep import by_ray

            by_ray.run(folder, line, mine, config, own.asha, _JOBS.value, _ADDRESS.value, say)
    with folder.table():
        folder.check_data(every)
        found, outcomes = figures.collect(folder, own, every)
        table.show(found)
        for written in writing.write(folder.path, found, outcomes, config.dataset.source):
            print(written)
    folder.check_ends(mine, found["runs"])


if __name__ == "__main__":
    command.launch(main, config="lenet5_digits.py")
