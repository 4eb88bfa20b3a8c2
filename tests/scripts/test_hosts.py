"""Flags of a command that is one of several processes."""

import socket
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--coordinator=a:1"], "--processes is missing"),
        (["--process=0", "--coordinator=a:1"], "--processes is missing"),
        (["--coordinator=a", "--processes=2", "--process=0"], "--coordinator=a: must be HOST:PORT"),
        (["--coordinator=a:99999", "--processes=2", "--process=0"], "--coordinator=a:99999: must be HOST:PORT"),
        (["--coordinator=a:1", "--processes=2", "--process=2"], "--process=2: must be below --processes=2"),
        (["--coordinator=a:1", "--processes=1", "--process=0", "--distributed"], "--distributed and --coordinator=a:1"),
        (["--distributed"], "--distributed: jax finds no SLURM step, Open MPI, Kubernetes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line(one_line_error: Callable[..., str], flags: list[str], line: str) -> None:
    assert one_line_error("train", "--workdir=never", *flags).startswith(f"error: {line}")


def test_nobody_there_and_a_port_taken(one_line_error: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place = [f"--coordinator=localhost:{port}", "--processes=2"]
        line = one_line_error("train", "--workdir=never", *place, "--process=0")
        assert f"port {port} cannot be opened here (Address already in use)" in line
    line = one_line_error("train", "--workdir=never", *place, "--process=1", "--wait=1")
    assert f"--coordinator=localhost:{port}: process 0 has not answered within 1 s" in line
