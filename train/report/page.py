"""report.html: what a run was, what came of it, and what its network looks like inside, on one page."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from models import full_name
from train.pages import page
from train.pages.drawing import Drawn
from train.pages.thumbnail import picture
from train.records import METRICS
from train.report.findings import Findings, OfTest
from train.report.mistakes import SHOWN

# Pairs of duplicates on the page; all are in duplicates.json.
_PAIRS = 8
# What the page shows of environment.json and of result.json.
_OF_ENVIRONMENT = ("started", "command_line", "devices", "cpus", "platform", "python", "packages")
_OF_DATA, _OF_GIT = ("source", "counts", "fingerprint", "skipped"), ("commit", "dirty")
_OF_RESULT, _OF_TEST = ("test_split", "seconds", "step"), ("accuracy", "count", "loss")
# Up to so many classes, their table is open.
_CLASSES = 20


def build(found: Findings, drawn: Mapping[str, Drawn], network: bytes) -> str:
    """Return the page.

    Args:
      found: what there is to say.
      drawn: figures by name: curves, filters; and of the test images confusion, calibration, stages, neighbourhood.
      network: the drawing of the network, an SVG file.

    Raises:
      UserError: a photo cannot be read or decoded any more.
    """
    run = found.run
    config, environment, result = run.config, run.environment, run.result or {}
    git, data, test = environment["git"], environment["data"], result["test"] if result else {}
    shown = [(environment, _OF_ENVIRONMENT), (data, _OF_DATA), (git, _OF_GIT), (result, _OF_RESULT), (test, _OF_TEST)]
    for said, keys in shown:
        for key in keys if said else ():
            said[key]  # a file that does not say it is named
    return page.render(
        "report",
        name=run.path.resolve().name,
        model=full_name(config.model.name, config.model.variant),
        source=environment["data"]["source"],
        written=time.strftime("%Y-%m-%d %H:%M"),
        result=result,
        chance=1 / config.dataset.classes,
        published=found.published,
        crop=config.dataset.crop,
        parameters=sum(row.parameters for row in found.rows),
        environment=environment,
        options=_options(config.to_dict()),
        rows=found.rows,
        macs=sum(row.macs for row in found.rows),
        network=page.embedded(network),
        figures={name: (page.embedded(figure.light), page.embedded(figure.dark)) for name, figure in drawn.items()},
        metrics=METRICS,
        best=_best(found),
        of_test=None if found.of_test is None else _of_test(found.of_test, found.class_names),
        timings=_timings(found),
    )


def _options(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return every key of a config that has a value, dotted, and the value as text."""
    options: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            options += _options(value, f"{before}{key}.")
        elif value is not None:
            options.append((f"{before}{key}", str(value)))
    return options


def _best(found: Findings) -> dict[str, Any] | None:
    """Return the line of metrics.jsonl in which the chosen checkpoint was validated."""
    step = (found.run.result or {}).get("best_step")
    lines = [line for line in found.records if line["split"] == "validation" and line["step"] == step]
    return lines[-1] if lines else None


def _of_test(of: OfTest, names: Sequence[str]) -> dict[str, Any]:
    counts = of.confusion
    classes = zip(names, counts.counts.sum(1).tolist(), counts.recall.tolist(), counts.precision.tolist(), strict=True)
    return {
        "count": of.images.total,
        "classes": [dict(zip(("name", "images", "recall", "precision"), row, strict=True)) for row in classes],
        "open": len(names) <= _CLASSES,
        "pairs": [(names[label], names[taken_for], count) for label, taken_for, count in counts.pairs()[:5]],
        "calibration": of.calibration,
        "mistakes": [
            {
                "image": page.embedded(page.image_file(picture(of.images, wrong.place))),
                "id": of.ids[wrong.place],
                "label": names[wrong.label],
                "taken_for": names[wrong.taken_for],
                "probability": wrong.probability,
                "of_label": wrong.of_label,
            }
            for wrong in of.mistakes[:SHOWN]
        ],
        "wrong": len(of.mistakes),
        "silence": of.silence,
        "seen": {"id": of.seen.id, "label": names[of.seen.label], "taken_for": names[of.seen.taken_for]},
        "duplicates": _duplicates(of, names),
        "neighbourhood": of.neighbourhood,
    }


def _duplicates(of: OfTest, names: Sequence[str]) -> dict[str, Any] | None:
    if of.duplicates is None:
        return None
    pairs = [
        {
            "kind": pair.kind,
            "test": page.embedded(page.image_file(picture(of.images, pair.test))),
            "train": page.embedded(page.image_file(picture(of.train, pair.train))),
            "test_id": of.ids[pair.test],
            "train_id": of.train_ids[pair.train],
            "labels": (names[pair.test_label], names[pair.train_label]),
        }
        for pair in of.duplicates.pairs[:_PAIRS]
    ]
    return {"concerned": len(of.duplicates.tests), "bound": of.duplicates.bound, "pairs": pairs}


def _timings(found: Findings) -> list[tuple[str, str]]:
    """Return what took how long: of the run, and of finding what stands on the page."""
    result = found.run.result or {}
    lines: list[tuple[str, str]] = []
    if "seconds" in result:
        lines = [
            ("the run, from the first step to the result", _seconds(result["seconds"])),
            ("of that, compiling the training step", _seconds(result["compile_seconds"])),
            ("training, median between two lines of the log", f"{result['train']['images_per_second']:,.0f} images/s"),
        ]
    return [*lines, *((f"for this page: {what}", _seconds(took)) for what, took in found.seconds.items())]


def _seconds(seconds: float) -> str:
    minutes = f" ({seconds / 60:.1f} min)" if seconds >= 120 else ""
    return f"{seconds:,.1f} s{minutes}"
