"""Commands reach for no network: whatever a library of ours would ask of a host fails here, and is written down."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CHECKOUT
from tests.train.data import imagenet

# Python reads a module of this name at its start, in each process and in those that it starts. It sees what Python
# does; what libraries do in C++ fails in a namespace without network, where the system lets us make one.
_SITE = """
import os, socket, sys, traceback

def watch(event, arguments):
    if not event.startswith("socket.") or event in ("socket.__new__", "socket.gethostname", "socket.sethostname"):
        return
    if isinstance(arguments[0], socket.socket) and arguments[0].family == socket.AF_UNIX:
        return
    with open({told!r}, "a") as file:
        print(event, arguments[1:], sys.argv, "".join(traceback.format_stack()), sep="\\n", file=file)
    raise OSError(f"{{event}}: there is no network")

sys.addaudithook(watch)
"""
SMALL = ["--config.model.name=mlp", "--config.model.hidden=(4,)", "--config.schedule.warmup_epochs=0"]
_ALONE = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Python without a network in the checkout, and returns what it has said."""
    folder = tmp_path_factory.mktemp("site")
    told = folder / "told.txt"
    (folder / "sitecustomize.py").write_text(_SITE.format(told=str(told)))
    can = shutil.which("unshare") and subprocess.run([*_ALONE, "true"], capture_output=True).returncode == 0

    def run(*arguments: str, status: int = 0) -> str:
        command = [*(_ALONE if can else []), sys.executable, *arguments]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        process = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environment, timeout=300)
        if told.exists():
            asked = told.read_text()
            told.unlink()
            pytest.fail(asked)
        assert process.returncode == status, f"{arguments}: {process.stderr}"
        return process.stdout + process.stderr

    return run


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('localhost', 9)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
        "socket.socket().bind(('127.0.0.1', 0))",
        "subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(\"localhost\")'], check=True)",
    ],
)
def test_an_attempt_would_be_seen(python: Callable[..., str], attempt: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^socket\."):
        python("-c", f"import socket, subprocess, sys\ntry: {attempt}\nexcept Exception: pass")


def test_from_training_to_export_no_command_asks_a_host(tmp_path: Path, python: Callable[..., str]) -> None:
    """Of the embedded digits, with report and event files; each command is a process of its own."""
    run, store, photo = tmp_path / "run", tmp_path / "store", tmp_path / "photo.png"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(photo)
    commands = {
        "train": [*SMALL, "--config.dataset.image_size=8", "--config.train.epochs=1", f"--workdir={run}"],
        "evaluate": [f"--run={run}"],
        "report": [f"--run={run}"],
        "predict": [f"--run={run}", str(photo)],
        "extract": [f"--run={run}", "--layer=hidden1", f"--output={store}"],
        "probe": [f"--features={store}", "--method=linear"],
        "export": [f"--run={run}", "--format=onnx", f"--output={tmp_path / 'net.onnx'}"],
    }
    for name, flags in commands.items():
        python("-m", f"scripts.{name}", *flags, f"--compilation_cache={tmp_path / 'xla'}")
    made = {path.suffix for path in tmp_path.rglob("*")} | {path.name[:6] for path in run.rglob("*")}
    assert made >= {".html", ".npy", ".onnx", "events"}


def test_photos_of_tfds_are_trained_on_without_asking_its_host(tmp_path: Path, python: Callable[..., str]) -> None:
    """A set that TFDS knows and would fetch, read by processes; one that is not there is asked of nobody."""
    rng = np.random.default_rng(0)
    photos, labels = tmp_path / "photos", tmp_path / "labels.txt"
    for index in range(16):
        path = photos / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    labels.write_text("\n".join(["a", "b", *(f"c{number}" for number in range(998))]))
    imagenet.build(photos, labels, tmp_path, {})
    flags = [
        *SMALL,
        f"--config.dataset.data_dir={tmp_path}",
        "--config.dataset.image_size=8",
        "--config.dataset.workers=1",
        "--config.train.batch_size=4",
        "--config.train.epochs=1",
        "--config.evaluate.report=False",
        f"--workdir={tmp_path / 'run'}",
    ]
    said = python("-m", "scripts.train", "--config.dataset.source=tfds:imagenet2012", *flags)
    assert "test accuracy" in said or "val accuracy" in said
    said = python("-m", "scripts.train", "--config.dataset.source=tfds:mnist", *flags, status=1)
    assert "tfds:mnist: is not prepared in" in said
