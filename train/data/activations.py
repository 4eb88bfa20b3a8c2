"""Stored activations: what a network made of every image, in NumPy's files, read in place.

A store is a folder:

- `store.json`: what the activations are of (see `Store`); while they are being written, `unfinished.json`.
- `SPLIT-label.npy`: labels int32 `[N]`; `SPLIT-records.json`: of each image the id, a digest of the content, the class.
- `SPLIT-LAYER-00000.npy` and on: activations `[rows, ...]`, so many rows a file. With views, rows are those of the
  first view of all images, then those of the second.

NumPy's format (NEP 1) is the plainest there is: a line of text and then the numbers, at an offset that a memory map
can begin at. It has no bfloat16; those are stored as the uint16 of the same bits, and store.json says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from train import json_file
from train.data.examples import Examples
from train.errors import AGAIN, UserError, nearest, of_this_machine, reason

STORED_TYPES = ("float32", "float16", "bfloat16")
_STORED_AS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
MANIFEST, UNFINISHED = "store.json", "unfinished.json"
VERSION = 1
# What a store is of; see train/features/freshness.py.
_OF = {"network", "weights", "preprocessing", "data", "views"}
# What may stand in a file's name; a stage is an attribute of a network, so that is all of it.
_NAME = re.compile(r"\w[\w.]*")


class Record(NamedTuple):
    """What a store says of an image.

    Attributes:
      id: what it is called wherever the source lies.
      digest: a hash of its content, or nothing where the source vouches for it.
      label: the name of its class, or the class's number where it has none.
    """

    id: str
    digest: str
    label: str


def shard_name(split: str, layer: str, number: int) -> str:
    """Return the name of a file of activations."""
    return f"{split}-{layer}-{number:05d}.npy"


def as_stored(array: np.ndarray) -> np.ndarray:
    """Return an array as NumPy's format can hold it."""
    return array.view(np.uint16) if array.dtype == jnp.bfloat16 else array


@dataclass(frozen=True)
class Activations:
    """The activations of some images at one stage, in memory-mapped files.

    Attributes:
      shards: arrays `[rows, ...]`, all but the last with as many rows.
      labels: int32 `[N]`.
      views: augmented views of each image that are stored; 1 where there is the image alone.
    """

    shards: tuple[np.ndarray, ...]
    labels: np.ndarray
    views: int = 1

    @property
    def total(self) -> int:
        """How many images."""
        return len(self.labels)

    @property
    def rows(self) -> int:
        """How many rows: every view of every image."""
        return self.total * self.views

    @property
    def nbytes(self) -> int:
        """How many bytes they are."""
        return sum(shard.nbytes for shard in self.shards)

    def take(self, index: np.ndarray) -> Examples:
        """Return the rows at the indices `[M]`, read into memory; row `v * N + i` is view v of image i."""
        index = np.asarray(index)
        result = np.empty((len(index), *self.shards[0].shape[1:]), self.shards[0].dtype)
        numbers, places = np.divmod(index, len(self.shards[0]))
        for number in np.unique(numbers):
            here = numbers == number
            result[here] = self.shards[number][places[here]]
        return Examples(result, self.labels[index % self.total])

    def check_finite(self) -> None:
        """Look at every number, which reads every file.

        Raises:
          UserError: one is not finite; names the file and the row.
        """
        for shard in self.shards:
            for row in np.flatnonzero(~np.isfinite(shard).reshape(len(shard), -1).all(1)).tolist():
                path = Path(str(getattr(shard, "filename", "activations")))
                raise UserError(f"{path}: row {row} is not finite; remove {path.parent} and run its command again")

    def all(self) -> Examples:
        """Return every row, read into memory."""
        return Examples(np.concatenate(self.shards), np.tile(self.labels, self.views))


