"""The file of ranges: which keys of the config a sweep varies, and over what.

It is TOML. Keys are those of configs/base.py, dotted, each in one of two tables:

    [grid]                          # every combination of these
    seed = [0, 1, 2]
    optimizer.momentum = [0.8, 0.9]

    [random]                        # drawn, and each draw combined with all of the grid
    schedule.learning_rate = {low = 0.01, high = 0.3, scale = "log"}    # scale: linear or log
    model.activation = ["relu", "tanh"]

    [draws]                         # of [random]
    count = 16
    seed = 0

    [asha]                          # --by=ray: when runs are stopped
    grace = 1                       # evaluations that every run gets
    reduction = 3                   # of so many runs, one goes on
"""

import math
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from train.errors import UserError, nearest
from train.settings import leaves

_TABLES = ("grid", "random", "draws", "asha")
_SCALES = ("linear", "log")
_LARGEST, _MOST = 2**20, 100_000  # bytes of the file, trials of a sweep


class Span(NamedTuple):
    """Numbers between two bounds, which belong to it.

    Attributes:
      low: the least.
      high: the largest.
      scale: "linear", or "log": equal ratios are equally likely.
      whole: whether the key takes whole numbers.
    """

    low: float
    high: float
    scale: str
    whole: bool

    def draw(self, random: np.random.Generator) -> float:
        """Return a number; of one that is not whole, four significant digits, so that a name can say all of it."""
        low, high = (math.log(self.low), math.log(self.high)) if self.scale == "log" else (self.low, self.high)
        if self.whole and self.scale == "linear":
            return int(random.integers(round(low), round(high), endpoint=True))
        drawn = random.uniform(low, high)
        drawn = math.exp(drawn) if self.scale == "log" else drawn
        if self.whole:
            return min(max(round(drawn), round(self.low)), round(self.high))
        return min(max(float(f"{drawn:.4g}"), self.low), self.high)


class Asha(NamedTuple):
    """When Ray Tune stops runs: Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning" (1810.05934).

    Attributes:
      grace: evaluations that every run gets.
      reduction: of so many runs that have come as far, one goes on.
    """

    grace: int = 1
    reduction: float = 3.0


