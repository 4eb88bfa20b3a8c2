"""A sweep in this process: runs that differ in numbers alone train together, group after group."""

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from train import settings
from train.checkpoints import Checkpoints
from train.data import dataset
from train.data.roles import Dataset
from train.errors import UserError, in_one_line
from train.records import CONFIG
from train.sweep import together, traced
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.together import Entrant
from train.sweep.trials import Trial, config_of

# Seconds between two looks at folders that another process writes into.
_PAUSE = 0.05


def run(folder: SweepFolder, config: ConfigDict, trials: Sequence[Trial], say: Callable[[str], None]) -> None:
    """Train what is left of the trials.

    Args:
      folder: of the sweep.
      config: that all runs share, not resolved.
      trials: those with an end are left alone.
      say: prints a line.

    Raises:
      InterruptedSweep: a signal has come; all states are saved.
    """
    while left := [trial for trial in trials if folder.is_open(trial) and trial.name not in folder.left_open]:
        free = [trial for trial in left if folder.is_free(trial)]
        signal = _train(folder, config, free, say)
        if signal:
            ended = sum(not folder.is_open(trial) for trial in trials)
            raise InterruptedSweep(folder.path, ended, len(trials), signal)
        if not free:
            time.sleep(_PAUSE)


def _train(folder: SweepFolder, config: ConfigDict, trials: Sequence[Trial], say: Callable[[str], None]) -> int:
    """Train all of the trials; return the number of a signal that has come, or 0."""
    by_name = {trial.name: trial for trial in trials}

    def failed(name: str, reason: str) -> None:
        say(f"{name}: {folder.fail(by_name[name], reason)}")

    groups = _Groups()
    for trial in trials:
        try:
            groups.add(trial, config_of(config, trial), folder.run(trial))
        except UserError as error:
            failed(trial.name, str(error))
    for number, (keys, every) in enumerate(groups.all(), start=1):
        entrants = [entrant for entrant in every if folder.is_open(by_name[entrant.name])]
        if not entrants:  # another launch has ended them meanwhile
            continue
        say(
            f"group {number} of {len(groups.all())}: {len(entrants)} runs in one program, whose arguments are "
            + ", ".join(("the seed", "the learning rate by step", *keys))
        )
        try:
            signal = together.train(entrants, keys, groups.data(entrants[0]), failed)
        except BrokenPipeError:  # of the standard output, not of the folder
            raise
        except (UserError, OSError, MemoryError, RuntimeError) as error:  # of all of them: of one, it would be told
            if isinstance(error, OSError) and error.filename is None:  # of a full disk, the system names nothing
                error.filename = str(folder.path)
            if (reason := in_one_line(error)) is None:
                raise
            for entrant in entrants:
                if folder.is_open(by_name[entrant.name]) and entrant.name not in folder.left_open:
                    failed(entrant.name, reason)
            continue
        if signal:
            return signal
    return 0


class _Groups:
    """Runs by what must be equal for them to train together: all but what is traced, and the step they have come to."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[tuple[str, ...], list[Entrant]]] = {}
        self._loaded: dict[str, tuple[ConfigDict, Dataset]] = {}
        self._traceable: dict[str, tuple[str, ...]] = {}

    def add(self, trial: Trial, config: ConfigDict, path: Path) -> None:
        """Put a run into its group.

        Raises:
          UserError: it cannot train together with others, or its data cannot be read.
        """
        settings.resolve(config)
        together.check(config)
        asked = json.dumps(config.dataset.to_dict(), sort_keys=True)
        if asked not in self._loaded:
            section = config.dataset.copy_and_resolve_references()
            self._loaded[asked] = section, dataset.load(section)
        section, data = self._loaded[asked]
        together.check_images(config, data)
        config.dataset.update(section)
        candidates = [
            key for key, value in settings.leaves(config) if key in trial.values and traced.may_be(key, value)
        ]
        structure = _without(config, candidates)
        if structure not in self._traceable:
            self._traceable[structure] = traced.traceable(config, candidates, data.train.total)
        keys = self._traceable[structure]
        group = f"{_latest(path)} {_without(config, keys)}"
        self._groups.setdefault(group, (keys, []))[1].append(Entrant(trial.name, config, path))

    def all(self) -> list[tuple[tuple[str, ...], list[Entrant]]]:
        """Return for each group what is traced, and the runs."""
        return list(self._groups.values())

    def data(self, entrant: Entrant) -> Dataset:
        """Return what a run is trained on."""
        return next(data for section, data in self._loaded.values() if section == entrant.config.dataset)


def _without(config: ConfigDict, keys: Collection[str]) -> str:
    """Return what of a config is compiled in, and the names of the keys."""
    kept = {
        key: value
        for key, value in settings.leaves(config)
        if key != "seed" and key not in keys and not key.startswith(traced.SCHEDULE)
    }
    return json.dumps([kept, sorted(keys)], sort_keys=True)


def _latest(path: Path) -> int:
    """Return the step of a run's last checkpoint."""
    if not (path / CONFIG).exists():
        return 0
    with Checkpoints(path, read_only=True) as checkpoints:
        return checkpoints.latest() or 0
