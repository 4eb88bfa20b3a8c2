"""Commands that are killed at any moment: the same command again comes to what it would have come to.

`KILL_SEED=N pytest -m slow tests/scripts/test_killed.py -k NAME` repeats the moments of a campaign.
"""

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripts import killed
from tests.scripts.killed import KINDS, Case, Whole
from tests.scripts.leavings import contents

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked for in /proc")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return killed.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """What a kind of command leaves that nobody interrupts, computed once."""
    found: dict[str, Whole] = {}

    def of(kind: str) -> Whole:
        if kind not in found:
            found[kind] = killed.uninterrupted(kind, inputs, tmp_path_factory.mktemp(kind) / "case")
        return found[kind]

    return of


def check(kind: str, number: int, inputs: dict[str, str], whole: Whole, folder: Path, seed: int) -> None:
    seed = int(os.environ.get("KILL_SEED", seed))
    first, *more = killed.draw(random.Random(f"{seed} {kind} {number}"))
    print(f"KILL_SEED={seed} repeats {first} {more}")
    for attempt in itertools.count():
        case = Case(kind, inputs, folder / str(attempt))
        took = case.kill(first, whole.seconds)
        if not took:
            break
        # A machine that has less to do, and caches that are full: this one had ended before, as whole as the other.
        whole.seconds = took
        case.wait_for_children()
        assert not killed.differences(contents(case.where), whole.contents)
    late = [how for how in more if case.kill(how, whole.seconds)]
    print(f"killed {1 + len(more) - len(late)} of {1 + len(more)} times, {attempt} had ended before")
    different = killed.differences(case.finish(), whole.contents)
    assert not different, "\n".join(different)


@pytest.mark.parametrize("kind", ["streamed", "stored", "sweep-together", "extract", "cache"])
def test_killed_at_any_moment(kind: str, inputs: dict[str, str], whole: Callable[[str], Whole], tmp_path: Path) -> None:
    check(kind, 0, inputs, whole(kind), tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_commands_killed_at_any_moment(
    kind: str, number: int, inputs: dict[str, str], whole: Callable[[str], Whole], tmp_path: Path
) -> None:
    check(kind, number, inputs, whole(kind), tmp_path, seed=random.randrange(10**6))
