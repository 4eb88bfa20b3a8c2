"""What the JSON files of a run say: of the kinds that a run writes, whoever has written them, or one line.

A run folder may be somebody else's. What is there is looked at when it is read; what is not, when it is asked for.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from train import json_file
from train.errors import UserError

CONFIG, ENVIRONMENT, METRICS, RESULT = "config.json", "environment.json", "metrics.jsonl", "result.json"

# What stands in these files, of what kind; a number may be whole. Other keys may hold anything.
_LINE: dict[str, Any] = {
    **dict.fromkeys(("step", "count"), int),
    **dict.fromkeys(("epoch", "loss", "accuracy", "top5_accuracy", "images_per_second", "learning_rate"), float),
    "seconds": float,
    "split": str,
}
_KINDS: dict[str, dict[str, Any]] = {
    METRICS: _LINE,
    RESULT: {
        **dict.fromkeys(("step", "best_step", "parameters", "test.count"), int),
        **dict.fromkeys(("seconds", "compile_seconds", "train.images_per_second"), float),
        **{f"{split}.{name}": float for split in ("train", "test") for name in ("loss", "accuracy", "top5_accuracy")},
        **dict.fromkeys(("train", "test"), dict),
        "test_split": str,
    },
    ENVIRONMENT: {
        **dict.fromkeys(("data", "data.counts", "packages", "weights"), dict),
        **dict.fromkeys(("started", "command_line", "python", "platform"), str),
        **dict.fromkeys(("data.source", "data.fingerprint"), str | None),  # None of imported weights
        **{f"weights.{name}": str for name in ("file", "sha256", "preprocessing", "class_names")},
        "weights.published": str | None,
        "weights.proof": dict | None,
        "weights.proof.relative": float,
        "weights.proof.images": int,
        **dict.fromkeys(("data.skipped", "devices", "resumed", "weights.new_layers", "weights.proof.of"), list),
        **dict.fromkeys(("weights.new_layers.*", "weights.proof.of.*"), str),
        "data.counts.*": int,
        "git": dict | None,
        "cpus": int,
    },
}


class _Unsaid(UserError, KeyError):
    """A file does not say what it is asked for; to a template, it is not defined."""


class _Said(dict[str, Any]):
    """What a file says of a run; what it does not say, and is asked for, is one line."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, key: str) -> NoReturn:
        raise _Unsaid(f"{self._path}: does not say {key!r}; it is damaged, or of another version of oldmasters")


def said(path: Path, values: Any) -> _Said:
    """Return what a file holds: a JSON object whose values are of the kinds that a run writes.

    Raises:
      ValueError: it is something else.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    for key, kind in _KINDS[path.name].items():
        *outer, last = key.split(".")
        inside: Any = values
        for name in outer:
            inside = inside.get(name) if isinstance(inside, dict) else None
        for value in _named(last, inside):
            if not _is_of(kind, value):
                raise ValueError(f"its {key} is {str(value)[:100]!r}")
    return _with_path(path, values)


def _named(name: str, inside: Any) -> Iterable[Any]:
    """Return what stands under a name in an object, or under `*`, all that stands in an object or a list."""
    if isinstance(inside, dict):
        return inside.values() if name == "*" else (inside[key] for key in {name} & inside.keys())
    return inside if isinstance(inside, list) and name == "*" else ()


def _is_of(kind: Any, value: Any) -> bool:
    if isinstance(value, int) and kind in (int, float):  # written, it may have any number of digits: 20 are too many
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, kind)


def _with_path(path: Path, values: dict[str, Any]) -> _Said:
    return _Said(path, {key: _with_path(path, it) if isinstance(it, dict) else it for key, it in values.items()})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; a last one that a kill has torn does not count.

    Raises:
      UserError: another line is damaged; nothing of the file is given up for it.
    """
    try:
        lines = json_file.content(path).splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); put it back from a copy, or train again") from error
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json_file.parsed(line)
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}: is no JSON; mend it, or delete the line") from error
            break
        try:
            record = said(path, values)
            if strange := [key for key, value in record.items() if key not in _LINE and not _is_of(float, value)]:
                raise ValueError(f"its {strange[0]} is no number")
            record["step"], record["split"]
        except (ValueError, RecursionError, UserError) as error:
            raise UserError(f"{path}, line {number}: is no line of a run's ({error}); mend it, or delete it") from error
        records.append(record)
    return records


def read_said(path: Path) -> dict[str, Any]:
    """Return what a result.json or an environment.json says.

    Raises:
      UserError: it is no such file; or, when it is asked for something, does not say that.
    """
    found: dict[str, Any] = read(path, lambda data: said(path, json_file.parsed(data)))
    return found


def read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """Return what `parse` makes of a file.

    Raises:
      UserError: it cannot be read, or is damaged.
    """
    try:
        return parse(json_file.content(path))
    except (OSError, ValueError, RecursionError, UserError) as error:
        again = (
            "; without it, the command that trained writes it again"
            if path.name == RESULT
            else "; put it back from a copy, or train again"
        )
        reason = why if len(why := str(error)) <= 1000 else f"{why[:700]} ... {why[-250:]}"
        raise UserError(f"{path}: cannot be read ({reason}){again}") from error
