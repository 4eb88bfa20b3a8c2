"""From a file that others wrote to a run folder that reads like any other."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from models import NETWORKS, Network
from train import environment, network, settings
from train.checkpoints import Checkpoints
from train.errors import UserError
from train.network import PyTree
from train.records import CONFIG, ENVIRONMENT, RESULT
from train.run import to_json
from train.weights import layout, matching, proof, published, settling
from train.weights.file import WeightsFile
from train.weights.layout import Slot
from train.weights.matching import Match
from train.weights.opening import open_weights
from train.weights.proof import Difference
from train.weights.published import Published
from train.whole import whole_folder, write_whole


class Plan(NamedTuple):
    """What an import will do; no number has been read yet.

    Attributes:
      file: the file, its tensors not read.
      digests: of the file, by the name of the hash.
      known: which published file it is, if any.
      config: complete.
      network: with shapes in the place of arrays.
      match: which tensor goes where.
      preprocessing: who says how images are prepared.
      class_names: who says what the classes are called.
      preparation_is_known: whether somebody says how images are prepared.
    """

    file: WeightsFile
    digests: dict[str, str]
    known: Published | None
    config: ConfigDict
    network: Network
    match: Match
    preprocessing: str
    class_names: str
    preparation_is_known: bool = True


def plan(config: ConfigDict, given: Iterable[str], path: Path, *, preprocessing: str | None, head: str) -> Plan:
    """Find out what each tensor of a file is to a network.

    Args:
      config: as `configs.base` has it, with what the command line has set; completed in place.
      given: the keys that it has set, dotted.
      path: the file.
      preprocessing: a key of `published.PREPROCESSINGS`, or None.
      head: one of `settling.HEADS`.

    Raises:
      UserError: the file cannot be read, or is not of that network, or something that must be stated is not.
    """
    given = set(given)
    file = open_weights(path, config.dataset.image_size if "dataset.image_size" in given else None)
    return _plan(config, given, file, published.digests(path), preprocessing, head)


def _plan(
    config: ConfigDict,
    given: set[str],
    file: WeightsFile,
    digests: dict[str, str],
    preprocessing: str | None,
    head: str,
) -> Plan:
    known = published.recognise(digests)
    built = settling.complete(config, given, file, known, preprocessing, head)
    dense = matching.dense_layers(built)
    dropped = {"keep": [], "drop": dense[-1:], "drop_dense": dense}[head]
    prepared = preprocessing or (known.preprocessing if known else None)
    by_flags = "the flags say" if "dataset.mean" in given else "the file says"
    named_by_flags = "the flags" if "dataset.class_names" in given else "the file"
    named = "ImageNet's" if known and head == "keep" else named_by_flags if config.dataset.class_names else "numbers"
    return Plan(
        file,
        digests,
        known,
        config,
        built,
        matching.match(file, built, dropped),
        f"{prepared} has it" if prepared else by_flags,
        named,
    )


def plan_to_begin_with(config: ConfigDict, path: Path) -> Plan:
    """Find out what each tensor of a file is to the network that a run begins with.

    Args:
      config: of that run, which says which network it is if the file does not; it is left as it is.
      path: the file.

    Raises:
      UserError: as `plan`.
    """
    theirs = config.copy_and_resolve_references()
    theirs.transfer.update(mode=None, weights=None, frozen_until=None, layer_decay=1.0, store=None)
    theirs.dataset.update(
        dict.fromkeys(("classes", "class_names", "class_ids", "only_classes", "mean", "std", "channels"))
    )
    theirs.augment.update({key: type(value)() for key, value in theirs.augment.items()})
    given = {f"model.{key}" for key, value in config.model.items() if value is not None}
    file, digests = open_weights(path, config.dataset.image_size), published.digests(path)
    known = "dataset.mean" in file.states or published.recognise(digests) is not None
    if not known:  # images are prepared as the run says: nothing of the file is used but its weights
        channels = config.dataset.channels or 3
        forms = NETWORKS.get(config.model.name, {}).values()
        size = next((settings.keyword_defaults(make)["image_size"] for make in forms), None)
        theirs.dataset.update(channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
        theirs.dataset.image_size = config.dataset.image_size or size
        given |= set(settling.PREPARATION)
    made = _plan(theirs, given, file, digests, preprocessing=None, head="keep")
    return made._replace(preparation_is_known=known)


def read(plan: Plan) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """Read every tensor, and return the network as (graph, parameters, batch statistics), of NumPy arrays.

    Raises:
      UserError: tensors are missing, too many or of another shape (all are named), or hold NaN, Inf or a variance
        below 0.
    """
    plan.match.check(plan.file.path)
    graph, params, stats = network.describe(plan.config)
    trees = {"params": jax.tree.map(lambda _: None, params), "stats": jax.tree.map(lambda _: None, stats)}
    for slot, array in matching.read(plan.match.rows, plan.file.channels_first, lambda slot: _new(plan.config, slot)):
        if flaw := layout.flaw(array, slot):
            hint = (
                "; --head=drop_dense leaves the dense layers out"
                if slot.kind == "dense"
                else "; save it from a network that is sound"
            )
            raise UserError(f"{plan.file.path}: the tensor for {slot.name} {flaw}{hint}")
        trees["stats" if slot.leaf in ("mean", "var") else "params"][slot.layer][slot.leaf] = array
    return graph, trees["params"], trees["stats"]


def _new(config: ConfigDict, slot: Slot) -> np.ndarray:
    """Return an array as a network of that seed begins with it; the compiler leaves the others out."""
    key = jax.random.key(config.seed)
    return np.asarray(jax.jit(lambda key: network.build(config, key)[1][slot.layer][slot.leaf])(key))


def verify(plan: Plan, made: tuple[nnx.GraphDef, PyTree, PyTree], path: Path) -> tuple[list[Difference], int]:
    """Hold the network against its source's activations (see `proof.compare`)."""
    return proof.compare(*made, path, channels_first=plan.file.channels_first)


