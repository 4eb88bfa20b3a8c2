"""Folders of photos: one folder a class, under the root or under train/, val/ and test/ in it."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from train.data import decode
from train.data.photos import Photos
from train.data.seen import Look, looked_at
from train.data.source import Source
from train.errors import AGAIN, UserError

# Names of folders for a role, in small or capital letters.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# What file managers leave behind, besides names that begin with a dot.
_NOT_PHOTOS = frozenset({"thumbs.db", "desktop.ini"})
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_SHOWN = 5


class _Files:
    """Photo files as records; names are paths from the root."""

    def __init__(self, root: Path, names: Sequence[str], labels: Sequence[int], digests: Sequence[str]) -> None:
        self._root, self._names, self._digests = root, tuple(names), tuple(digests)
        self.labels = np.asarray(labels, np.int32)
        self.fingerprint = hashlib.sha256(self.labels.tobytes() + bytes.fromhex("".join(digests))).hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        try:
            return [((self._root / self._names[index]).read_bytes(), int(self.labels[index])) for index in indices]
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot be read ({error.strerror}); it was there when the run began: put it back, "
                f"and {AGAIN}"
            ) from (error)

    def name(self, index: int) -> str:
        return str(self._root / self._names[index])

    def id(self, index: int) -> str:
        return self._names[index]

    def digest(self, index: int) -> str:
        return self._digests[index]


def read(root: Path, *, skip_bad_images: bool) -> Source:
    """Find the photos and look at each: all of it must be decodable.

    Classes are the names of the folders, in alphabetical order. Files may lie in folders below them.

    Args:
      root: holds class folders, or train/ and perhaps val/ and test/ that do.
      skip_bad_images: leave out what cannot be used, and say which in the result, instead of raising.

    Raises:
      UserError: there is no class folder; one holds no file; classes differ between splits; a file is no image, is
        damaged, or is a link out of the root.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: there is no such folder; folder: takes one that holds a folder of photos for each class"
        )
    root = root.resolve()
    folders = _split_folders(root)
    classes = {split: _class_folders(folder, 2 if split == "train" else 1) for split, folder in folders.items()}
    names = tuple(folder.name for folder in classes["train"])
    for split, class_folders in classes.items():
        _hold_against(root, names, {folder.name for folder in class_folders}, folders[split])
    files = {
        split: [(name, label) for label, folder in enumerate(class_folders) for name in _files(folder, root)]
        for split, class_folders in classes.items()
    }
    for split, class_folders in classes.items():
        _hold_a_file_each(class_folders, {label for _, label in files[split]}, "")
    every = [name for some in files.values() for name, _ in some]
    seen = dict(zip(every, looked_at(root, every, lambda name: _look_at(root / name, root)), strict=True))
    bad = [f"{root / name}: {look.bad}" for name, look in seen.items() if look.bad]
    splits = {}
    for split, class_folders in classes.items():
        good = [(name, label, seen[name].digest) for name, label in files[split] if not seen[name].bad]
        if skip_bad_images:
            _hold_a_file_each(class_folders, {label for _, label, _ in good}, " that can be used")
        if good:
            splits[split] = Photos.all_of(_Files(root, *zip(*good, strict=True)))
    if bad and not skip_bad_images:
        shown = "; ".join(bad[:_SHOWN]) + (f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
        raise UserError(
            f"{len(bad)} of the files cannot be used: {shown}. Take them away, or train with "
            "--config.dataset.skip_bad_images, which leaves them out"
        )
    return Source(dict(splits), names, labels_fit=True, skipped=tuple(bad))


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; the root itself is train where it has no folder with such a name."""
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found: dict[str, Path] = {}
    for split, names in _SPLITS.items():
        for path in inside:
            if path.name.lower() in names:
                if split in found:
                    raise UserError(
                        f"{root}: holds both {found[split].name}/ and {path.name}/; which is it? Take the other away"
                    )
                found[split] = path
    if not found:
        return {"train": root}
    if "train" not in found:
        raise UserError(
            f"{root}: holds {next(iter(found.values())).name}/ but no train/ beside it; put the images to train on "
            "there"
        )
    if others := [path.name for path in inside if path not in found.values()]:
        raise UserError(
            f"{root}: holds {found['train'].name}/, and beside it {', '.join(others[:3])}/, which is no split; are "
            "these classes, or splits with classes in them?"
        )
    return found


def _class_folders(folder: Path, least: int) -> list[Path]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if loose := [path for path in inside if path.suffix.lower() in _SUFFIXES]:
        raise UserError(f"{loose[0]}: lies beside the class folders ({len(loose)} such images); move it into one")
    found = [path for path in inside if path.is_dir()]
    if len(found) < least:
        raise UserError(
            f"{folder}: takes a folder of photos for each class, at least {least}; "
            + (f"there is {found[0].name}/ alone" if found else "there is none")
        )
    return found


def _hold_against(root: Path, names: Sequence[str], others: set[str], folder: Path) -> None:
    missing, new = set(names) - others, others - set(names)
    if missing or new:
        said = [f"{folder.name}/ lacks {', '.join(sorted(missing))}"] if missing else []
        said += [f"{folder.name}/ has {', '.join(sorted(new))}, train/ has not"] if new else []
        raise UserError(
            f"{root}: the classes of train/ and {folder.name}/ differ: {'; '.join(said)}; give both the same"
        )


def _hold_a_file_each(class_folders: Sequence[Path], labels: set[int], which: str) -> None:
    for label, folder in enumerate(class_folders):
        if label not in labels:
            raise UserError(f"{folder}: this class folder holds no image{which}; add some, or take the folder away")


def _files(folder: Path, root: Path) -> Iterator[str]:
    """Yield the names of a class's files, from the root."""

    def refuse(error: OSError) -> None:  # left alone, os.walk passes over what it cannot enter
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or take it away")

    for below, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        place = Path(below).relative_to(root).as_posix()
        for name in sorted(files + [name for name in folders if Path(below, name).is_symlink()]):
            if not name.startswith(".") and name.lower() not in _NOT_PHOTOS:
                yield f"{place}/{name}"


def _look_at(path: Path, root: Path) -> Look:
    try:
        if not path.resolve().is_relative_to(root):
            return Look("", f"is a link, or below one, out of {root}")
        if not path.is_file():
            return Look("", "is no file")
        with path.open("rb") as file:
            data = decode.read(file)
    except decode.BadImage as error:
        return Look("", str(error))
    except RuntimeError:  # of resolve
        return Look("", "is a link in a circle")
    except OSError as error:
        return Look("", f"cannot be read ({error.strerror})")
    return Look(hashlib.sha256(data).hexdigest(), decode.check(data))
