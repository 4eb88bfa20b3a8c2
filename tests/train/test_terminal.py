"""Names from files, as a terminal is shown them."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CHECKOUT, Command
from train import terminal
from train.errors import UserError
from train.terminal import printable

TITLE = "\x1b]0;owned\x07"  # sets the title of a terminal's window


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("daisy, sööt 猫", "daisy, sööt 猫"),
        (TITLE, r"\x1b]0;owned\x07"),
        ("two\nlines\r\t\b", r"two\nlines\r\t\x08"),
        ("\x9b2J", r"\x9b2J"),  # one byte that begins a command
        ("gpj.\u202eexe", r"gpj.\u202eexe"),  # what follows is written from right to left
        ("\ud800 \0", r"\ud800 \x00"),
        ("$(touch x) `x` [bold]", "$(touch x) `x` [bold]"),
    ],
)
def test_what_moves_the_cursor_is_written_as_its_number(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(UserError(text)) == shown


def test_brackets_and_colons_in_tables_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("class")
    for name in ("[bold red]x[/]", "[link=file:///etc/passwd]x[/link]", "[/]", ":smiley:"):
        table.add_row(name)
    terminal.console(80).print(table)
    shown = capsys.readouterr().out
    for name in ("[bold red]x[/]", "[link=file:///etc/passwd]x[/link]", "[/]", ":smiley:"):
        assert f" {name} " in shown


def test_no_table_is_printed_in_another_way() -> None:
    for folder in ("train", "scripts"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            if "rich.console" in path.read_text():
                assert path.name in ("terminal.py", "progress.py"), path  # the bar prints numbers alone


def test_predictions_of_files_and_classes_with_any_name(command: Command, tmp_path: Path) -> None:
    """A network of somebody else's, and a photo: what is printed is text, and no command that is named in it is run."""
    evil = [f"{TITLE}$(touch x)", "<script>`touch x`\n[bold]"]
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", image=images, label=np.arange(40) % 2, class_names=evil)
    flags = ["--config.model.name=mlp", "--config.model.hidden=(2,)", "--config.dataset.image_size=8"]
    flags += ["--config.train.epochs=1", "--config.train.batch_size=8", "--config.evaluate.report=False"]
    flags += ["--config.log.tensorboard=False", "--config.dataset.test=0.2"]
    run = tmp_path / "run"
    process = command(
        "train", "--config=configs/base.py", f"--config.dataset.source=npz:{tmp_path}/a.npz", f"--workdir={run}", *flags
    )
    assert process.returncode == 0, process.stderr
    photo = tmp_path / f"{TITLE}\n[red].png"
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "png")
    photo.write_bytes(file.getvalue())
    bad = tmp_path / f"{TITLE}.jpg"
    bad.write_bytes(b"GIF8")
    predicted = command("predict", f"--run={run}", str(photo), str(bad))
    assert predicted.returncode == 1
    assert r"\x1b]0;owned\x07\n[red].png" in predicted.stdout
    assert r"\x1b]0;owned\x07$(touch x)" in predicted.stdout
    assert len(predicted.stderr.splitlines()) == 2
    evaluated = command("evaluate", f"--run={run}", "--classes=2")
    assert r"<script>`touch x`\n[bold]" in evaluated.stdout, evaluated.stderr
    for process in (predicted, evaluated):
        assert all(line.isprintable() for line in (process.stdout + process.stderr).splitlines())
    assert not (CHECKOUT / "x").exists()


def test_a_command_names_what_it_does_not_know_on_one_line(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "scripts.predict", f"--run={tmp_path}/{TITLE}\nx", "a.jpg"]
    process = subprocess.run(line, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
    assert process.stderr.rstrip().isprintable()
