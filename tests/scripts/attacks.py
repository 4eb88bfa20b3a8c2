"""Commands on disks that are full or read-only, and in folders that change their modes: see test_storage.py.

    unshare --user --map-root-user --mount python -m tests.scripts.attacks WHAT FOLDER mount

A process of its own, so that nobody else sees what it mounts. It loads the libraries once and runs each command in a
fork, as `python -m scripts.NAME` would run it. What has come of each is printed, a line of JSON each.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = """
from configs import base
from tests.conftest import config

def get_config():
    experiment = config.__wrapped__()
    experiment.checkpoint.update(keep=3, every_steps=10)
    experiment.log.tensorboard = True
    return experiment
"""
ROOM = 64 * 1024  # KiB
# The capabilities of root to pass over modes: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_OVERRIDE = 1 << 1 | 1 << 2


class Ended(NamedTuple):
    """How a command has ended."""

    status: int
    output: str
    error: str


class Running:
    """A command in a fork, for which modes count, also where root runs it.

    Args:
      name: of the script.
      flags: of its command line.
      largest: bytes that a file may have.
    """

    def __init__(self, name: str, *flags: str, largest: int | None = None) -> None:
        self._said = []
        for _ in ("output", "errors"):
            descriptor, path = tempfile.mkstemp()
            os.close(descriptor)
            self._said.append(Path(path))
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run(name, flags, largest))

    def _run(self, name: str, flags: tuple[str, ...], largest: int | None) -> int:
        try:
            for number, path in enumerate(self._said, start=1):
                os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
            _without_override()
            if largest is not None:
                flags = (*flags, "--compilation_cache=")  # whose files others of this test's commands read
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            sys.argv = [f"scripts/{name}.py", *flags]
            runpy.run_module(f"scripts.{name}", run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 99
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    def end(self) -> Ended:
        """Wait for its end."""
        _, status = os.waitpid(self.pid, 0)
        output, error = (path.read_text() for path in self._said)
        for path in self._said:
            path.unlink()
        return Ended(os.waitstatus_to_exitcode(status), output, error)


def _without_override() -> None:
    """Give up what lets root pass over modes; for anybody else it changes nothing."""
    libc = ctypes.CDLL(None)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    data[0], data[1] = data[0] & ~_OVERRIDE, data[1] & ~_OVERRIDE  # effective and permitted
    libc.capset(header, data)


class Disk:
    """A folder whose disk can be made small or read-only: a file system of its own where it can be mounted.

    Elsewhere no file may grow beyond a size, by RLIMIT_FSIZE: another error for the same want of room.
    """

    def __init__(self, path: Path, *, mount: bool) -> None:
        self.path, self.mounted = path, mount
        path.mkdir(parents=True, exist_ok=True)
        if mount:
            subprocess.run(["mount", "-t", "tmpfs", "-o", _size(ROOM), "tmpfs", str(path)], check=True)

    @contextlib.contextmanager
    def narrow(self, size: int, files: int = 0) -> Iterator[int | None]:
        """Let it have so many KiB, or so many files; yields the size of the largest file where that is the limit."""
        if not self.mounted:
            yield max(1024, size * 8)  # a run is dozens of files; and what a command says must find room
            return
        self._remount(_size(size, files))
        try:
            yield None
        finally:
            self._remount(_size(ROOM))

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nothing be written; where nothing can be mounted, by the modes of its folders and files."""
        if self.mounted:
            self._remount("ro")
        else:
            _chmod(self.path, 0o222, away=True)
        try:
            yield
        finally:
            if self.mounted:
                self._remount("rw")
            else:
                _chmod(self.path, 0o200)

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


def _size(size: int, files: int = 0) -> str:
    return f"size={size}k,nr_inodes={files or 10**6}"  # what has no limit cannot get one


def _chmod(path: Path, bits: int, away: bool = False) -> None:
    for each in [path, *path.rglob("*")]:
        each.chmod(each.stat().st_mode & ~bits if away else each.stat().st_mode | bits)


