"""The whole commands: from a published file to accuracy, and out again; every bad input one line."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from train.weights import torch_writer

CODE = b"\x80\x02cos\nsystem\nX\x08\x00\x00\x00touch it\x85R."  # a pickle that would run a command
STATED = [
    "--model=lenet5",
    "--config.dataset.resize=bilinear",
    "--config.dataset.crop=1.0",
    "--config.dataset.mean=(0.,)",
    "--config.dataset.std=(1.,)",
]


def test_the_published_net_comes_proved_is_evaluated_and_goes(
    command: Command, one_line_error: Callable[..., str], real_data: Path, tmp_path: Path
) -> None:
    model, pair, run = (
        real_data / "onnx_mnist" / "model.onnx",
        real_data / "onnx_mnist" / "test_data_0.npz",
        tmp_path / "run",
    )
    done = command("import_weights", f"--weights={model}", f"--workdir={run}", f"--verify={pair}", *STATED)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("outputs")[1].split()[1]) < 1e-4
    assert "lenet5 modern, 6 arrays by order from model.onnx" in done.stdout

    assert one_line_error("evaluate", f"--run={run}").startswith("error: --source=URI is missing: imported weights")

    output = tmp_path / "accuracy.json"
    done = command("evaluate", f"--run={run}", f"--source=idx:{real_data / 'mnist'}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["accuracy"] == pytest.approx(0.989, abs=0.001)  # its publisher: 1.1 % errors

    done = command("export", f"--run={run}", "--format=onnx", f"--output={tmp_path / 'net.onnx'}")
    assert done.returncode == 0, done.stderr
    assert "net.onnx.md says how to use it" in done.stdout
    # Our own file says of itself what had to be stated of theirs.
    done = command(
        "import_weights", f"--weights={tmp_path / 'net.onnx'}", f"--workdir={tmp_path / 'back'}", f"--verify={pair}"
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_prints_every_tensors_way_and_writes_nothing(
    command: Command, real_data: Path, tmp_path: Path
) -> None:
    model = real_data / "onnx_mnist" / "model.onnx"
    done = command("import_weights", f"--weights={model}", f"--workdir={tmp_path / 'run'}", "--dry_run", *STATED)
    assert done.returncode == 0, done.stderr
    for word in ("Parameter5", "8x1x5x5", "OIHW to HWIO", "C1/kernel", "5x5x1x8", "output/bias"):
        assert word in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_name_in_a_file_is_printed_as_it_stands(command: Command, tmp_path: Path) -> None:
    tensors = {"c[/b].weight": np.zeros((4, 9), np.float32), "d[red].weight": np.zeros((2, 4), np.float32)}
    torch_writer.write(tmp_path / "net.pth", tensors, "{}")
    flags = [
        "--model=mlp",
        "--config.model.activation=relu",
        "--config.dataset.image_size=3",
        "--config.dataset.channels=1",
    ]
    done = command("import_weights", f"--weights={tmp_path / 'net.pth'}", "--dry_run", *flags, *STATED[1:])
    assert done.returncode == 0, done.stderr
    assert "c[/b].weight" in done.stdout
    assert "d[red].weight" in done.stdout


def test_a_wrong_proof_fails_and_leaves_nothing(
    one_line_error: Callable[..., str], real_data: Path, tmp_path: Path
) -> None:
    with np.load(real_data / "onnx_mnist" / "test_data_0.npz") as file:
        np.savez(tmp_path / "pair.npz", inputs=file["inputs"], outputs=file["outputs"] + 1)
    model = real_data / "onnx_mnist" / "model.onnx"
    flags = [f"--weights={model}", f"--workdir={tmp_path / 'run'}", f"--verify={tmp_path / 'pair.npz'}", *STATED]
    line = one_line_error("import_weights", *flags)
    assert "is not the same network here: outputs differs by" in line
    assert not (tmp_path / "run").exists()


def test_a_pickle_that_would_run_a_command_is_refused_and_named(
    one_line_error: Callable[..., str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", CODE)
    (tmp_path / "old.pth").write_bytes(CODE)
    for name in ("net.pth", "old.pth"):
        line = one_line_error(
            "import_weights", "--model=vgg16", f"--weights={tmp_path / name}", f"--workdir={tmp_path / 'run'}"
        )
        assert "names os.system, which is no tensor; it is refused" in line
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.pth", "old.pth"]
    assert not Path("it").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--weights=FILE is missing"),
        (["--weights=setup.cfg"], "--workdir=FOLDER is missing"),
        (["--weights=setup.cfg", "--workdir=none"], "setup.cfg: is of none of these kinds: .pth and .pt (PyTorch)"),
        (["--weights=none.pth", "--workdir=none"], "none.pth: cannot be read (No such file or directory)"),
        (["--weights=docs", "--workdir=none"], "docs: "),
        (["--weights=setup.cfg", "--workdir=docs"], "docs: is there already, and not empty; choose another --workdir"),
        (["--weights=setup.cfg", "--workdir=none", "--config.model.nmae=x"], "nearest: config.model.name"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(flags: list[str], words: str, one_line_error: Callable[..., str]) -> None:
    assert words in one_line_error("import_weights", *flags)
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "takes --run=FOLDER, --format=safetensors|torch|keras|onnx|stablehlo and --output=FILE"),
        (["--run=docs", "--format=torch", "--output=none/net.pth"], "--output=none/net.pth: there is no folder none"),
        (["--run=docs", "--format=torch", "--output=net.onnx"], "a file of --format=torch ends in .pth or .pt"),
        (["--run=docs", "--format=torch", "--output=net.pth"], "docs: no run folder"),
    ],
)
def test_what_export_cannot_do_is_one_line(flags: list[str], words: str, one_line_error: Callable[..., str]) -> None:
    assert words in one_line_error("export", *flags)
