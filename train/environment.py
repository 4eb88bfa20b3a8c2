"""What a run ran on: versions, devices, commit, command line, data."""

import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from train import hosts
from train.cores import cores
from train.data.roles import Dataset
from train.onednn import rules

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "ml_collections",
    "numpy",
    "scikit-learn",
    "pillow",
    *("grain", "tensorflow-datasets"),
)
_CHECKOUT = Path(__file__).resolve().parent.parent


def describe(source: str, data: Dataset, given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what environment.json holds; `given` has a hash of each layer that others have trained."""
    counts = {"train": data.train, "validation": data.validation, "test": data.test}
    begun = {"transfer": {"sha256": dict(given)}} if given else {}
    return (
        machine()
        | begun
        | {
            "data": {
                "source": source,
                "fingerprint": data.fingerprint,
                "counts": {role: images.total for role, images in counts.items() if images is not None},
                "skipped": data.skipped,
            },
        }
    )


def machine() -> dict[str, Any]:
    """Return what of it does not depend on data."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command_line": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": cores(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "onednn": rules.version(),
        "processes": hosts.count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }


def _git() -> dict[str, Any] | None:
    """Return the checkout's commit and whether it has been changed since; None outside of git."""

    def git(*arguments: str) -> str:
        # To look takes no lock: who commits meanwhile is not held up, and nothing is left behind by a kill.
        command = ["git", "--no-optional-locks", "-C", str(_CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
