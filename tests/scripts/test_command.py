"""What every command does around its work."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

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
