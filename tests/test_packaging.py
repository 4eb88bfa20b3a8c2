"""Code runs from the checkout, and a wheel spreads no module called `models` or `train`."""

import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def test_wheel_holds_no_module(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "models",
        "train",
        "scripts",
        "configs",
        "tests",
    ):
        (source / name).symlink_to(CHECKOUT / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith("oldmasters-") for name in names), names


def test_imports_from_another_folder_and_leaves_heavy_frameworks_alone(tmp_path: Path) -> None:
    code = """
import sys, scripts.train, scripts.evaluate, train, models, configs.base
heavy = {"torch", "tensorflow", "sklearn", "matplotlib"} & set(sys.modules)
print(models.__file__)
print(sorted(heavy))
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert process.stdout.splitlines() == [str(CHECKOUT / "models" / "__init__.py"), "[]"]
