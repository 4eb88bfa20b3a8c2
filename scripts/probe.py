"""Train on stored activations: how well do they tell the classes?

    python -m scripts.probe --features=features/fc7 --method=linear --output=linear.json
    python -m scripts.probe --features=features/fc7 --method=knn --layer=fc6
    python -m scripts.probe --features=features/fc7 --method=few_shot --shots=1,5,20 --draws=20

linear is logistic regression, knn a vote of the nearest in cosine similarity, few_shot logistic regression on few
images a class, drawn again and again. What they choose, they choose by the accuracy on validation images.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.probe")

from pathlib import Path
from typing import Any

from absl import flags
from rich.box import SIMPLE
from rich.table import Table

from scripts import command, outputs
from train.data.activations import Store
from train.errors import UserError
from train.probes import methods
from train.terminal import console

_FEATURES = flags.DEFINE_string("features", None, "Folder of stored activations, which scripts.extract has made.")
_METHOD = flags.DEFINE_enum("method", None, ["linear", "knn", "few_shot"], "What is trained.")
_LAYER = flags.DEFINE_string("layer", None, "Stage whose activations are taken. Default: the last one stored.")
_OUTPUT = flags.DEFINE_string("output", None, "Write the figures to this JSON file.")
_SHOTS = flags.DEFINE_list("shots", ["1", "5", "20"], "few_shot: images a class.")
_DRAWS = flags.DEFINE_integer("draws", 20, "few_shot: subsets that are drawn of each size.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "few_shot: seed of the draws.", lower_bound=0)


def main() -> None:
    """Read, train, print, write."""
    if not _FEATURES.value:
        raise UserError("--features=DIR is missing: a folder that scripts.extract has made")
    if not _METHOD.value:
        raise UserError("--method=NAME is missing: one of linear, knn, few_shot")
    for flag in (_SHOTS, _DRAWS, _SEED):
        if flag.present and _METHOD.value != "few_shot":
            raise UserError(f"--{flag.name}: --method={_METHOD.value} does not take it; leave it out")
    if not all(shots.isdecimal() and len(shots) < 10 for shots in _SHOTS.value):
        raise UserError(f"--shots={','.join(_SHOTS.value)}: must be whole numbers with commas between, as 1,5,20")
    write = outputs.json_output(_OUTPUT.value)
    store = Store(Path(_FEATURES.value).expanduser())
    layer = store.layer(_LAYER.value)
    few_shot = _METHOD.value == "few_shot"
    parts = {split: store.load(split, layer, all_views=not few_shot) for split in store.splits}
    if few_shot:
        shots = [int(shots) for shots in _SHOTS.value]
        figures = methods.few_shot(parts, shots, _DRAWS.value, _SEED.value, store.class_names)
    else:
        figures = {"linear": methods.linear, "knn": methods.knn}[_METHOD.value](parts)
    figures = {"method": _METHOD.value, "layer": layer} | figures
    _print(figures)
    write(figures)


def _print(figures: dict[str, Any]) -> None:
    table, sizes = Table(box=SIMPLE), figures.get("shots")
    if sizes:
        for column in ("images a class", "accuracy", "95 % of the mean", "lowest", "highest", "strength"):
            table.add_column(column, justify="right")
        for size in sizes:
            shares = (_percent(size["accuracy"]), _interval(size), _percent(size["lowest"]), _percent(size["highest"]))
            table.add_row(str(size["images_per_class"]), *shares, f"{size['strength']:g}")
    else:
        chosen = "k" if figures["method"] == "knn" else "strength"
        for column in (chosen, "validation accuracy"):
            table.add_column(column, justify="right")
        for value, share in figures["tried"].items():
            table.add_row(value, _percent(share), style="bold" if value == f"{figures[chosen]:g}" else None)
    console().print(table)
    taken = f"mean of {sizes[-1]['draws']} draws" if sizes else f"{chosen} {figures[chosen]:g}"
    print(
        f"{figures['method']} on {figures['layer']}: {_percent(figures['accuracy'])} (95 %: {_interval(figures)}) of "
        f"{figures['count']:,} test images; {taken}"
    )
    for warning in figures["warnings"]:
        print(f"note: {warning}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _interval(figures: dict[str, Any]) -> str:
    return " to ".join(f"{100 * end:.2f}" for end in figures["interval"])


if __name__ == "__main__":
    command.launch(main)
