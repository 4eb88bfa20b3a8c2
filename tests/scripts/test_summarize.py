"""What scripts.summarize prints: REFERENCE's counts, one line for what is wrong, a drawing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command


@pytest.mark.parametrize(
    ("flags", "parameters", "macs"),
    [
        (["--model=lenet5"], 61_706, 416_520),
        (["--model=lenet5", "--variant=1998"], 60_000, None),
        (["--model=alexnet", "--variant=2012"], 60_965_224, 724_406_816),
        (["--model=alexnet"], 61_100_840, 714_188_480),
        (["--model=alexnet", "--image_size=128"], 61_100_840, 254_835_392),
        (["--model=vgg11"], 132_863_336, None),
        (["--model=vgg13"], 133_047_848, None),
        (["--model=vgg", "--variant=C"], 133_638_952, None),
        (["--model=vgg16"], 138_357_544, 15_470_264_320),
        (["--model=vgg16", "--batch_norm"], 138_365_992, 15_470_264_320),
        (["--model=vgg19"], 143_667_240, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_counts_are_the_published_ones(command: Command, flags: list[str], parameters: int, macs: int | None) -> None:
    process = command("summarize", "--json", *flags)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert summary["parameters"] == parameters == sum(stage["parameters"] for stage in summary["stages"])
    assert macs in (None, summary["macs"])
    assert summary["macs"] == sum(stage["macs"] for stage in summary["stages"])
    if "--variant=1998" in flags:
        assert summary["connections"] == 340_908


def test_stages_of_lenet5(command: Command) -> None:
    summary = json.loads(command("summarize", "--model=lenet5", "--json").stdout)
    assert (summary["model"], summary["variant"]) == ("lenet5", "modern")
    assert summary["stages"][2] == {
        "name": "C3",
        "shape": [10, 10, 16],
        "parameters": 2_416,
        "macs": 240_000,
        "activations": 1_600,
        "connections": 241_600,
        "receptive_field": 14,
        "receptive_field_stride": 2,
        "receptive_field_offset": 0,
    }


def test_table_and_drawing(command: Command, tmp_path: Path) -> None:
    process = command("summarize", "--model=vgg16", "--memory=16", f"--draw={tmp_path}/v.svg")
    assert process.returncode == 0, process.stderr
    assert "138,357,544" in process.stdout
    assert "Of 16.00 GiB, batches of about" in process.stdout
    assert (tmp_path / "v.svg").read_text().count("<path") > 60  # three faces for each of 22 blocks


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--model=NAME is missing: one of lenet5, lenet1d"),
        (["--model=vgg17"], "--model=vgg17: must be one of lenet5"),
        (["--model=vgg", "--variant=F"], "--variant=F: vgg has the variants D, A, A-LRN, B, C, E"),
        (["--model=mlp", "--variant=A"], "--variant=A: mlp has no variants"),
        (["--model=lenet5", "--batch_norm"], "--batch_norm: lenet5 does not take it"),
        (["--model=alexnet", "--image_size=40"], "stage pool5: a 3x3 window makes 0x0 of a 1x1 map"),
        (["--model=lenet5", "--variant=1998", "--classes=3"], "ten digits, not with 3 classes"),
        (["--model=alexnet", "--variant=2012", "--channels=0"], "--channels=0: 0 is not a positive integer"),
        (
            ["--model=lenet5", "--scaling=a100_ethernet", "--draw=x.png"],
            "--draw: is of one device; leave",
        ),
        (
            ["--model=lenet5", "--scaling=a100_ethernet", "--memory=8"],
            "--memory: is of one device; leave",
        ),
        (["--model=lenet5", "--scaling=a100_ethernet", "--utilisation=nan"], "--utilisation=nan: must be finite"),
        (["--model=lenet5", "--memory=inf"], "--memory=inf: must be finite"),
        (["--model=lenet5", "--memory=1e300"], "--memory=1e+300: must be finite, and is in GiB"),
        (["--model=lenet5", f"--batch_size={'9' * 321}"], "--batch_size"),
        (["--model=lenet5", "--draw=x.gif"], "x.gif: must end in .png or .svg"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_one_line(one_line_error: Callable[..., str], flags: list[str], message: str) -> None:
    assert message in one_line_error("summarize", *flags)
