"""One decision of a trained network, looked at from every side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from models import full_name
from models.arithmetic import ReceptiveField, Window
from models.summary import Row
from train import devices
from train.checkpoints import load_network
from train.data import decode
from train.errors import UserError, nearest
from train.explaining import attribution, patches
from train.explaining.attribution import Integrated, Score
from train.explaining.overlay import peak, spread
from train.explaining.patches import Box, Patch, Searched
from train.explaining.scores import Scores
from train.integrity import check_answers
from train.predict import sized
from train.run import RunFolder

# Zeiler and Fergus 2014 show windows of some 50 of 224 pixels; here they move by a 28th of the image.
_WINDOW, _MOVES = 50 / 224, 28
# As many as Zeiler and Fergus 2014 show of each unit.
_PATCHES = 9


class AtStage(NamedTuple):
    """What one stage contributes.

    Attributes:
      row: the stage.
      grad_cam: where it speaks for the class, `[H, W]`.
      unit: of its units, the one that is looked at.
      activation: the unit's largest for this image.
      box: what the unit sees there.
      patches: of other images, that excite the unit most, the strongest first.
      searched: the images they are from; None where there are none.
      without_patches: why, or nothing.
    """

    row: Row
    grad_cam: np.ndarray
    unit: int
    activation: float
    box: Box
    patches: list[Patch]
    searched: Searched | None
    without_patches: str


@dataclass(frozen=True)
class Explanation:
    """What a trained network says of an image, and where that comes from.

    Attributes:
      image: the file.
      run: the run folder.
      network: what people call it.
      pixels: the image as the network sees it, uint8 `[H, W, C]`.
      classes: their names.
      index: of the class that is explained.
      logits: of the classes, `[classes]`.
      probabilities: of the classes, `[classes]`.
      saliency: how strongly the class's score changes with each pixel, `[H, W]`.
      integrated: what each value of the image contributes to the score.
      window: that hides a part of the image, along each dimension.
      occlusion: by how much the score falls where the window's middle lies, `[H, W]`.
      at_stage: what a stage with maps contributes; None where the network has none.
      without_maps: why, or nothing.
    """

    image: str
    run: str
    network: str
    pixels: np.ndarray
    classes: tuple[str, ...]
    index: int
    logits: np.ndarray
    probabilities: np.ndarray
    saliency: np.ndarray
    integrated: Integrated
    window: Window
    occlusion: np.ndarray
    at_stage: AtStage | None
    without_maps: str


def explain(
    folder: RunFolder,
    image: str,
    *,
    class_name: str | None = None,
    stage: str | None = None,
    unit: int | None = None,
    source: str | None = None,
    most: int = 2000,
    say: Callable[[str], None] = lambda line: None,
) -> Explanation:
    """Explain what the best checkpoint of a run says of an image.

    Args:
      folder: of the run.
      image: a JPEG, PNG or WebP file.
      class_name: of the class whose score is explained; by default the most probable.
      stage: for Grad-CAM and the unit; by default as `Scores.row` chooses.
      unit: of the stage; by default the one that this image excites most.
      source: of images that patches are looked for in; by default the run's own, if it is there.
      most: of those images, how many are looked at.
      say: is told what is done next.

    Raises:
      UserError: the image cannot be used, there is no such class, stage or unit, the run has no checkpoint, or `source`
        cannot be read.
    """
    with jax.default_matmul_precision("highest"):  # TPUs and GPUs round float32 products to fewer digits otherwise
        return _explained(folder, image, class_name, stage, unit, source, most, say)


def _explained(
    folder: RunFolder,
    image: str,
    class_name: str | None,
    stage: str | None,
    unit: int | None,
    source: str | None,
    most: int,
    say: Callable[[str], None],
) -> Explanation:
    config, mesh = folder.config, devices.make_mesh(None)
    pixels = _read(image, config.dataset)
    scores = Scores(load_network(folder, mesh), config)
    row = scores.row(stage)
    if unit is not None and (row is None or not 0 <= unit < row.shape[-1]):
        has = f"stage {row.name} has the units 0 to {row.shape[-1] - 1}" if row else scores.without_maps
        raise UserError(f"--unit={unit}: {has}")
    logits, probabilities = scores.say(pixels)
    check_answers(probabilities[np.newaxis], folder.path, [image])
    index = int(probabilities.argmax()) if class_name is None else _index(class_name, scores.classes)
    score, seen = scores.of_class(index), pixels.astype(np.float32)
    say("saliency")
    saliency = jax.device_get(attribution.saliency(score, seen[np.newaxis])[0])
    say("integrated gradients")
    integrated = attribution.integrated_gradients(score, seen)
    say("occlusion")
    window, occlusion = occlude(score, seen, 255 * np.array(config.dataset.mean))
    at_stage = None
    if row is not None:
        say(f"stage {row.name}")
        at_stage = _look_at(row, scores, index, seen, unit)
        say(f"patches that excite unit {at_stage.unit} of {row.name}")
        at_stage = _with_patches(at_stage, scores, config, mesh, source, most)
    return Explanation(
        image=image,
        run=str(folder.path),
        network=full_name(config.model.name, config.model.variant),
        pixels=pixels,
        classes=scores.classes,
        index=index,
        logits=logits,
        probabilities=probabilities,
        saliency=saliency,
        integrated=integrated,
        window=window,
        occlusion=occlusion,
        at_stage=at_stage,
        without_maps=scores.without_maps,
    )


def _read(image: str, config: ConfigDict) -> np.ndarray:
    try:
        with Path(image).expanduser().open("rb") as file:
            return sized(decode.read(file), config)
    except OSError as error:
        raise UserError(f"--image={image}: cannot be read ({error.strerror}); name a JPEG, PNG or WebP file") from error
    except decode.BadImage as error:
        raise UserError(f"--image={image}: {error}; name another") from error


def _index(name: str, classes: tuple[str, ...]) -> int:
    if name in classes:
        return classes.index(name)
    some = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise UserError(f"--class={name}: the {len(classes)} classes are {some}{nearest(name, classes)}")


def occlude(score: Score, image: np.ndarray, gray: np.ndarray) -> tuple[Window, np.ndarray]:
    """Return the window that is laid over an image, and by how much the score falls where its middle lies, `[H, W]`.

    Args:
      score: of images.
      image: float32 `[H, W, C]`, as high as wide.
      gray: the window's colour, `[C]`: the mean of the images, of which a network makes nothing in particular.
    """
    side = len(image)
    size = max(1, round(_WINDOW * side))
    # Half of it may stand over the edge, so that its middle reaches every pixel.
    window = Window(size, max(1, round(side / _MOVES)), (size // 2, size // 2))
    falls = attribution.occlusion(score, image, window, gray)
    return window, spread(falls, (ReceptiveField().behind(window),) * 2, side)


def _look_at(row: Row, scores: Scores, index: int, image: np.ndarray, unit: int | None) -> AtStage:
    halves = scores.divided(row.name)
    maps = attribution.computed(halves.maps, image[np.newaxis])
    grad_cam = jax.device_get(attribution.grad_cam(halves.of_class(index), maps)[0])
    activations = jax.device_get(maps[0])
    unit = int(activations.max((0, 1)).argmax()) if unit is None else unit
    of_unit = activations[..., unit]
    box = patches.box(row.fields, peak(of_unit), len(image))
    return AtStage(row, spread(grad_cam, row.fields, len(image)), unit, float(of_unit.max()), box, [], None, "")


def _with_patches(
    at_stage: AtStage, scores: Scores, config: ConfigDict, mesh: Mesh, source: str | None, most: int
) -> AtStage:
    own = config.dataset.source
    try:
        if not (source or own):
            raise UserError("the run has no images of its own; --source=URI names some")
        images = patches.searched(source or own, config.dataset, most)
        maps, fields = scores.divided(at_stage.row.name).maps, at_stage.row.fields
        found = patches.strongest(maps, at_stage.unit, fields, images, config, mesh, _PATCHES)
    except UserError as error:
        if source:
            raise
        return at_stage._replace(without_patches=str(error))
    return at_stage._replace(patches=found, searched=images)
