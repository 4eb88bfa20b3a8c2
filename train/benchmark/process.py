"""A side of the comparison in a process of its own, asked in JSON lines over a pipe."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from train.cores import cores
from train.errors import UserError

_STATUS = Path("/proc/self/status")
_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def machine(*packages: str) -> dict[str, Any]:
    """Return what figures are of: how many cores this process may use, the processor, and versions of packages."""
    distributions = metadata.packages_distributions()
    versions = {name: metadata.version(name) for package in packages for name in distributions.get(package, ())}
    return {"cpus": cores(), "processor": platform.processor() or platform.machine(), **versions}


class Side:
    """The asking end.

    Args:
      module: a module that calls `serve`.
      threads: how many torch computes with; jax takes all cores.
    """

    def __init__(self, module: str, threads: int) -> None:
        self._module = module
        self._folder = tempfile.TemporaryDirectory()
        self._errors = Path(self._folder.name, "stderr")
        # Nothing that an earlier process has compiled: the seconds of compilation count.
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._folder.name, "JAX_COMPILATION_CACHE_DIR": ""}
        line = [sys.executable, "-m", f"train.benchmark.{module}", str(time.time()), str(threads)]
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=_CHECKOUT,
                env=environment,
            )

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer.

        Raises:
          UserError: the side cannot do it; says why.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = (
            json.loads(line) if line else {"error": f"ended with status {self._process.wait()}: {self._last_words()}"}
        )
        if "error" in answer:
            raise UserError(f"{self._module}: {what} {arguments.get('workload', '')}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        return next(iter(reversed(self._errors.read_text().splitlines())), "")

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def serve(answers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer until nobody asks any more; an exception becomes an answer too."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = answers[request.pop("what")](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
        pipe.write(json.dumps(answer) + "\n")
        pipe.flush()


class Clock:
    """What a side tells of itself: time since its process was asked for, and memory since its imports.

    Args:
      started: `time.time()` when the process was asked for.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._before = peak_memory()

    def since_start(self) -> float:
        """Seconds since the process was asked for."""
        return time.time() - self._started

    def memory(self) -> int:
        """Bytes of the largest resident set, above what the imports took."""
        return peak_memory() - self._before


class Measured:
    """What both sides' processes have in common: a prepared step, which is timed.

    Args:
      clock: started before.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.step: Callable[[], None] | None = None
        self.images = 0

    def measure(self, seconds: float) -> dict[str, Any]:
        """Return images/s of the prepared step, which has so many images, and the memory it has taken so far."""
        assert self.step is not None, "prepare comes first"
        return {"images_per_second": rate(self.step, self.images, seconds), "peak_bytes": self.clock.memory()}


class MeasuredInput:
    """What processes of the input have in common: batches, which are taken.

    Attributes:
      step: takes one batch.
      images: it has so many.
    """

    def __init__(self) -> None:
        self.step: Callable[[], object] | None = None
        self.images = 0

    def measure(self, seconds: float) -> dict[str, Any]:
        """Return images/s, and the memory that the process holds behind it."""
        assert self.step is not None, "prepare comes first"
        figure = rate(self.step, self.images, seconds)
        return {"images_per_second": figure, "resident_bytes": memory("VmRSS")}


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    if _STATUS.exists():  # getrusage's figure would include the process that started this one
        return memory("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(what: str) -> int:
    """Return an entry of Linux's /proc/self/status in bytes: VmHWM, the largest resident set, or VmRSS, that of now."""
    return 1024 * next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(what))


def rate(step: Callable[[], object], images: int, seconds: float) -> float:
    """Return images/s of a step that waits for its result, over so many seconds and two steps at least."""
    taken, began = 0, time.perf_counter()
    while taken < 2 or time.perf_counter() - began < seconds:
        step()
        taken += 1
    return taken * images / (time.perf_counter() - began)
