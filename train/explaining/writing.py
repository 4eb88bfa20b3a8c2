"""An explanation as files: pictures, numbers, and a page that shows both."""

from pathlib import Path
from typing import Any

import numpy as np

from train.errors import UserError
from train.explaining.of_image import AtStage, Explanation
from train.explaining.overlay import VIOLET, enlarged, lay, peak, png
from train.pages import drawing, page
from train.run import to_json
from train.whole import write_whole

# Classes that the page and the numbers name.
_MOST_CLASSES = 5
_OURS = {f"{name}.png" for name in ("image", "saliency", "integrated_gradients", "occlusion", "grad_cam", "patches")}
_OURS |= {"explain.json", "explain.html"}


def check(folder: Path) -> None:
    """Make sure that nothing would be lost in a folder.

    Raises:
      UserError: it holds files that an explanation would write, and none is there; names one.
    """
    there = _OURS & {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if there and "explain.json" not in there:
        raise UserError(f"--output={folder}: holds a file {min(there)} that is no explanation's; name another folder")


def write(explanation: Explanation, folder: Path) -> None:
    """Write a PNG file for each picture, explain.json and explain.html; each file appears whole.

    Args:
      explanation: what is written.
      folder: where; it is made, and a picture of an earlier explanation that this one lacks goes.

    Raises:
      OSError: a file cannot be written.
    """
    pictures = draw(explanation)
    patches = _sheet(explanation.at_stage) if explanation.at_stage and explanation.at_stage.patches else None
    html = page.encoded(as_page(explanation, pictures))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "explain.html").unlink(missing_ok=True)  # until the new one is there
    write_whole(folder / "explain.json", to_json(as_json(explanation)))  # first: it says whose folder this is
    for name, picture in ({"grad_cam": None} | pictures | {"patches": patches}).items():
        file = folder / f"{name}.png"
        if picture is None:
            file.unlink(missing_ok=True)
        else:
            write_whole(file, picture)
    write_whole(folder / "explain.html", html)


def draw(explanation: Explanation) -> dict[str, bytes]:
    """Return PNG files: the image, and each map laid over it."""
    image, at_stage = explanation.pixels, explanation.at_stage
    laid = {
        "saliency": lay(explanation.saliency, image, VIOLET),
        "integrated_gradients": lay(explanation.integrated.attributions.sum(-1), image),
        "occlusion": lay(explanation.occlusion, image),
    }
    if at_stage:
        laid["grad_cam"] = lay(at_stage.grad_cam, image)
    return {name: png(picture) for name, picture in ({"image": enlarged(image)} | laid).items()}


def _sheet(at_stage: AtStage) -> bytes:
    entries = [
        drawing.Entry([enlarged(patch.pixels)], [[f"{patch.activation:.4g}", patch.id]]) for patch in at_stage.patches
    ]
    title = f"What excites unit {at_stage.unit} of {at_stage.row.name} most"
    return drawing.sheet(entries, len(entries), title)


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return the numbers; places are [row, column] in the image that the network sees."""
    integrated, index = explanation.integrated, explanation.index
    ranking = np.argsort(-explanation.probabilities, kind="stable")[:_MOST_CLASSES].tolist()

    def of_class(index: int) -> dict[str, Any]:
        return {
            "class": explanation.classes[index],
            "index": index,
            "probability": float(explanation.probabilities[index]),
            "logit": float(explanation.logits[index]),
        }

    def largest(values: np.ndarray) -> dict[str, Any]:
        return {"maximum": float(values.max()), "at": list(peak(values))}

    return {
        "image": explanation.image,
        "run": explanation.run,
        "network": explanation.network,
        "shape": list(explanation.pixels.shape),
        "explained": of_class(index),
        "predictions": [of_class(one) for one in ranking],
        "saliency": largest(explanation.saliency),
        "integrated_gradients": largest(integrated.attributions.sum(-1))
        | {
            "steps": integrated.steps,
            "sum": integrated.total,
            "difference": integrated.difference,
            "completeness_error": integrated.error,
        },
        "occlusion": largest(explanation.occlusion)
        | {"window": explanation.window.size, "stride": explanation.window.stride},
        "grad_cam": (
            largest(at_stage.grad_cam) | {"stage": at_stage.row.name, "shape": list(at_stage.row.shape)}
            if (at_stage := explanation.at_stage)
            else {"left_out": explanation.without_maps}
        ),
        "patches": _patches_as_json(at_stage) if at_stage else {"left_out": explanation.without_maps},
    }


def _patches_as_json(at_stage: AtStage) -> dict[str, Any]:
    searched = at_stage.searched
    of_unit = {
        "stage": at_stage.row.name,
        "unit": at_stage.unit,
        "in_image": {"activation": at_stage.activation, "box": at_stage.box._asdict()},
    }
    if searched is None:
        return of_unit | {"left_out": at_stage.without_patches}
    return of_unit | {
        "source": searched.source,
        "split": searched.split,
        "searched": searched.images.total,
        "top": [
            {"id": patch.id, "activation": patch.activation, "box": patch.box._asdict()} for patch in at_stage.patches
        ],
    }


def as_page(explanation: Explanation, pictures: dict[str, bytes]) -> str:
    """Return the page; `pictures` are those of `draw`."""
    at_stage, shape = explanation.at_stage, explanation.pixels.shape
    strongest: list[dict[str, Any]] = []
    own = ""
    if at_stage:
        top, left, bottom, right = at_stage.box
        own = page.embedded(png(enlarged(explanation.pixels[top:bottom, left:right])))
        strongest = [
            {
                "id": patch.id,
                "activation": patch.activation,
                "picture": page.embedded(png(enlarged(patch.pixels))),
            }
            for patch in at_stage.patches
        ]
    numbers = as_json(explanation)
    return page.render(
        "explain",
        image=Path(explanation.image).name,
        run=explanation.run,
        numbers=numbers,
        side=shape[0],
        pictures={name: page.embedded(picture) for name, picture in pictures.items()},
        field=at_stage.row.fields[0] if at_stage else None,
        units=at_stage.row.shape[-1] if at_stage else 0,
        own=own,
        strongest=strongest,
    )
