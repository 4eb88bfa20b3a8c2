"""The peer in reading photos: a DataLoader of PyTorch, with Pillow and the steps of torchvision's transforms.

torchvision itself is not asked, so that no version of it has to suit PyTorch's. The steps are those of its reference
recipe for classification: RandomResizedCrop with bilinear interpolation, RandomHorizontalFlip, PILToTensor,
ConvertImageDtype and Normalize.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from train.benchmark.process import MeasuredInput, serve

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Photos(torch.utils.data.Dataset):
    def __init__(self, folder: str, size: int, smallest: float) -> None:
        self._files = sorted(Path(folder).glob("*/*.jpg"))
        self._size, self._smallest = size, smallest
        self._mean, self._std = (torch.tensor(values).reshape(3, 1, 1) for values in (_MEAN, _STD))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path = self._files[index]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        box = _box(*image.size, self._smallest)
        image = image.crop(box).resize((self._size, self._size), Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return (tensor.float() / 255 - self._mean) / self._std, int(path.parent.name)


def _box(width: int, height: int, smallest: float) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a crop of random size, as RandomResizedCrop draws it."""
    for _ in range(10):
        area = width * height * float(torch.empty(1).uniform_(smallest, 1))
        ratio = math.exp(float(torch.empty(1).uniform_(math.log(3 / 4), math.log(4 / 3))))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(torch.randint(0, width - across + 1, ())), int(torch.randint(0, height - down + 1, ()))
            return left, top, left + across, top + down
    return 0, 0, width, height


class _TorchInput(MeasuredInput):
    """Answers of this process.

    Args:
      workers: processes of the DataLoader.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers

    def prepare(self, folder: str, size: int, batch_size: int, smallest: float) -> dict[str, Any]:
        """Start the workers."""
        self.images = batch_size
        loader = torch.utils.data.DataLoader(
            _Photos(folder, size, smallest),
            batch_size,
            shuffle=True,
            num_workers=self._workers,
            drop_last=True,
            persistent_workers=True,
        )

        def endless() -> Iterator[Any]:
            while True:
                yield from loader

        batches = endless()
        self.step = lambda: next(batches)
        self.step()
        return {"setting": f"DataLoader, Pillow, {self._workers} workers"}


if __name__ == "__main__":
    side = _TorchInput(int(sys.argv[2]))
    serve({"prepare": side.prepare, "measure": side.measure})
