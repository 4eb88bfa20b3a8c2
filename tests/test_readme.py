"""The front door holds what it says."""

import re
import shlex
from pathlib import Path

import pytest

from configs import base
from train.settings import leaves

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for language, text in BLOCKS if language in ("sh", "bash") for line in text.replace("\\\n", " ").splitlines()
]


def test_the_first_two_bash_blocks_are_one_line_each() -> None:
    bash = [text for language, text in BLOCKS if language == "bash"]
    assert len(bash) == 2
    assert all(text.count("\n") == 1 for text in bash)
    assert "scripts.train" in bash[0]
    assert "pytest" in bash[1]


def test_the_tree_is_true() -> None:
    tree = next(text for language, text in BLOCKS if not language)
    folder = CHECKOUT
    for line in tree.splitlines():
        if head := re.match(r"(\w+)/ ", line):
            folder = CHECKOUT / head[1]
            assert folder.is_dir()
        for name in re.findall(r"\b[\w-]+\.(?:py|md)\b", line):
            assert any(folder.rglob(name)), f"{name} is not in {folder.name}/"
    for file in [*(CHECKOUT / "train").rglob("*.py"), *(CHECKOUT / "models").rglob("*.py")]:
        assert file.name in tree or file.name == "__init__.py", f"{file} is missing"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_what_exists(command: str) -> None:
    known = {f"--config.{key}" for key, _ in leaves(base.get_config())}
    for word in shlex.split(command, comments=True):
        if word.startswith("--config."):
            assert word.partition("=")[0] in known
        if word.startswith("--config=configs/"):
            assert (CHECKOUT / word.removeprefix("--config=").rstrip(";").partition(":")[0]).is_file()
        if word.startswith("scripts."):
            assert (CHECKOUT / "scripts" / f"{word.removeprefix('scripts.')}.py").is_file()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)\)", README + (CHECKOUT / "CONTRIBUTING.md").read_text()):
        assert (CHECKOUT / target).exists(), target
