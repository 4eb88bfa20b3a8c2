"""This project's side of the input: the stream of batches that training reads, as it comes to the host."""

import contextlib
import sys
from typing import Any

from train import settings
from train.benchmark.process import MeasuredInput, serve
from train.data import dataset
from train.data.photos import Photos
from train.data.stream import TrainingBatches, stream


class _JaxInput(MeasuredInput):
    """Answers of this process."""

    def prepare(self, config: str) -> dict[str, Any]:
        """Open the stream of an experiment; `config` is configs/base.py's as JSON."""
        experiment = settings.from_json(config)
        photos = dataset.load(experiment.dataset).train
        assert isinstance(photos, Photos)
        self.images = experiment.train.batch_size
        workers = experiment.dataset.workers
        self._open = contextlib.ExitStack()
        batches = self._open.enter_context(stream(TrainingBatches(photos, experiment), 0, sys.maxsize, workers))
        self.step = lambda: next(batches)
        self.step()
        kind = experiment.dataset.source.partition(":")[0]
        return {"setting": f"{kind}, {f'{workers} workers' if workers else 'threads'}"}


if __name__ == "__main__":
    side = _JaxInput()
    serve({"prepare": side.prepare, "measure": side.measure})
