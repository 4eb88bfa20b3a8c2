"""A miniature of TFDS's imagenet2012, of real photos, made without TensorFlow."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logging.getLogger("absl").setLevel(logging.ERROR)
import tensorflow_datasets as tfds  # noqa: E402

NAME = "imagenet2012"


def build(photos: Path, labels: Path, data_dir: Path, odd: dict[str, bytes]) -> Path:
    """Write `data_dir/imagenet2012/5.1.0`: all photos to train on, and every third again to validate.

    Args:
      photos: a folder for each of some of the classes.
      labels: the file of all 1,000 classes.
      data_dir: of prepared sets.
      odd: more files to train on, as content of the first class, by name.
    """

    class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("5.1.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names_file=labels),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples(1), "validation": self._generate_examples(3)}

        def _generate_examples(self, every: int) -> Iterator[tuple[str, dict[str, Any]]]:
            files = sorted(photos.glob("*/*"))[::every]
            for number, path in enumerate(files):
                name = f"{path.parent.name}_{number}.JPEG"
                yield name, {"image": str(path), "label": path.parent.name, "file_name": name}
            if every == 1:
                for name, content in odd.items():
                    path = data_dir / name
                    path.write_bytes(content)
                    yield name, {"image": str(path), "label": 0, "file_name": name}

    builder = Imagenet2012(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return data_dir / NAME / "5.1.0"
