"""Map what a trained network makes of images: each a point, near those that the network takes to be alike.

    python -m scripts.embed --run=runs/lenet5_mnist --output=maps/lenet5_mnist
    python -m scripts.embed --run=runs/alexnet --layer=pixels,conv5,fc7 --checkpoints=all --output=maps/alexnet

Open explorer.html in the folder, with no network needed: it shows the image under each point, at each of the layers
and checkpoints. embedding.npz has the coordinates, embedding.json the figures, and pca.png and tsne.png the pictures.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.embed")

from pathlib import Path

from absl import flags

from scripts import command, outputs
from train.embedding import of_run, projection, writing
from train.errors import UserError
from train.run import RunFolder

_RUN = flags.DEFINE_string("run", None, "The run folder.")
_SOURCE = flags.DEFINE_string(
    "source", None, "Images, as in config.dataset.source. Default: the run's own test images."
)
_LAYER = flags.DEFINE_list("layer", [], 'Stages: one or several, "pixels", or "all". Default: the last hidden one.')
_METHOD = flags.DEFINE_list("method", list(projection.METHODS), "pca, tsne, or both.")
_POINTS = flags.DEFINE_integer("points", of_run.POINTS, "The most images, drawn at random from a source with more.")
_PERPLEXITY = flags.DEFINE_float(
    "perplexity", 30.0, "Of t-SNE: how many neighbours count.", lower_bound=projection.LEAST_PERPLEXITY
)
_LOWER = flags.DEFINE_boolean("lower_perplexity", False, "Lower it where there are too few images for it.")
_CHECKPOINTS = flags.DEFINE_enum("checkpoints", "best", ["best", "all"], "The best, or all that the run has kept.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the images that are drawn, and of t-SNE.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "The folder of the maps.")


def main() -> None:
    """Map, write, say where."""
    if not (_RUN.value and _OUTPUT.value):
        raise UserError("--run=FOLDER and --output=FOLDER are needed: whose network, and where the maps go")
    run = RunFolder(Path(_RUN.value).expanduser())
    options = of_run.Options(
        source=_SOURCE.value,
        stages=tuple(_LAYER.value),
        methods=tuple(_METHOD.value),
        points=_POINTS.value,
        perplexity=_PERPLEXITY.value,
        lower_perplexity=_LOWER.value,
        every_checkpoint=_CHECKPOINTS.value == "all",
        seed=_SEED.value,
    )
    output = outputs.folder(_OUTPUT.value)
    writing.check(output)
    embedding = of_run.embed(run, options, lambda line: print(line, flush=True))
    if embedding.perplexity not in (None, options.perplexity):
        print(f"note: the perplexity is {embedding.perplexity:g}: there are {len(embedding.ids):,} images")
    if embedding.split == "all":
        print("note: these are all images of the source, and the network may have seen some in training")
    for path in writing.write(embedding, output):
        print(path)


if __name__ == "__main__":
    command.launch(main)
