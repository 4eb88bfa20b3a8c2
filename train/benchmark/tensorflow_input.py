"""Another peer in reading photos: tf.data with the crop decoded alone, as TensorFlow's ImageNet recipes do it."""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from train.benchmark.process import MeasuredInput, serve


class _TensorFlowInput(MeasuredInput):
    """Answers of this process.

    Args:
      threads: of tf.data.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads

    def prepare(self, folder: str, size: int, batch_size: int, smallest: float) -> dict[str, Any]:
        """Open the stream."""
        self.images = batch_size
        files = sorted(map(str, Path(folder).glob("*/*.jpg")))
        labels = [int(Path(file).parent.name) for file in files]

        def load(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            data = tf.io.read_file(file)
            begin, extent, _ = tf.image.sample_distorted_bounding_box(
                tf.io.extract_jpeg_shape(data),
                tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
                min_object_covered=0.0,
                aspect_ratio_range=(3 / 4, 4 / 3),
                area_range=(smallest, 1.0),
                max_attempts=10,
            )
            window = tf.stack([begin[0], begin[1], extent[0], extent[1]])
            image = tf.image.resize(tf.io.decode_and_crop_jpeg(data, window, channels=3), (size, size))
            return tf.image.random_flip_left_right(image), label

        options = tf.data.Options()
        options.threading.private_threadpool_size = self._threads
        data = tf.data.Dataset.from_tensor_slices((files, labels)).repeat().shuffle(len(files))
        data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
        batches = iter(data.prefetch(tf.data.AUTOTUNE).with_options(options))
        self.step = lambda: next(batches)
        self.step()
        return {"setting": f"tf.data, {self._threads} threads"}


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    side = _TensorFlowInput(int(sys.argv[2]))
    serve({"prepare": side.prepare, "measure": side.measure})
