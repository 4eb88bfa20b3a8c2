"""Which format a file has, by its first bytes."""

import stat
from pathlib import Path

from train.errors import UserError
from train.weights.file import WeightsFile

FORMATS = ".pth and .pt (PyTorch), .safetensors, .h5 and .weights.h5 (Keras), .onnx, .caffemodel"


def open_weights(path: Path, image_size: int | None = None) -> WeightsFile:
    """Read the names and shapes of a file's tensors.

    Args:
      path: the file.
      image_size: in pixels, for graphs that do not say which images they take.

    Raises:
      UserError: it cannot be read, is damaged or of no format that is known, or the package for it is not installed.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise UserError(f"{path}: is no file; --weights takes one of {FORMATS}")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a file that can, one of {FORMATS}") from error
    if not start:
        raise UserError(f"{path}: is empty; --weights takes one of {FORMATS}")
    try:
        if start[8:9] == b"{":  # behind the length of a header in JSON, which may begin with any byte
            from train.weights import safetensors_reader

            return safetensors_reader.read(path)
        if start.startswith(b"PK\x03\x04"):
            from train.weights import torch_reader

            return torch_reader.read_zip(path)
        if start.startswith(b"\x80"):  # a pickle's first byte, and of no other format here
            from train.weights import torch_reader

            return torch_reader.read_legacy(path)
        if start.startswith(b"\x89HDF\r\n\x1a\n"):
            from train.weights import keras_reader

            return keras_reader.read(path)
        if path.suffix == ".caffemodel":
            from train.weights import caffe_reader

            return caffe_reader.read(path)
        if path.suffix == ".onnx" or start.startswith(b"\x08"):  # the tag of ONNX's first field, its version
            from train.weights import onnx_reader

            return onnx_reader.read(path, image_size)
        if path.suffix in (".pth", ".pt"):  # the oldest pickles have no first byte; this one is read to be refused
            from train.weights import torch_reader

            return torch_reader.read_legacy(path)
    except ImportError as error:
        raise UserError(f"{path}: takes the package {error.name}; pip install -e '.[weights]'") from error
    raise UserError(f"{path}: is of none of these kinds: {FORMATS}")