class Store:
    """A finished store.

    Args:
      path: the folder.

    Attributes:
      manifest: what store.json holds: `of` (the network, its weights by layer, the preparation of images, the data,
        the views: whatever makes other activations if it changes), `layers` (name: shape), `dtype`, `splits` (name:
        images), `shard_rows`, `config` (of the run, complete).
      layers: shape of an image's activations, by stage.
      splits: "train", perhaps "validation", "test".

    Raises:
      UserError: there is no store, or an unfinished one, or it is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / MANIFEST).is_file():
            what = "is not finished; run its command again" if (path / UNFINISHED).exists() else f"has no {MANIFEST}"
            raise UserError(f"{path}: holds no stored activations: {what} (scripts.extract --output={path} makes them)")
        self.manifest: dict[str, Any] = read_manifest(path / MANIFEST)
        self.layers: Mapping[str, tuple[int, ...]] = {
            name: tuple(shape) for name, shape in self.manifest["layers"].items()
        }
        self.splits: Sequence[str] = tuple(self.manifest["splits"])

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the labels, if the data has names."""
        names = self.manifest["config"]["dataset"]["class_names"]
        return None if names is None else tuple(names)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.manifest["config"]["dataset"]["classes"])

    def layer(self, name: str | None) -> str:
        """Return the name of a stored layer; of None, the last one's.

        Raises:
          UserError: that one is not stored.
        """
        if name is None:
            return list(self.layers)[-1]
        if name not in self.layers:
            raise UserError(f"{self.path}: holds {', '.join(self.layers)}, not {name}{nearest(name, self.layers)}")
        return name

    def activations(self, split: str, layer: str) -> Activations:
        """Return a split's activations at a stage, memory-mapped.

        Raises:
          UserError: a file is missing or damaged.
        """
        labels = self._load(f"{split}-label.npy")
        if labels.dtype != np.int32 or labels.shape != (self.manifest["splits"][split],):
            raise self._damaged(f"{split}-label.npy", f"{labels.dtype} {labels.shape}", "labels of its images")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise self._damaged(f"{split}-label.npy", "labels below 0 or too large", f"of {self.classes:,} classes")
        views = self.manifest["of"]["views"]["count"] or 1 if split == "train" else 1
        rows, shard_rows = views * len(labels), self.manifest["shard_rows"]
        shards = []
        for number in range(-(-rows // shard_rows)):
            shard = self._load(shard_name(split, layer, number))
            expected = (min(shard_rows, rows - number * shard_rows), *self.layers[layer])
            if shard.shape != expected:
                raise self._damaged(shard_name(split, layer, number), f"{shard.shape}", f"{expected}")
            if shard.dtype != _STORED_AS[self.manifest["dtype"]]:
                raise self._damaged(shard_name(split, layer, number), f"{shard.dtype}", self.manifest["dtype"])
            shards.append(shard.view(jnp.bfloat16) if self.manifest["dtype"] == "bfloat16" else shard)
        return Activations(tuple(shards), labels, views)

    def load(self, split: str, layer: str, *, all_views: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Return a split's activations at a stage, float32 `[rows, units]`, and labels `[rows]`.

        Rows are all views of the images, or the first of each.

        Raises:
          UserError: as `activations`.
        """
        activations = self.activations(split, layer)
        examples = activations.take(np.arange(activations.rows if all_views else activations.total))
        return examples.images.astype(np.float32, copy=False).reshape(len(examples.labels), -1), examples.labels

    def _load(self, name: str) -> np.ndarray:
        try:
            with (self.path / name).open("rb") as file:
                if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
                    raise ValueError("it is no array of NumPy's")
            array: np.ndarray = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
            return array
        except Exception as error:  # whatever a damaged header makes NumPy raise
            # What is damaged stays so; what the system refuses now, it may grant later.
            again = f"remove {self.path} and run its command again"
            then = f"mend that, and {AGAIN}" if of_this_machine(error) else again
            raise UserError(f"{self.path / name}: cannot be read ({reason(error)}); {then}") from error

    def _damaged(self, name: str, holds: str, wanted: str) -> UserError:
        again = f"remove {self.path} and run its command again"
        return UserError(f"{self.path / name}: holds {holds}, not {wanted}; {again}")


def records_name(split: str) -> str:
    """Return the name of the file that says what the images of a split are."""
    return f"{split}-records.json"


def read_records(path: Path, split: str) -> list[Record]:
    """Return what the store in a folder, finished or not, says of each image of a split.

    Raises:
      UserError: it cannot be read.
    """
    file = path / records_name(split)
    try:
        records = [Record(*record) for record in json_file.read(file)]
        if not all(isinstance(text, str) for record in records for text in record):
            raise ValueError("id, digest and label must be texts")
        return records
    except (OSError, ValueError, TypeError) as error:
        why = "of each image, it must say id, digest and label" if isinstance(error, TypeError) else error
        raise UserError(f"{file}: cannot be read ({why}); remove {path} and extract again") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what a store.json, or an unfinished one, says.

    Raises:
      UserError: it is not ours, or of another version.
    """
    try:
        manifest = json_file.read(path)
        if (version := manifest["version"]) != VERSION:
            raise UserError(f"{path}: is of version {version}, this program reads {VERSION}; extract again")
        _hold(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: does not say what a store's says; remove {path.parent} and extract again") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove {path.parent} and extract again") from error
    return dict(manifest)


def _hold(manifest: Any) -> None:
    """Make sure that a manifest holds what the readers of a store take from it.

    Raises:
      ValueError: it does not. Or KeyError, TypeError or AttributeError.
    """
    dataset, layers, splits = manifest["config"]["dataset"], manifest["layers"], manifest["splits"]
    names, classes = dataset["class_names"], dataset["classes"]
    counts = [manifest["shard_rows"], manifest["batch_size"], classes, *splits.values()]
    counts += [side for shape in layers.values() for side in shape]
    if not all(type(count) is int and 0 < count < 2**40 for count in counts):
        raise ValueError("its rows, batches, classes and units must be whole numbers above 0")
    if manifest["of"].keys() != _OF or not all(isinstance(section, dict) for section in manifest["of"].values()):
        raise ValueError(f"it must say what it is of: {', '.join(sorted(_OF))}")
    if not isinstance(manifest["of"]["data"]["fingerprint"], str):
        raise ValueError("the fingerprint of its data must be a text")
    views = manifest["of"]["views"]["count"]
    if type(views) is not int or not 0 <= views < 2**20:
        raise ValueError("its views must be a whole number of 0 or more")
    if not layers or not all(map(_NAME.fullmatch, (*layers, *splits))):
        raise ValueError("the name of a stage or a split must be one of Python's")
    if manifest["dtype"] not in STORED_TYPES:
        raise ValueError(f"its numbers must be of {', '.join(STORED_TYPES)}")
    if names is not None and (len(names) != classes or not all(isinstance(name, str) for name in names)):
        raise ValueError(f"it must name each of its {classes} classes")
