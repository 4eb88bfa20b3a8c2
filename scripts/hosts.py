"""Flags of a command that may run as one of several processes, on one host or many; docs/scaling.md has examples."""

import sys
from collections.abc import Callable

from absl import flags

from train import hosts, watching
from train.errors import UserError

_DISTRIBUTED = flags.DEFINE_boolean(
    "distributed", False, "Be one of several processes, as SLURM, Open MPI, Kubernetes or Cloud TPU say."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "By hand: HOST:PORT of process 0, the same for all.")
_PROCESSES = flags.DEFINE_integer("processes", None, "By hand: how many processes there are.", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process", None, "By hand: the number of this one, from 0.", lower_bound=0)
_WAIT = flags.DEFINE_integer("wait", hosts.WAIT, "Seconds until all processes must have come.", lower_bound=1)
_HEARTBEAT = flags.DEFINE_integer(
    "heartbeat", hosts.HEARTBEAT, "Seconds without a sign of life after which a process counts as dead.", lower_bound=5
)


def over_hosts(main: Callable[[], None]) -> Callable[[], None]:
    """Return a command that runs `main` as one of several processes, where the flags ask for it."""

    def run() -> None:
        place = _place()
        if place is None and not _DISTRIBUTED.value:
            main()
            return
        debug = flags.FLAGS.debug
        if not watching.is_watched():
            sys.exit(watching.watch(place, _WAIT.value, _HEARTBEAT.value, debug=debug))
        watching.attach(debug=debug)
        with hosts.joined(place, _WAIT.value, _HEARTBEAT.value):
            main()

    return run


def _place() -> hosts.Place | None:
    """Return what the flags say by hand.

    Raises:
      UserError: they say too little, or contradict each other.
    """
    coordinator, processes, process = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    if coordinator is None and processes is None and process is None:
        return None
    if coordinator is None or processes is None or process is None:
        given = {"coordinator": coordinator, "processes": processes, "process": process}
        missing = next(name for name, value in given.items() if value is None)
        raise UserError(f"--{missing} is missing: by hand it takes --coordinator=HOST:PORT --processes=N --process=I")
    if _DISTRIBUTED.value:
        raise UserError(f"--distributed and --coordinator={coordinator}: it is found out or by hand; leave one out")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator}: must be HOST:PORT, of process 0")
    if process >= processes:
        raise UserError(f"--process={process}: must be below --processes={processes}; the first process is 0")
    return hosts.Place(coordinator, processes, process)
