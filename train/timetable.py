"""When what happens in a run, in steps."""

import math

from ml_collections import ConfigDict


class Timetable:
    """Says of every step what is due after it.

    Batches run on over the end of an epoch (see data/order.py), so an epoch need not be a whole number of steps: what
    is due at its end comes after the step that completes it.

    Args:
      config: the whole config.
      images: how many there are to train on.
    """

    def __init__(self, config: ConfigDict, images: int) -> None:
        self.steps_per_epoch = images / config.train.batch_size
        self.total = self._end_of(config.train.epochs)
        self._evaluate_epochs = config.evaluate.every_epochs
        self._log_steps = config.log.every_steps
        self._save_steps = config.checkpoint.every_steps

    def _end_of(self, epochs: float) -> int:
        return math.ceil(round(epochs * self.steps_per_epoch, 6))  # 3 * 0.1 epochs must not end a step late

    def logs(self, step: int) -> bool:
        """Whether a line of training metrics is due."""
        return step % self._log_steps == 0 or step == self.total

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation, and a checkpoint that may turn out the best, are due."""
        # The evaluation that ends nearest to this step, and the one before, for rounding up may have passed it.
        evaluation = round(step / self.steps_per_epoch / self._evaluate_epochs)
        ends = {self._end_of(count * self._evaluate_epochs) for count in (evaluation - 1, evaluation) if count > 0}
        return step == self.total or step in ends

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        return self.evaluates(step) or (self._save_steps > 0 and step % self._save_steps == 0)
