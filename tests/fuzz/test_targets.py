"""What is fuzzed reads what it should read, and refuses what it should refuse; atheris is not needed."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from train.errors import UserError


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_its_seeds_and_refuses_what_is_cut_off(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]()
    assert target.seeds
    for seed in target.seeds:
        target.read(seed, tmp_path)
    with pytest.raises(UserError) as error:
        target.read(target.short, tmp_path)
    assert str(error.value).isprintable()
