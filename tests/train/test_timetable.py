import math

import pytest

from configs import base
from train.timetable import Timetable


def timetable(images: int, batch_size: int, epochs: float, every: float = 1.0, **changes: int) -> Timetable:
    config = base.get_config()
    config.train.update(batch_size=batch_size, epochs=epochs)
    config.evaluate.every_epochs = every
    config.checkpoint.every_steps = changes.get("save", 0)
    config.log.every_steps = changes.get("log", 50)
    return Timetable(config, images)


@pytest.mark.parametrize(("images", "batch_size", "epochs"), [(100, 10, 3), (103, 10, 7), (7, 64, 20), (1293, 64, 60)])
def test_an_evaluation_ends_each_epoch(images: int, batch_size: int, epochs: int) -> None:
    table = timetable(images, batch_size, epochs)
    steps = [step for step in range(1, table.total + 1) if table.evaluates(step)]
    assert steps == sorted({math.ceil(epoch * images / batch_size) for epoch in range(1, epochs + 1)})


def test_parts_of_epochs_and_the_end() -> None:
    table = timetable(100, 10, 1.05, every=0.3)
    assert table.total == 11
    assert [step for step in range(1, 12) if table.evaluates(step)] == [3, 6, 9, 11]


def test_lines_and_checkpoints() -> None:
    table = timetable(100, 10, 2.5, every=1, log=7, save=6)
    assert [step for step in range(1, 26) if table.logs(step)] == [7, 14, 21, 25]
    assert [step for step in range(1, 26) if table.saves(step)] == [6, 10, 12, 18, 20, 24, 25]


def test_a_run_has_a_step_at_least() -> None:
    assert timetable(100, 10, 0.0001).total == 1
