"""From ranges to trials: each has a name that says what is its own, and a config."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from train import settings
from train.errors import UserError
from train.sweep.ranges import Ranges

# A file's name may have 255 bytes, and others are made of it. Names are ASCII, of a byte each.
_LONGEST = 120


class Trial(NamedTuple):
    """A run of a sweep.

    Attributes:
      name: of its folder.
      values: by dotted key, what differs from other runs.
    """

    name: str
    values: Mapping[str, Any]


def trials(ranges: Ranges) -> list[Trial]:
    """Return every draw combined with every point of the grid; what is drawn twice is one trial."""
    found: dict[str, Trial] = {}
    for drawn in ranges.draws():
        for point in itertools.product(*ranges.grid.values()):
            values = drawn | dict(zip(ranges.grid, point, strict=True))
            trial = Trial(_name(values), values)
            found.setdefault(trial.name, trial)
    return list(found.values())


def config_of(config: ConfigDict, trial: Trial) -> ConfigDict:
    """Return the config of a trial, not resolved."""
    own = config.copy_and_resolve_references()
    own.update_from_flattened_dict(trial.values)
    return own


def check(config: ConfigDict, every: Sequence[Trial]) -> None:
    """Resolve the config of each trial, so that a wrong value is found before anything is read.

    Raises:
      UserError: names the trial, the key and what it must be.
    """
    for trial in every:
        try:
            settings.resolve(config_of(config, trial))
        except UserError as error:
            raise UserError(f"{trial.name}: {error}") from error


def shard(every: Sequence[Trial], which: str) -> list[Trial]:
    """Return the trials of a shard "i/n": of every n, the i-th, counted from 0.

    Raises:
      UserError: it is not like that.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", which)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"--shard={which}: must be i/n, i being 0 to n - 1, as 0/4")
    return list(every[int(match[1]) :: int(match[2])])


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return for each dotted key its last part, or all of it where others end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: part if last.count(part) == 1 else key for key, part in zip(keys, last, strict=True)}


def as_text(value: Any) -> str:
    """Return a value as names and tables have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "-".join(map(as_text, value))
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return str(value)


def _name(values: Mapping[str, Any]) -> str:
    short = short_names(list(values))
    whole = "--".join(f"{short[key]}={as_text(value)}" for key, value in values.items())
    name = re.sub(r"[^\w.=+-]", "_", whole, flags=re.ASCII)
    if name == whole and len(name) <= _LONGEST:
        return name
    # Paths and long lists: what the name cannot hold, a digest tells apart.
    return f"{name[: _LONGEST - 9]}~{hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]}"
