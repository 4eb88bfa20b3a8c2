"""The suites of transfer learning and of passes measure what they say; their figures stand in docs/speed-log.md."""

import pytest
from ml_collections import ConfigDict

from train.benchmark import bare_step, passes, transfer
from train.errors import UserError


@pytest.fixture
def lenet(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    monkeypatch.setattr(passes, "_SECONDS", 0.01)
    monkeypatch.setattr(bare_step.bare_step, "__defaults__", (None, None, 0.01))
    config.model.update(name="lenet5", hidden=None)
    config.dataset.image_size = 32
    config.evaluate.batch_size = 100
    return config


@pytest.mark.parametrize(
    ("suite", "sides"),
    [
        ("frozen", ["frozen to S4", "finetune"]),
        ("stored", ["stored F6", "frozen to F6"]),
        ("extraction", ["extraction of F6", "inference"]),
        ("evaluation", ["evaluation", "its step"]),
    ],
)
def test_both_sides_are_measured(lenet: ConfigDict, suite: str, sides: list[str]) -> None:
    made = (transfer.SUITES | passes.SUITES)[suite](lenet)
    assert list(made) == sides
    assert all(side() > 0 for side in made.values())


def test_a_network_without_convolutions_has_none_to_freeze(config: ConfigDict) -> None:
    with pytest.raises(UserError, match="mlp: has no convolutions"):
        transfer.frozen(config)
