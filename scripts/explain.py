"""Show where a network's decision about one image comes from.

    python -m scripts.explain --run=runs/ants_and_bees --image=photo.jpg --output=explained
    python -m scripts.explain --run=runs/ants_and_bees --image=photo.jpg --class=bees --stage=conv3 --output=explained

--output is a folder: explain.html shows everything, explain.json has the numbers, and each picture is a PNG file. The
methods are saliency, integrated gradients, occlusion, Grad-CAM, and the patches of other images that excite a unit
most.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.explain")

from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.errors import UserError
from train.explaining.of_image import explain
from train.explaining.writing import check, write
from train.run import RunFolder
from train.terminal import printable

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_IMAGE = flags.DEFINE_string("image", None, "A JPEG, PNG or WebP file.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder of what is written.")
_CLASS = flags.DEFINE_string("class", None, "Whose score is explained. Default: the most probable class.")
_STAGE = flags.DEFINE_string("stage", None, "Of Grad-CAM and the patches. Default: the last convolution's.")
_UNIT = flags.DEFINE_integer("unit", None, "Of that stage, for the patches. Default: the one most excited here.")
_SOURCE = flags.DEFINE_string(
    "source", None, "Images that patches are cut from, as in config.dataset.source. Default: the run's own."
)
_IMAGES = flags.DEFINE_integer("images", 2000, "How many of them are looked at, evenly spread.", lower_bound=1)


def main() -> None:
    """Explain and write."""
    if not (_RUN.value and _IMAGE.value and _OUTPUT.value):
        raise UserError(
            "--run=FOLDER, --image=FILE and --output=FOLDER are needed: whose decision, about what, and where to write"
        )
    folder, output = RunFolder(Path(_RUN.value).expanduser()), outputs.folder(_OUTPUT.value)
    check(output)
    explanation = explain(
        folder,
        _IMAGE.value,
        class_name=_CLASS.value,
        stage=_STAGE.value,
        unit=_UNIT.value,
        source=_SOURCE.value,
        most=_IMAGES.value,
        say=lambda line: print(line, flush=True),
    )
    write(explanation, output)
    name, share = explanation.classes[explanation.index], explanation.probabilities[explanation.index]
    error = explanation.integrated.error
    print(f"{printable(name)}: {share:.2%}; integrated gradients add up within {error:.2%}")
    if explanation.without_maps:
        print(f"no Grad-CAM and no patches: {explanation.without_maps}")
    elif explanation.at_stage and explanation.at_stage.without_patches:
        print(f"no patches: {explanation.at_stage.without_patches}")
    print(output / "explain.html")


if __name__ == "__main__":
    command.launch(main)
