"""A test that is not marked starts nothing, and what is refused says what to do."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_an_unmarked_test_binds_no_tcp_port() -> None:
    with socket.socket() as one, pytest.raises(AssertionError, match="mark it"):
        one.bind(("127.0.0.1", 0))


def test_an_unmarked_test_starts_no_process() -> None:
    with pytest.raises(AssertionError, match="mark it"):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_unix_socket_is_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))


@pytest.mark.integration
def test_a_marked_test_may_do_both() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
    subprocess.run([sys.executable, "-c", ""], check=True)
