import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command


def test_json_of_the_filter(command: Command) -> None:
    process = command("convolve", "filter", "--json")
    assert process.returncode == 0, process.stderr
    example = json.loads(process.stdout)
    assert example["example"] == "filter"
    assert example["input"][0] == [3, 3, 2, 1, 0]
    assert example["filter"] == [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
    assert example["output"] == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]


def test_edges_of_a_photo_are_drawn(command: Command, tmp_path: Path) -> None:
    process = command("convolve", "edges", f"--output={tmp_path}/e.png")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip().endswith("e.png")
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "EXAMPLE: must be one of filter, padding, stride"),
        (["filtre"], "filtre: must be one of filter, .*; nearest: filter"),
        (["filter", "padding"], "padding: flags start with two hyphens"),
        (["filter", "--image=x.jpg"], "--image=x.jpg: filter takes none; edges does"),
        (["edges", "--image=none.jpg"], "--image=none.jpg: No such file or directory"),
        (["filter", "--output=x.pdf"], "x.pdf: must end in .png or .svg"),
        (["filter", "--output=/nowhere/x.png"], "there is no folder /nowhere that can be written to"),
        (["mlp", "--output=mlp.png"], "this example has numbers, and nothing to draw"),
    ],
)
def test_what_is_wrong_is_one_line(one_line_error: Callable[..., str], flags: list[str], message: str) -> None:
    line = one_line_error("convolve", *flags)
    for part in message.split(".*"):
        assert part in line
