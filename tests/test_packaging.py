"""Code runs from the checkout, and a wheel spreads no module called `models` or `train`."""

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from tests import licenses

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


def test_each_dependency_ends_before_what_may_break_us_and_the_lock_is_within() -> None:
    """What the lock does not have is not installed by .ci/run: jax for other devices is jax."""
    lock = {licenses.normal(name): Version(version) for name, version in licenses.lock().items()}
    for extra, requirement in licenses.direct():
        bounds = {bound.operator for bound in requirement.specifier}
        assert bounds in ({">=", "<"}, {"=="}), f"[{extra}] {requirement}"
        assert lock[licenses.normal(requirement.name)] in requirement.specifier, f"[{extra}] {requirement}"


def test_the_list_of_licences_is_that_of_the_lock() -> None:
    lines = (CHECKOUT / "docs/licenses.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    assert {name: version for name, version, *_ in rows} == licenses.lock()
    direct = {licenses.normal(requirement.name) for _, requirement in licenses.direct()}
    assert {licenses.normal(name) for name, *_, extras in rows if extras} == direct
    for name, version, license, _ in rows:
        assert re.match(r"Apache|MIT|BSD|MPL-2|ISC|PSF-2|Matplotlib", license), f"{name}: {license}"
        assert not re.search(r"\b[AL]?GPL|SSPL|Proprietary|\bNC\b", license), f"{name}: {license}"
        try:
            installed = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # of an extra that is not there
            continue
        if installed["Version"].partition("+")[0] == version:
            assert licenses.license_of(installed) == license, name