def tree(path: Path) -> list[str]:
    """Return what is in a folder and below."""
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def digests(path: Path) -> dict[str, str]:
    """Return a hash of each file that lies in a folder, by its name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir() if file.is_file()}


def tell(what: str, **came: Any) -> None:
    """Print what has come of an attack."""
    print(json.dumps({"what": what} | came), flush=True)


def until(there: Callable[[], bool], running: Running) -> None:
    """Wait until something is there, as long as the command runs."""
    while not there() and os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.005)


def full(disk: Disk, folder: Path, name: str, *flags: str, sizes: list[tuple[int, int]]) -> None:
    """Run a command on a disk of several sizes, in KiB and files, and again where there is room."""
    for size, files in sizes:
        for left in disk.path.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        with disk.narrow(size, files) as largest:
            first = Running(name, *flags, largest=largest).end()
        left_there, before = tree(disk.path), digests(disk.path)
        again = Running(name, *flags).end()
        after = digests(disk.path)
        torn = [name for name in before if before[name] != after.get(name)]
        tell(f"{name} {flags[-1]} on {size} KiB, {files} files", first=first, left=left_there, again=again, torn=torn)
        if (run := disk.path / "run").exists():
            shutil.copytree(run, folder / f"run-{size}-{files}")


def train_on_full(disk: Disk, folder: Path, sizes: list[tuple[int, int]], *more: str) -> None:
    """Train on disks of several sizes."""
    full(disk, folder, "train", f"--config={folder}/config.py", *more, f"--workdir={disk.path}/run", sizes=sizes)


def writers(at: Path, given: Path) -> dict[str, tuple[str, ...]]:
    """Return the other commands that write, by name: each into or beside `at`, from what lies in `given`."""
    run = f"--run={given}/whole"
    return {
        "safetensors": ("export", run, "--format=safetensors", f"--output={at}.safetensors"),
        "torch": ("export", run, "--format=torch", f"--output={at}.pth"),
        "keras": ("export", run, "--format=keras", f"--output={at}.weights.h5"),
        "onnx": ("export", run, "--format=onnx", f"--output={at}.onnx"),
        "stablehlo": ("export", run, "--format=stablehlo", f"--output={at}.stablehlo"),
        "explain": ("explain", run, f"--image={given}/photos/a/0.jpg", "--images=20", f"--output={at}"),
        "embed": ("embed", run, "--method=pca", "--points=60", f"--output={at}"),
        "extract": ("extract", run, "--layer=hidden1", f"--output={at}"),
        "import": ("import_weights", f"--weights={given}/net.safetensors", f"--workdir={at}"),
        "cache": ("prepare", f"--source=folder:{given}/photos", "--image_size=16", f"--cache={at}"),
        "report": ("report", run),
        "evaluate": ("evaluate", run, f"--output={at}.json"),
        "probe": ("probe", f"--features={given}/store", "--method=knn", f"--output={at}.json"),
        "summarize": ("summarize", "--model=lenet5", f"--draw={at}.svg"),
        "convolve": ("convolve", "filter", f"--output={at}.svg"),
        "preview": ("train", f"--config={given}/config.py", f"--preview={at}.png"),
        "compare": ("compare", f"--runs={given}/whole", f"--output={at}.svg"),
    }


def lose_permission(folder: Path, where: str, mode: int) -> None:
    """Take the permission for a folder of a run while it trains, and give it back."""
    run = folder / f"run-{where.replace('/', '-') or 'itself'}-{mode:o}"
    flags = (f"--config={folder}/config.py", "--config.train.epochs=12", f"--workdir={run}")
    training = Running("train", *flags)
    metrics = run / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count("\n") > 5, training)
    before = (run / where).stat().st_mode
    (run / where).chmod(mode)
    first = training.end()
    meanwhile = Running("train", *flags).end()
    (run / where).chmod(before)
    again = Running("train", *flags).end()
    tell(f"{where or 'the run'} {mode:o}", first=first, meanwhile=meanwhile, again=again, left=tree(run))


SMALL = {"training": [(8, 0), (420, 0)], "writers": ["keras", "safetensors", "explain", "import"]}
MANY = [(size, 0) for size in (4, 12, 16, 32, 60, 100, 150, 220, 300, 340, 420, 500)]
MANY += [(ROOM, files) for files in (3, 5, 8, 20, 60, 110)]
# Where a file's size is the limit: from some of config.json to all but the largest file of a run.
LIMITS = [(size, 0) for size in (128, 190, 250, 310, 375, 500)]


def main(what: str, folder: Path, *, mount: bool) -> None:
    """Attack."""
    import train.loop  # noqa: F401  every command takes it from here

    (folder / "config.py").write_text(CONFIG)
    disk = Disk(folder / "disk", mount=mount)
    if what == "training":
        train_on_full(disk, folder, SMALL["training"])
    elif what == "training with report":
        train_on_full(disk, folder, [(size, 0) for size in (900, 1100)], "--config.evaluate.report=True")
    elif what == "training, many sizes":
        train_on_full(disk, folder, MANY if mount else LIMITS)
    elif what in ("writers", "all writers"):
        commands = writers(disk.path / "x", folder)
        for name in commands if what == "all writers" else SMALL["writers"]:
            sizes = [(4, 0)] if what == "writers" else [(4, 0), (12, 0), (40, 0), (ROOM, 2), (ROOM, 4)]
            if name != "report":
                full(disk, folder, *commands[name], sizes=sizes)
    elif what == "permission":
        lose_permission(folder, "checkpoints", 0)
    elif what == "permissions":
        for where in ("", "checkpoints", "metrics.jsonl", "tensorboard"):
            for mode in (0, 0o555):
                lose_permission(folder, where, mode)
    elif what == "read-only":
        for name in ("whole", "photos", "store", "net.safetensors", "config.py"):
            there = folder / name
            (shutil.copytree if there.is_dir() else shutil.copy)(there, disk.path / name)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        with disk.read_only():
            for name, command in writers(disk.path / "x", disk.path).items():
                tell(f"{name} onto it", refused=Running(*command).end())
            for name, command in writers(elsewhere / "x", disk.path).items():
                if name != "report":
                    tell(f"{name} from it", done=Running(*command).end())
                    shutil.rmtree(elsewhere)
                    elsewhere.mkdir()
            flags = f"--config={disk.path}/config.py", f"--workdir={elsewhere}/run"
            for source in (f"folder:{disk.path}/photos", f"features:{disk.path}/store"):
                size = "--config.train.batch_size=8", "--config.model.hidden=(16,)"
                done = Running("train", *flags, f"--config.dataset.source={source}", *size).end()
                tell(f"train on {source}", done=done)
                shutil.rmtree(elsewhere / "run", ignore_errors=True)
            tell("train there", refused=Running("train", flags[0], f"--workdir={disk.path}/a/run").end())
            tell("train what is finished", done=Running("train", flags[0], f"--workdir={disk.path}/whole").end())
    else:
        raise SystemExit(f"{what}: is no attack")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), mount=sys.argv[3:] == ["mount"])
