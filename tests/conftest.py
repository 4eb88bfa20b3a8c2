"""What many tests need: small configs, real data, commands in processes of their own."""

import contextlib
import gc
import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from train import cache

CHECKOUT = Path(__file__).resolve().parent.parent

# A test says what is right, a benchmark what is fast: an example that a loaded machine holds up is no failure. What
# lands is decided on the same examples each time; slow tests draw others.
settings.register_profile("any machine", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Nothing of the user's; each worker compiles a program once.
    cache.use_compilation_cache(str(tmp_path_factory.mktemp("xla")))


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test has left begun is collected behind it; what was there before is not looked through again."""
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


# Of tests in which Orbax cannot read one array: it leaves the reading of others begun, and nobody waits for that.
READING_LEFT_BEGUN = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*coroutine:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def config() -> ConfigDict:
    """A perceptron on the embedded digits as they are, 8x8: compiles and trains in a second."""
    config = base.get_config()
    config.model.name = "mlp"
    config.model.hidden = (16,)
    config.dataset.image_size = 8
    config.train.epochs = 3.0
    config.train.batch_size = 64
    config.evaluate.report = False
    config.log.every_steps = 10
    config.log.tensorboard = False
    return config


def fresh(config: ConfigDict, **train: Any) -> ConfigDict:
    """Return a copy with other values in the section `train`, for training completes the config it is given."""
    copy = config.copy_and_resolve_references()
    copy.train.update(train)
    return copy


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; see CONTRIBUTING.md."""
    folder = os.environ.get("OLDMASTERS_DATA")
    if not folder:
        pytest.skip("OLDMASTERS_DATA is unset: no real data to read (see CONTRIBUTING.md)")
    assert Path(folder).is_dir(), f"OLDMASTERS_DATA={folder} is no folder"
    return Path(folder)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `python -m scripts.NAME FLAG...` and returns the finished process with its output."""

    def run(name: str, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command_line(name, *flags), capture_output=True, text=True, cwd=CHECKOUT, timeout=300)

    return run


def command_line(name: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"scripts.{name}", *flags]


@pytest.fixture
def one_line_error(command: Command) -> Callable[..., str]:
    """Runs a command that must fail as users' errors do: status 1, one line, no traceback; returns the line."""

    def run(name: str, *flags: str) -> str:
        process = command(name, *flags)
        assert process.returncode == 1, process.stdout + process.stderr
        lines = process.stderr.strip().splitlines()
        assert len(lines) == 1, process.stderr
        assert lines[0].startswith("error: ")
        return lines[0]

    return run


@contextlib.contextmanager
def little_memory(most: int) -> Iterator[None]:
    """Fail where more bytes than these are allocated in between, by Python or by Pillow for images."""
    Image.core.reset_stats()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
        blocks = Image.core.get_stats()
        assert (blocks["allocated_blocks"] + blocks["reallocated_blocks"]) * Image.core.get_block_size() < most
    finally:
        tracemalloc.stop()


def write_idx(
    path: Path, array: np.ndarray, *, magic: bytes | None = None, shape: tuple[int, ...] | None = None
) -> None:
    """Write an IDX file (see train/data/idx.py), with a wrong header where one is given."""
    shape = array.shape if shape is None else shape
    magic = bytes((0, 0, 8, array.ndim)) if magic is None else magic
    content = magic + struct.pack(f">{len(shape)}I", *shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A folder in MNIST's layout: 60 training and 20 test images of 28x28 pixels in three classes."""
    folder = tmp_path / "idx"
    folder.mkdir()
    random = np.random.default_rng(0)
    for prefix, count in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", random.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 3)
    return folder
