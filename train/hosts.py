"""The processes that share a run, one a host or one an accelerator: how they find each other, and who writes.

On one process nothing of this does anything: no service is started, and everybody is the writer. Where there are
several, each runs the same program on the same config, and what one of them alone could know (the content of its disk,
a signal) is compared or agreed on here. A process that fails leaves at once; jax's coordination service, whose
heartbeats go between all of them, then ends the others, and `watching.py` says so.
"""

import contextlib
import hashlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.errors import UserError

_T = TypeVar("_T")

# Seconds without a sign of life after which a process counts as dead, and seconds to wait for all at the beginning.
HEARTBEAT, WAIT = 30, 300
# How long a process that is done waits for the others: the writer may have a report to draw.
_UNTIL_ALL_ARE_DONE = 6 * 3600
# Bytes of a host's name that are told to the others.
_NAME = 64


class Place(NamedTuple):
    """Which of how many processes this one is.

    Attributes:
      coordinator: HOST:PORT of process 0, which all can reach.
      processes: how many there are.
      process: the number of this one, from 0.
    """

    coordinator: str
    processes: int
    process: int


def number() -> int:
    """Return the number of this process, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def count() -> int:
    """Return how many processes share the run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def writes() -> bool:
    """Return whether this process writes what is written once: all of the run folder but checkpoints."""
    return number() == 0


@contextlib.contextmanager
def joined(place: Place | None, wait: int = WAIT, heartbeat: int = HEARTBEAT) -> Iterator[None]:
    """Be one of several processes; process 0 alone prints to the standard output.

    Args:
      place: which one, or None: jax finds it out from SLURM, Open MPI, Kubernetes or Cloud TPU.
      wait: seconds until all must have come.
      heartbeat: seconds without a sign of life after which a process counts as dead.

    Raises:
      UserError: there is nothing to find out, or the coordinator's port is taken.
    """
    _connect(place, wait, heartbeat)
    print(f"process {number()} of {count()}", file=sys.__stderr__, flush=True)  # for the parent that watches
    try:
        with contextlib.nullcontext() if writes() else _silence():
            yield
    except Exception as error:
        if _is_of_network(error):
            # Another process is gone. By its heartbeats jax soon knows which, and ends this one; its parent says so.
            time.sleep(2 * heartbeat)
        raise


def leave(error: BaseException) -> None:
    """End this process at once, after an error of its own; where all end together, leave in good order.

    Without it, Python would wait at its end for threads that wait for the other processes, which wait for this one.
    """
    if not jax.distributed.is_initialized():
        return
    status = error.code if isinstance(error, SystemExit) else 1
    if status in (None, 0, 128 + signal.SIGTERM):  # done, or all have stopped at one step
        jax.distributed.shutdown()
        return
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _connect(place: Place | None, wait: int, heartbeat: int) -> None:
    # jax's own notice of preemption takes SIGTERM from here on; see signals.py.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # for CPUs; others know nothing of it
    if place is not None and place.process == 0:
        _check_port(place.coordinator)
    try:
        jax.distributed.initialize(
            coordinator_address=place and place.coordinator,
            num_processes=place and place.processes,
            process_id=place and place.process,
            cluster_detection_method=None if place is None else "deactivate",
            initialization_timeout=wait,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=_UNTIL_ALL_ARE_DONE,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        what = "--distributed" if place is None else f"--coordinator={place.coordinator}"
        if isinstance(error, ValueError) and "should be defined" in str(error):
            raise UserError(
                "--distributed: jax finds no SLURM step, Open MPI, Kubernetes (which needs the package kubernetes) or "
                "Cloud TPU here; give --coordinator=HOST:PORT --processes=N --process=I"
            ) from error
        raise UserError(
            f"{what}: jax cannot join the processes ({str(error).splitlines()[0]}); mend that, and start all again"
        ) from error


def _check_port(coordinator: str) -> None:
    port = int(coordinator.rpartition(":")[2])
    with contextlib.closing(socket.socket(socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"--coordinator={coordinator}: port {port} cannot be opened here ({error.strerror}); choose another, "
                "on all hosts, or end what uses it"
            ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _is_of_network(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, tells of a lost connection to another process."""
    if error is None:
        return False
    of_jax = isinstance(error, (jax.errors.JaxRuntimeError, ValueError, RuntimeError))
    words = ("Gloo", "NCCL", "Socket closed", "Connection reset", "Connection closed", "CoordinationService")
    return (of_jax and any(word in str(error) for word in words)) or _is_of_network(error.__cause__)


def barrier(name: str) -> None:
    """Return when all processes have come here."""
    if count() > 1:
        multihost_utils.sync_global_devices(name)


def after_writer(write: Callable[[], _T], read: Callable[[], _T]) -> _T:
    """Return `write()` of the writer and, when that is done, `read()` of all others."""
    made = write() if writes() else None
    barrier("written")
    return read() if made is None else made


def of_writer(value: bool) -> bool:
    """Return what the writer has, for of files others may see something else."""
    return value if count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def must_agree(what: str, text: str, mend: str) -> None:
    """Make sure that all processes have the same text.

    Args:
      what: of which it is the content.
      text: compared by its SHA-256.
      mend: what to do otherwise.

    Raises:
      UserError: some have another than process 0, on all processes; names them.
    """
    if count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    name = np.frombuffer(socket.gethostname().encode()[:_NAME].ljust(_NAME), np.uint8)
    told = multihost_utils.process_allgather(np.concatenate([digest, name]))  # [processes, 32 + _NAME]
    hosts = [bytes(row[len(digest) :]).decode(errors="replace").strip() for row in told]
    other = [place for place, row in enumerate(told) if bytes(row[: len(digest)]) != bytes(told[0][: len(digest)])]
    if other:
        listed = ", ".join(f"{place} ({hosts[place]})" for place in other)
        raise UserError(f"{what}: of process 0 ({hosts[0]}) is not that of process {listed}; {mend}")
