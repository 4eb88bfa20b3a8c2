"""Bring weights that others trained into a run folder, and prove that they answer as they did.

    python -m scripts.import_weights --weights=vgg16-397923af.pth --workdir=runs/vgg16
    python -m scripts.import_weights --model=lenet5 --weights=model.onnx --workdir=runs/theirs \
      --config.dataset.resize=bilinear --config.dataset.mean='(0.,)' --config.dataset.std='(1.,)' --verify=pairs.npz

PyTorch's .pth and .pt, .safetensors, Keras's .h5 and .weights.h5, ONNX and Caffe's models; neither PyTorch nor Keras
nor Caffe has to be installed. What the file does not say of the network, or of how images are prepared for it, keys of
configs/base.py do.
"""

if not __package__:
    raise SystemExit("error: run it as: python -m scripts.import_weights")

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from models import NETWORKS, full_name
from scripts import command
from train.errors import UserError
from train.weights import importing, printing, proof, published
from train.weights.settling import HEADS

_WEIGHTS = flags.DEFINE_string("weights", None, "The file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder that is made.")
_MODEL = flags.DEFINE_string("model", None, f"The network: {', '.join(NETWORKS)}. Published files and our own say it.")
_VARIANT = flags.DEFINE_string("variant", None, "Its variant. Default: the network's first.")
_PREPROCESSING = flags.DEFINE_enum(
    "preprocessing",
    None,
    list(published.PREPROCESSINGS),
    "How images are prepared, where it is as for published weights.",
)
_HEAD = flags.DEFINE_enum(
    "head",
    "keep",
    HEADS,
    "drop: begin the last layer anew; drop_dense: all dense layers. Both take config.dataset.classes.",
)
_CLASS_NAMES = flags.DEFINE_string("class_names", None, "A file with a class's name a line, or imagenet.")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print what would be done with each tensor, and do nothing.")
_VERIFY = flags.DEFINE_string(
    "verify", None, "A .npz file with the source's inputs, and its outputs, probabilities or stages by our names."
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance", proof.TOLERANCE, "Largest difference, relative to the largest value.", lower_bound=0, upper_bound=1
)


def main() -> None:
    """Match, read, prove, write."""
    if not _WEIGHTS.value:
        raise UserError("--weights=FILE is missing: the file that is brought here")
    if not _WORKDIR.value and not _DRY_RUN.value:
        raise UserError("--workdir=FOLDER is missing: the run folder that is made (or --dry_run)")
    config, given = flags.FLAGS.config, set(config_flags.get_override_values(flags.FLAGS["config"]))
    for key, value in (("name", _MODEL.value), ("variant", _VARIANT.value)):
        if value is not None:
            config.model[key] = value
            given.add(f"model.{key}")
    if _CLASS_NAMES.value:
        config.dataset.update(published.class_names(_CLASS_NAMES.value))
        given |= {"dataset.class_names", "dataset.class_ids"}
    workdir = Path(_WORKDIR.value or "").expanduser()
    if not _DRY_RUN.value:
        importing.vacant(workdir)
    weights = Path(_WEIGHTS.value).expanduser()
    plan = importing.plan(config, given, weights, preprocessing=_PREPROCESSING.value, head=_HEAD.value)
    if _DRY_RUN.value:
        printing.print_plan(plan)
        return
    made, proven = importing.read(plan), None
    if _VERIFY.value:
        pairs = Path(_VERIFY.value).expanduser()
        differences, images = importing.verify(plan, made, pairs)
        printing.print_proof(differences)
        if over := proof.first_over(differences, _TOLERANCE.value):
            raise UserError(
                f"{weights}: is not the same network here: {over.name} differs by {over.relative:.2g} of its largest "
                f"value, more than --tolerance={_TOLERANCE.value:g}; nothing was written"
            )
        proven = {
            "file": pairs.name,
            "images": images,
            "relative": max(each.relative for each in differences),
            "of": [each.name for each in differences],
        }
    importing.write(plan, made, workdir, proven)
    print(f"{workdir}: {full_name(config.model.name, config.model.variant)}, {printing.origin(plan)}")


if __name__ == "__main__":
    command.launch(main, config="base.py")
