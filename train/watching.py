"""A parent that watches one process of a run over several hosts.

When another host is gone, jax ends this process from within, without an exception and with a page of its own words
(SIGABRT). So a command that is one of several starts itself once more as a child: the parent reads what libraries write
to the child's output, passes signals on, and says in one line how it ended. Whatever ends the parent ends the child
(Linux), and with it the child's workers.
"""

import collections
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from types import FrameType

from train.hosts import Place

# Tells a child where libraries shall write, and who its parent is.
_WATCHED = "OLDMASTERS_WATCHED"
# Of what libraries have written, so many lines are kept.
_LINES = 400
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


def is_watched() -> bool:
    """Return whether this process is such a child."""
    return _WATCHED in os.environ


def watch(place: Place | None, wait: int, heartbeat: int, *, debug: bool) -> int:
    """Start this command once more, and return its exit status when it has ended.

    SIGTERM and Ctrl-C go on to the child as SIGTERM, which all hosts then heed at one step; a second Ctrl-C ends the
    child at once. If jax or the system has ended it, one line on stderr says what is known, and the status is 1.

    Args:
      place: which process this is, or None if jax finds it out.
      wait: seconds that a process waits for the others at the beginning.
      heartbeat: seconds without a sign of life after which a process counts as dead.
      debug: let libraries write to stderr.
    """
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | {_WATCHED: f"{write}:{os.getpid()}"},
        pass_fds=[write],
        start_new_session=True,  # a terminal's Ctrl-C comes to the parent alone
    )
    os.close(write)
    passed: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Schedulers and launchers may both send SIGTERM, while the state is saved; who presses Ctrl-C twice is serious.
        child.send_signal(signal.SIGKILL if passed and number == signal.SIGINT else signal.SIGTERM)
        passed.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    said: collections.deque[str] = collections.deque(maxlen=_LINES)

    def listen() -> None:
        with os.fdopen(read, errors="replace") as lines:
            for line in lines:
                said.append(line)
                if debug:
                    sys.stderr.write(line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    status = child.wait()
    listener.join(timeout=2)  # a worker of the child may hold the pipe a moment longer
    if status >= 0:
        return status
    if passed:
        print("error: stopped before a step could be saved; the last checkpoint is kept", file=sys.stderr)
        return 128 + passed[-1]
    print(f"error: {_explain(-status, ''.join(said.copy()), place, wait, heartbeat)}", file=sys.stderr)
    return 1


def _explain(number: int, said: str, place: Place | None, wait: int, heartbeat: int) -> str:
    """Say in one line why the child has ended, from the signal and from what jax has written."""
    at = f"--coordinator={place.coordinator}" if place else "--distributed"
    if doubled := re.search(r"(\d+) unexpectedly tried to connect", said):
        return f"{at}: process {doubled[1]} has come twice; give each process a number of its own, and start all again"
    if "RegisterTask" in said:
        if place and place.process == 0:
            return f"{at}: of {place.processes} processes, not all have come within {wait} s; start the others too"
        return (
            f"{at}: process 0 has not answered within {wait} s; start it, see whether its port can be reached from "
            "here, and whether no other process has this one's number"
        )
    numbers = re.search(r"^process (\d+) of (\d+)$", said, re.MULTILINE)
    who = "process {} of {}".format(*numbers.groups()) if numbers else "this process"
    kept = "the last checkpoint is kept; the same command, on all hosts, goes on from it"
    if dead := re.search(r"stopped sending heartbeats\):\n((?:\d+\n)+)", said):
        return f"{who}: process {', '.join(dead[1].split())} has ended, or is silent for {heartbeat} s; {kept}"
    if "distributed service detected fatal errors" in said:
        return f"{who}: process 0, which keeps all together, has ended; see what its host says; {kept}"
    why = {
        signal.SIGABRT: ", as when another process is gone",
        signal.SIGKILL: ", as when memory runs out",
    }.get(signal.Signals(number), "")
    return f"{who}: ended by {signal.Signals(number).name}{why}; {kept}; --debug shows what libraries say"


def attach(*, debug: bool) -> None:
    """Be the child: end with the parent, and let what is not Python write to where the parent reads it."""
    pipe, parent = map(int, os.environ.pop(_WATCHED).split(":"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has gone before we could say so
        os._exit(1)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        stream.flush()
        ours = os.dup(number)
        os.dup2(pipe, number)
        setattr(sys, name, os.fdopen(ours, "w", buffering=1 if stream.line_buffering else -1, errors=stream.errors))
    os.close(pipe)
