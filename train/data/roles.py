"""What a network is trained, validated and tested on, and where each image comes from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from train.data.activations import Activations, Store
from train.data.examples import Examples
from train.data.photos import Photos

# As a source is read, and as a network is trained on it.
Read = Examples | Photos
Images = Read | Activations


@dataclass(frozen=True)
class Origin:
    """Some of the images of a split.

    Attributes:
      split: the source's name for it.
      images: all of the split, as they were read.
      index: which of them, `[N]`.
    """

    split: str
    images: Read
    index: np.ndarray

    @classmethod
    def all_of(cls, split: str, images: Read) -> "Origin":
        """Return all images of a split."""
        return cls(split, images, np.arange(images.total))

    @property
    def total(self) -> int:
        """How many images."""
        return len(self.index)

    @property
    def labels(self) -> np.ndarray:
        """Labels int32 `[N]`."""
        return self.images.labels[self.index]

    def take(self, index: np.ndarray) -> "Origin":
        """Return those at the indices `[M]`."""
        return replace(self, index=self.index[index])

    def chosen(self) -> Read:
        """Return the images themselves."""
        return self.images if self.total == self.images.total else self.images.take(self.index)

    def ids(self) -> list[str]:
        """Return what each is called."""
        if isinstance(self.images, Photos):
            return [self.images.records.id(index) for index in self.images.index[self.index].tolist()]
        return [f"{self.split}/{index}" for index in self.index.tolist()]


@dataclass(frozen=True)
class Dataset:
    """Examples by role, at the size that the network sees.

    Attributes:
      train: what the network learns from.
      validation: what chooses the checkpoint; None where the config says so.
      test: what the result is measured on, once.
      test_split: the source's own name for it: "test", or "val" where a source has train and val alone.
      fingerprint: SHA-256 of the source's images and labels, whatever their path (of a streamed set of TFDS, of its
        name, version and sizes).
      skipped: files that the config said to leave out because they cannot be used, and why.
      origins: where each role's images come from.
    """

    train: Images
    validation: Images | None
    test: Images
    test_split: str
    fingerprint: str
    skipped: tuple[str, ...]
    origins: Mapping[str, Origin]

    def roles(self) -> dict[str, Images]:
        """Return the images of each role that has some."""
        roles = {"train": self.train, "validation": self.validation, "test": self.test}
        return {role: images for role, images in roles.items() if images is not None}

    def ids(self, role: str) -> list[str]:
        """Return what each image of a role is called: of a folder, its path in there."""
        return self.origins[role].ids()

    def digests(self, role: str) -> list[str]:
        """Return a hash of each image's content; of images in memory, as they are at the size that the network sees."""
        origin, images = self.origins[role], self.roles()[role]
        if isinstance(origin.images, Photos):
            photos = origin.images
            return [photos.records.digest(index) for index in photos.index[origin.index].tolist()]
        assert isinstance(images, Examples)
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in images.images]


def of_store(store: Store, layer: str) -> Dataset:
    """Return what a store holds of a stage.

    Raises:
      UserError: a file is missing or damaged.
    """
    splits = {split: store.activations(split, layer) for split in store.splits}
    of = store.manifest["of"]["data"]
    return Dataset(
        splits["train"], splits.get("validation"), splits["test"], of["test_split"], of["fingerprint"], (), {}
    )
