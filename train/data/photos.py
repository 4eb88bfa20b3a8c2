"""Labelled images that stay encoded until a batch needs them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from train.cores import cores
from train.data import decode
from train.data.boxes import ChooseBox, middle_box
from train.data.examples import Examples
from train.errors import AGAIN, UserError

_Decoded = TypeVar("_Decoded")

# Images decoded by a thread at a time where all are.
_PART = 64


class Records(Protocol):
    """Encoded images with labels, at random access.

    Attributes:
      labels: int32 `[N]`; a source that has them inside its records may read all of those when first asked.
      fingerprint: SHA-256 of the content.
    """

    @property
    def labels(self) -> np.ndarray:
        """See above."""
        ...

    @property
    def fingerprint(self) -> str:
        """See above."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def read(self, indices: Sequence[int]) -> Sequence[tuple[decode.Encoded, int]]:
        """Return (file's bytes, or its pixels, and label) of each."""
        ...

    def name(self, index: int) -> str:
        """Say for a message which record that is."""
        ...

    def id(self, index: int) -> str:
        """Return what a record is called wherever the source lies."""
        ...

    def digest(self, index: int) -> str:
        """Return a hash of a record's content, or nothing where the source vouches for it."""
        ...


@dataclass(frozen=True)
class Photos:
    """Some of the records of a source.

    Attributes:
      records: of the source.
      index: which of them, `[N]`.
      channels: what they are decoded to: 1 (gray) or 3 (RGB).
      new_label: of each of the records' labels, int32, where they have others here.
    """

    records: Records
    index: np.ndarray
    channels: int = 3
    new_label: np.ndarray | None = None

    @classmethod
    def all_of(cls, records: Records, channels: int = 3) -> "Photos":
        """Return all records."""
        return cls(records, np.arange(len(records)), channels)

    @property
    def total(self) -> int:
        """How many images."""
        return len(self.index)

    @property
    def labels(self) -> np.ndarray:
        """Labels int32 `[N]`."""
        labels = self.records.labels[self.index]
        return labels if self.new_label is None else self.new_label[labels]

    def take(self, index: np.ndarray) -> "Photos":
        """Return the photos at the indices `[M]`."""
        return replace(self, index=self.index[index])

    def relabelled(self, new_label: np.ndarray) -> "Photos":
        """Return the same photos, each with the new label of its old one, int32 `[classes]`."""
        return replace(self, new_label=new_label if self.new_label is None else new_label[self.new_label])

    def load(self, indices: np.ndarray, size: int, resize: str, box_of: Callable[[int], ChooseBox]) -> Examples:
        """Decode the photos at the indices `[M]`; `box_of(m)` chooses what is cut out of the m-th of them.

        Raises:
          UserError: a file cannot be read or decoded; names it.
        """
        images = np.empty((len(indices), size, size, self.channels), np.uint8)

        def crop(place: int, data: decode.Encoded) -> None:
            decode.crop(data, box_of(place), size, resize, self.channels, images[place])

        _, labels = self._decode(indices, crop)
        return Examples(images, labels)

    def middles(self, size: int, resize: str, share: float) -> Examples:
        """Decode all, the middle of each whose side is that share of the shorter side.

        Raises:
          UserError: as `load`.
        """
        middle = partial(middle_box, share=share, size=size)
        return self._on_all_cores(lambda indices: self.load(indices, size, resize, lambda _: middle))

    def scaled(self, indices: np.ndarray, shorter: int, resize: str) -> list[np.ndarray]:
        """Decode all of the photos at the indices `[M]`, the shorter side of each scaled to so many pixels.

        Raises:
          UserError: as `load`.
        """
        images, _ = self._decode(indices, lambda _, data: decode.scaled(data, shorter, resize, self.channels))
        return images

    def whole(self) -> Examples:
        """Decode all as they are.

        Raises:
          UserError: as `load`, or they differ in size.
        """
        return self._on_all_cores(self._as_they_are)

    def _as_they_are(self, indices: np.ndarray) -> Examples:
        """Decode photos of one size."""
        images, labels = self._decode(indices, lambda _, data: decode.pixels(data, self.channels))
        for index, image in zip(self.index[indices].tolist(), images, strict=True):
            if image.shape != images[0].shape:
                raise UserError(self._sizes_differ(index, image, images[0]))
        return Examples(np.stack(images), labels)

    def _decode(
        self, indices: np.ndarray, decode_one: Callable[[int, decode.Encoded], _Decoded]
    ) -> tuple[list[_Decoded], np.ndarray]:
        """Return what `decode_one` makes of each (place, file's bytes), and the labels."""
        images: list[_Decoded] = []
        labels = np.empty(len(indices), np.int32)
        wanted = self.index[indices].tolist()
        for place, (data, label) in enumerate(self.records.read(wanted)):
            try:
                images.append(decode_one(place, data))
            except decode.BadImage as error:
                raise UserError(f"{self.records.name(wanted[place])}: {error}; replace it, and {AGAIN}") from error
            labels[place] = label if self.new_label is None else self.new_label[label]
        return images, labels

    def _on_all_cores(self, load: Callable[[np.ndarray], Examples]) -> Examples:
        indices = np.array_split(np.arange(self.total), -(-self.total // _PART))
        with ThreadPoolExecutor(cores()) as threads:  # Pillow decodes outside Python's lock
            parts = list(threads.map(load, indices))
        for index, part in zip(indices, parts, strict=True):
            if part.images.shape[1:] != parts[0].images.shape[1:]:
                raise UserError(self._sizes_differ(int(self.index[index[0]]), part.images[0], parts[0].images[0]))
        return Examples(*map(np.concatenate, zip(*parts, strict=True)))

    def _sizes_differ(self, index: int, one: np.ndarray, other: np.ndarray) -> str:
        sizes = [f"{image.shape[0]}x{image.shape[1]}" for image in (one, other)]
        return (
            f"{self.records.name(index)}: has {sizes[0]} pixels, others have {sizes[1]}; "
            "images of several sizes take --config.dataset.stream"
        )
