"""How many cores this process may use."""

import os


def cores() -> int:
    """Return how many: those that the system gives it (as `taskset` and SLURM say), or its share of them (NPROC)."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("NPROC", "")  # of a sweep's processes; XLA heeds it too
    return min(given, int(share)) if share.isdecimal() and int(share) else given
