"""What every command does around its work."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command
from train.run import RunFolder

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def test_garbage_is_left_alone_while_a_command_is_imported_and_collected_while_it_runs() -> None:
    code = (
        "import gc, sys\n"
        "sys.argv = ['-m']\n"  # as Python has it while it looks for the module of `python -m`
        "from scripts import command\n"
        "importing, sys.argv = gc.isenabled(), ['scripts/train.py']\n"
        "command.launch(lambda: print(importing, gc.isenabled()))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert process.stdout == "False True\n", process.stderr


@pytest.mark.parametrize("path", sorted((CHECKOUT / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_that_is_run_as_a_file_says_how_it_is_run(path: Path) -> None:
    if "run it as" not in path.read_text():
        assert path.stem in ("__init__", "command", "command_line", "hosts", "outputs")  # no commands
        return
    with pytest.raises(SystemExit, match=f"^error: .*run it as: python -m scripts.{path.stem}$"):
        runpy.run_path(str(path), run_name="__main__")


def test_who_imports_commands_keeps_collecting_garbage() -> None:
    code = "import gc, scripts.train; print(gc.isenabled())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert process.stdout == "True\n", process.stderr


def test_a_config_that_ends_the_program_is_no_success(one_line_error: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def get_config():\n    raise SystemExit('set DATA first')\n")
    line = one_line_error("train", f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
    assert line == "error: the config file ends the program (set DATA first); mend it"


def test_flags_in_a_file_reach_the_processes_of_a_sweep(command: Command, tmp_path: Path) -> None:
    (tmp_path / "flags").write_text(
        "--config.train.epochs=0.5\n--config.schedule.warmup_epochs=0\n--config.model.name=mlp\n--config.model.hidden=(8,)\n"
    )
    (tmp_path / "ranges.toml").write_text("[grid]\nseed = [0]\n")
    flags = (f"--flagfile={tmp_path}/flags", f"--sweep={tmp_path}/ranges.toml", f"--workdir={tmp_path}/w")
    process = command("sweep", *flags, "--by=processes")
    assert process.returncode == 0, process.stderr
    assert RunFolder(tmp_path / "w" / "runs" / "seed=0").config.train.epochs == 0.5


def test_a_file_of_flags_that_is_not_there_is_a_line(one_line_error: Callable[..., str]) -> None:
    assert "nowhere" in one_line_error("summarize", "--flagfile=/nowhere")
