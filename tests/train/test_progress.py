import pytest
from rich.console import Console

from train import progress
from train.progress import Display

RECORD = {"step": 50, "loss": 0.25, "accuracy": 0.9, "images_per_second": 1234.0}


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Display(0, 100, 2.5) as display:
        display.train(RECORD)  # too soon after the beginning
        monkeypatch.setattr(progress, "_PAUSE", 0.0)
        display.train(RECORD)
        display.validation(RECORD)
    assert capsys.readouterr().out.splitlines() == [
        "step 50/100  epoch 1.2/2.5  loss 0.2500  accuracy 90.00%  1,234 images/s",
        "step 50/100  epoch 1.2/2.5  validation loss 0.2500  accuracy 90.00%",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "Console", lambda: Console(force_terminal=True, width=120))
    with Display(0, 100, 2.5) as display:
        display.advance(50)
        display.train(RECORD)
    shown = capsys.readouterr().out
    assert "50/100" in shown
    assert "1,234 images/s" in shown
    assert "ETA" in shown
