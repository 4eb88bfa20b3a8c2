"""What came of a sweep, in numbers: a row for each run, and a group for runs that differ in the seed alone.

`sweep.json` is `{"keys", "log_keys", "chosen_by", "counts", "groups", "runs"}`:

- keys: the dotted keys that vary; log_keys: those drawn on a scale of logarithms.
- chosen_by: "validation" or "test", by whose accuracy groups are sorted, the best first.
- counts: how many runs there are of each status.
- runs: `{"name", "values", "status", "reason", "step", "seconds", "validation", "test"}`; validation is that of the
  best checkpoint, test that of result.json, each `{"loss", "accuracy", "top5_accuracy"}` or null.
- groups: `{"values", "runs", "finished", "validation", "test"}`; values are those without the seed, runs are names, and
  the last two have mean, and interval (95 %, Student's t, null of fewer than two), of the accuracies of the runs that
  are finished; null where there is none.
"""

import math
from collections.abc import Sequence
from typing import Any

from train import intervals
from train.sweep.folder import Outcome, SweepFolder
from train.sweep.ranges import Ranges
from train.sweep.trials import Trial

STATUSES = ("finished", "stopped", "failed", "unfinished", "waiting")
_MEASURED = ("loss", "accuracy", "top5_accuracy")


def collect(folder: SweepFolder, ranges: Ranges, trials: Sequence[Trial]) -> tuple[dict[str, Any], list[Outcome]]:
    """Return what `sweep.json` holds, and the outcome of each run in its order there.

    Raises:
      UserError: a file of a run is damaged.
    """
    outcomes = [folder.outcome(trial) for trial in trials]
    runs = [_run(trial, outcome) for trial, outcome in zip(trials, outcomes, strict=True)]
    chosen_by = "validation" if any(run["validation"] for run in runs) else "test"
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(repr(_without_seed(run["values"])), []).append(run)
    rows = sorted((_group(members) for members in groups.values()), key=lambda row: _order(row, chosen_by))
    return {
        "keys": list(ranges.keys),
        "log_keys": [key for key in ranges.keys if ranges.is_log(key)],
        "chosen_by": chosen_by,
        "counts": {status: sum(run["status"] == status for run in runs) for status in STATUSES},
        "groups": rows,
        "runs": runs,
    }, outcomes


def _run(trial: Trial, outcome: Outcome) -> dict[str, Any]:
    result = outcome.result or {}
    last = outcome.records[-1] if outcome.records else {}
    return {
        "name": trial.name,
        "values": dict(trial.values),
        "status": outcome.status,
        "reason": outcome.reason,
        "step": outcome.step,
        "seconds": result.get("seconds", last.get("seconds")),
        "validation": _measured(outcome.best),
        "test": _measured(result.get("test")),
    }


def _measured(figures: dict[str, Any] | None) -> dict[str, float] | None:
    return None if figures is None else {name: figures[name] for name in _MEASURED}


def _without_seed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "seed"}


def _group(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    finished = [run for run in runs if run["status"] == "finished"]
    row: dict[str, Any] = {
        "values": _without_seed(runs[0]["values"]),
        "runs": [run["name"] for run in runs],
        "finished": len(finished),
    }
    for split in ("validation", "test"):
        accuracies = [run[split]["accuracy"] for run in finished if run[split]]
        row[split] = None
        if accuracies:
            mean, interval = intervals.of_mean(accuracies)
            row[split] = {"mean": mean, "interval": interval}
    return row


def _order(row: dict[str, Any], chosen_by: str) -> tuple[float, float]:
    """The best first; of equal ones on validation the surer; those without a figure last."""
    figure = row[chosen_by]
    if figure is None:
        return math.inf, 0.0
    low, high = figure["interval"] or (0.0, 1.0)
    return -figure["mean"], high - low
