import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from train.benchmark import sweeping
from train.errors import UserError


def test_the_commands_are_of_the_same_runs(config: ConfigDict) -> None:
    seeds: dict[str, list[int]] = {"sweep": [], "train": []}

    def launch(arguments: list[str], script: str = "train") -> subprocess.Popen[bytes]:
        flags = dict(argument.split("=", 1) for argument in arguments)
        if script == "sweep":
            seeds[script] += tomllib.loads(Path(flags["--sweep"]).read_text())["grid"]["seed"]
        else:
            seeds[script].append(int(flags["--config.seed"]))
            assert flags["--config.evaluate.report"] == "False"  # as scripts.sweep has it
        return subprocess.Popen([sys.executable, "-c", ""])

    figures = [measure() for measure in sweeping.commands(config, launch).values()]
    assert seeds["sweep"] == seeds["train"] == list(range(8))
    assert min(figures) > 0


def test_a_command_that_fails_is_named(config: ConfigDict) -> None:
    def launch(arguments: list[str], script: str = "train") -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)", f"scripts.{script}"])

    for name, measure in zip(("sweep", "train"), sweeping.commands(config, launch).values(), strict=True):
        with pytest.raises(UserError, match=rf"scripts.{name} has failed with status 3"):
            measure()
