"""The same seed gives the same bits: two processes that share nothing but the machine, the command and the data."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, command_line
from tests.train.data.test_folder import photo
from tests.train.test_resume import assert_same_bits, metrics
from train.run import RunFolder

# What must not matter: how strings are hashed, the zone, the language, and the folder that the command begins in.
OTHERWISE = {
    **{"PYTHONHASHSEED": "12345", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "C"},
    **{"PYTHONPATH": str(CHECKOUT), "COLUMNS": "40"},
}
DIGITS = (
    *("--config.train.epochs=1.0", "--config.model.dropout=0.2", "--config.train.ema=0.9", "--config.augment.shift=1"),
    *("--config.optimizer.clip_norm=1.0", "--config.train.batch_size=128", "--config.dataset.split_seed=3"),
)
EVERY_CHANGE = (
    *(
        "--config.augment.random_resized_crop=0.3",
        "--config.augment.trivial_augment=True",
        "--config.augment.flip=True",
    ),
    *("--config.augment.mixup=0.2", "--config.augment.cutmix=1.0", "--config.augment.color_noise=0.1"),
)
NARROW, WITHOUT = "--config.precision=bfloat16", {"OLDMASTERS_ONEDNN": "0"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of forty photos in two classes."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(40):
        photo(root / "ab"[index % 2] / f"{index}.jpg", index)
    return root


def twice(tmp_path: Path, flags: tuple[str, ...], of_second: tuple[str, ...], more: dict[str, str]) -> None:
    """Train in two processes, the second in other surroundings and perhaps with other workers, and compare."""
    (tmp_path / "elsewhere").mkdir()
    settled = (
        "--config.evaluate.report=False",
        "--config.schedule.warmup_epochs=0.0",
        "--config.log.every_steps=1",
        "--compilation_cache=",
    )
    for name, cwd, environment, own in (
        ("one", CHECKOUT, {"PYTHONHASHSEED": "0"}, ()),
        ("other", tmp_path / "elsewhere", OTHERWISE, of_second),
    ):
        line = command_line("train", f"--workdir={tmp_path / name}", *flags, *settled, *own)
        process = subprocess.run(
            line, capture_output=True, text=True, cwd=cwd, env=os.environ | environment | more, timeout=900
        )
        assert process.returncode == 0, process.stderr
    assert len(metrics(tmp_path / "one")) >= 3
    assert_same_bits(tmp_path / "one", tmp_path / "other")
    one, other = (RunFolder(tmp_path / name).environment["data"] for name in ("one", "other"))
    assert one == other


def test_images_in_memory(tmp_path: Path) -> None:
    small = ("--config.model.name=mlp", "--config.dataset.image_size=8", "--config.augment.rotate=5.0")
    twice(tmp_path, (*DIGITS, *small), (), {})


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "more"), [((), {}), ((), WITHOUT), ((NARROW,), {}), ((NARROW,), WITHOUT)], ids=str)
def test_images_in_memory_by_other_kernels(tmp_path: Path, flags: tuple[str, ...], more: dict[str, str]) -> None:
    twice(tmp_path, (*DIGITS, *flags), (), more)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "more"), [((), {}), ((), WITHOUT), ((NARROW,), {}), ((NARROW,), WITHOUT)], ids=str)
@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_photos_by_any_number_of_workers(
    tmp_path: Path, photos: Path, workers: int, flags: tuple[str, ...], more: dict[str, str]
) -> None:
    of_photos = (f"--config.dataset.source=folder:{photos}", "--config.train.batch_size=8", "--config.train.epochs=2.0")
    still = ("--config.augment.rotate=0", "--config.augment.scale=0", "--config.augment.shear=0")
    twice(tmp_path, (*of_photos, *still, *EVERY_CHANGE[:1], *flags), (f"--config.dataset.workers={workers}",), more)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "more"), [((), {}), ((), WITHOUT), ((NARROW,), {}), ((NARROW,), WITHOUT)], ids=str)
def test_alexnet_and_every_change_of_images(
    tmp_path: Path, real_data: Path, flags: tuple[str, ...], more: dict[str, str]
) -> None:
    small = tmp_path / "photos"
    for split, count in (("train", 12), ("val", 3)):
        for name in ("ants", "bees"):
            (small / split / name).mkdir(parents=True)
            for path in sorted((real_data / "hymenoptera256" / split / name).iterdir())[:count]:
                shutil.copy(path, small / split / name)
    net = (f"--config={CHECKOUT}/configs/alexnet_folder.py", f"--config.dataset.source=folder:{small}")
    net += ("--config.dataset.image_size=67", "--config.train.batch_size=8", "--config.train.epochs=0.8")
    net += ("--config.dataset.validation=0.2", "--config.schedule.name=constant")
    twice(tmp_path, (*net, *EVERY_CHANGE, *flags), ("--config.dataset.workers=2",), more)
