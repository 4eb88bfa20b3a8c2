import os
import signal

from train.signals import Signals


def test_sigterm_may_come_twice_and_ctrl_c_ends_at_once_when_it_does() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked(1) == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked(2) == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before
