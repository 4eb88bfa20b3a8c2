"""What reading a source yields."""

from typing import NamedTuple

from train.data.examples import Examples
from train.data.photos import Photos


class Source(NamedTuple):
    """A source as it is, before it is divided and sized.

    Attributes:
      splits: by name: "train", perhaps "validation" and "test".
      class_names: in the order of the labels, if the source knows them.
      labels_fit: the source vouches that every label has a class name; reading them all may take long.
      skipped: what was left out because it cannot be used, and why.
    """

    splits: dict[str, Examples | Photos]
    class_names: tuple[str, ...] | None = None
    labels_fit: bool = False
    skipped: tuple[str, ...] = ()