class Ranges(NamedTuple):
    """What a sweep varies.

    Attributes:
      grid: values by key.
      random: values or a span by key.
      number: of draws of `random`.
      seed: of the draws; draw *i* of a key is a function of (seed, *i*, key), so more draws change none.
      asha: when runs are stopped.
    """

    grid: Mapping[str, tuple[Any, ...]]
    random: Mapping[str, tuple[Any, ...] | Span]
    number: int
    seed: int
    asha: Asha

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, those that are drawn first."""
        return (*self.random, *self.grid)

    def is_log(self, key: str) -> bool:
        """Whether a key was to be drawn by equal ratios."""
        span = self.random.get(key)
        return isinstance(span, Span) and span.scale == "log"

    def draws(self) -> Iterator[dict[str, Any]]:
        """Yield the values of each draw by key."""
        for number in range(self.number):
            yield {key: self._drawn(key, number) for key in self.random}

    def _drawn(self, key: str, number: int) -> Any:
        random, choices = np.random.default_rng((self.seed, number, zlib.crc32(key.encode()))), self.random[key]
        return choices.draw(random) if isinstance(choices, Span) else choices[random.integers(len(choices))]


def read(path: Path, config: ConfigDict, check_key: Callable[[str], None], given: tuple[str, ...] = ()) -> Ranges:
    """Return the ranges of a file.

    Args:
      path: the file.
      config: with every legal key, from which the types come.
      check_key: raises UserError where a dotted key does not exist, and names the nearest.
      given: keys that the command line sets, which the file may not vary.

    Raises:
      UserError: the file cannot be read, or what stands in it is no range of a key.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise UserError(f"--sweep={path}: has {size:,} bytes, which no such file takes")
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"--sweep={path}: cannot be read ({error.strerror}); name a TOML file") from error
    except RecursionError as error:
        raise UserError(f"--sweep={path}: is nested too deeply; a range takes a list") from error
    except ValueError as error:  # no TOML, a key twice, or no text at all
        raise UserError(f"--sweep={path}: is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in _TABLES or not isinstance(table, dict):
            what = "no such table" if isinstance(table, dict) else "stands in no table"
            raise UserError(f"{path}: {name}: {what}; there are [{'], ['.join(_TABLES)}]{nearest(name, _TABLES)}")
    entries = {
        name: dict(_entries(tables.get(name, {}), config, check_key, f"{path}: ")) for name in ("grid", "random")
    }
    for key in entries["grid"].keys() & entries["random"].keys():
        raise UserError(f"{path}: {key}: stands in [grid] and in [random]; take it out of one")
    for key in given:
        if key in entries["grid"] or key in entries["random"]:
            raise UserError(f"--config.{key}: {path} varies it; leave it out of one of the two")
    if not entries["grid"] and not entries["random"]:
        raise UserError(f"{path}: varies nothing; a key with a list of values belongs into [grid], as seed = [0, 1, 2]")
    grid: dict[str, tuple[Any, ...]] = {}
    for key, value in entries["grid"].items():
        if not isinstance(value, list):
            raise UserError(f"{path}: grid: {key}: takes a list of values, as [0, 1, 2]; a range belongs into [random]")
        grid[key] = _values(f"{path}: grid: {key}", value, config, key)
    random = {key: _choices(f"{path}: random: {key}", value, config, key) for key, value in entries["random"].items()}
    draws = _numbers(f"{path}: draws", tables.get("draws", {}), {"count": (int, 1), "seed": (int, 0)})
    asha = _numbers(f"{path}: asha", tables.get("asha", {}), {"grace": (int, 1), "reduction": (float, 1.5)})
    if random and "count" not in draws:
        raise UserError(f"{path}: draws: count is missing: how often [random] is drawn")
    if draws and not random:
        raise UserError(f"{path}: draws: there is no [random] of which to draw; leave draws out")
    if (number := math.prod(map(len, grid.values())) * draws.get("count", 1)) > _MOST:
        raise UserError(f"{path}: makes {number:,} trials; a sweep takes at most {_MOST:,}")
    return Ranges(grid, random, draws.get("count", 1), draws.get("seed", 0), Asha(**asha))


def _entries(
    table: Mapping[str, Any], config: ConfigDict, check_key: Callable[[str], None], where: str, before: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a table, in which sections of the config may be tables too.

    Raises:
      UserError: there is no such key.
    """
    known = dict(leaves(config))
    seen = set[str]()
    for name, value in table.items():
        key = before + name
        section = any(leaf.startswith(f"{key}.") for leaf in known)
        if section and isinstance(value, dict):
            inside = list(_entries(value, config, check_key, where, f"{key}."))
        else:
            try:
                check_key(key)
            except UserError as error:
                raise UserError(f"{where}{error}") from error
            inside = [(key, value)]
        for leaf, each in inside:
            if leaf in seen:
                raise UserError(
                    f"{where}{leaf}: stands there twice, once with a dotted and once with a quoted name; leave one out"
                )
            seen.add(leaf)
            yield leaf, each


def _choices(where: str, value: Any, config: ConfigDict, key: str) -> tuple[Any, ...] | Span:
    if isinstance(value, list):
        return _values(where, value, config, key)
    if not isinstance(value, dict):
        raise UserError(f'{where}: takes a list of values, or {{low = 0.01, high = 0.1, scale = "log"}}')
    kind = _kind(config, key)
    if kind not in (int, float):
        raise UserError(f"{where}: takes a list of values; only numbers have a low and a high")
    names = ("low", "high", "scale")
    for name in value:
        if name not in names:
            raise UserError(f"{where}: {name}: must be one of {', '.join(names)}{nearest(name, names)}")
    for name in ("low", "high"):
        if name not in value:
            raise UserError(f"{where}: {name} is missing")
    low, high = (_typed(f"{where}: {name}", value[name], kind) for name in ("low", "high"))
    scale = value.get("scale", "linear")
    if scale not in _SCALES:
        raise UserError(f"{where}: scale={scale}: must be one of {', '.join(_SCALES)}{nearest(str(scale), _SCALES)}")
    if not (math.isfinite(float(high) - float(low)) and low < high):
        raise UserError(f"{where}: low={low:g}, high={high:g}: low must be below high, and both finite")
    if scale == "log" and low <= 0:
        raise UserError(f"{where}: low={low:g}: must be above 0 on a scale of logarithms")
    return Span(low, high, scale, kind is int)


def _values(where: str, values: list[Any], config: ConfigDict, key: str) -> tuple[Any, ...]:
    if not values:
        raise UserError(f"{where}: is empty; give one value or more")
    typed = tuple(_typed(where, value, _kind(config, key)) for value in values)
    seen = set[str]()
    for value in typed:
        if repr(value) in seen:
            raise UserError(f"{where}: holds {value} twice; leave one out")
        seen.add(repr(value))
    return typed


def _kind(config: ConfigDict, key: str) -> type:
    """Return the type of a key, of one without a value too."""
    *sections, name = key.split(".")
    for section in sections:
        config = config[section]
    return config.get_type(name)


def _typed(where: str, value: Any, kind: type) -> Any:
    """Return a value of the file as the config has it."""
    if type(value) is int and abs(value) >= 2**63:
        raise UserError(f"{where}: {str(value)[:20]}...: has too many digits; write fewer")
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if type(value) is not kind:
        wanted = {tuple: "a list", str: "text in quotes", bool: "true or false", int: "a whole number"}
        raise UserError(f"{where}: {value!r} must be {wanted.get(kind, 'a number')}")
    return value


def _numbers(where: str, table: Mapping[str, Any], takes: Mapping[str, tuple[type, float]]) -> dict[str, Any]:
    """Return the numbers of a table, each of its type and no less than its bound."""
    numbers: dict[str, Any] = {}
    for name, value in table.items():
        if name not in takes:
            raise UserError(f"{where}: {name}: must be one of {', '.join(takes)}{nearest(name, takes)}")
        kind, least = takes[name]
        numbers[name] = _typed(f"{where}: {name}", value, kind)
        if not (math.isfinite(numbers[name]) and numbers[name] >= least):
            raise UserError(f"{where}: {name}={value}: must be at least {least:g}")
    return numbers