def write(plan: Plan, made: tuple[nnx.GraphDef, PyTree, PyTree], workdir: Path, proven: dict[str, Any] | None) -> None:
    """Make a run folder: whole, or not at all.

    Args:
      plan: of the import.
      made: what `read` has returned.
      workdir: the folder; it must not exist, or be empty.
      proven: what the proof has shown, if there was one.

    Raises:
      UserError: the folder is not empty, or cannot be written.
    """
    began = time.perf_counter()
    vacant(workdir)
    file, config = plan.file, plan.config
    source = {
        "file": file.path.name,
        "format": file.format,
        **plan.digests,
        "published": plan.known.name if plan.known else None,
        "names": plan.match.table,
        "new_layers": plan.match.fresh,
        "preprocessing": plan.preprocessing,
        "class_names": plan.class_names,
        "proof": proven,
    }
    data: dict[str, Any] = {"source": "", "fingerprint": None, "counts": {}, "skipped": []}
    _, params, stats = made
    try:
        with whole_folder(workdir) as draft:
            with Checkpoints(draft) as checkpoints:
                checkpoints.save_network(params, stats)
                checkpoints.wait()
            write_whole(draft / ENVIRONMENT, to_json(environment.machine() | {"data": data, "weights": source}))
            result = {
                "step": 0,
                "best_step": 0,
                "seconds": round(time.perf_counter() - began, 3),
                "parameters": network.count_parameters(params),
                "imported": file.path.name,
            }
            write_whole(draft / RESULT, to_json(result))
            write_whole(draft / CONFIG, settings.to_json(config))
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be written ({error.strerror}); make room, or choose another --workdir"
        ) from error


def vacant(workdir: Path) -> None:
    """Raise UserError unless a run folder can be made there."""
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"{workdir}: is there already, and not empty; choose another --workdir")
