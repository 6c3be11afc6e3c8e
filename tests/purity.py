"""Tests that are not marked `integration` listen on no port and start no process.

`tests/conftest.py` holds this over every pure test; what does either belongs to the part of the
suite that waits for processes (docs/contributing/tests.md).
"""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REMEDY = (
    "a test that is not marked `integration`: mark it, or hand what it tests a fake "
    "(docs/contributing/tests.md)"
)
MARKERS = (
    "integration",
    "slow",
    "postgres",
    "compose",
    "engines",
    "foreign",
    "faults",
    "ray",
    "ray_faults",
)


def is_pure(item: pytest.Item) -> bool:
    """Return whether the test is of those that need nothing but this process."""
    return not any(item.get_closest_marker(name) for name in MARKERS)


@contextmanager
def only_this_process() -> Iterator[None]:
    """Refuse to bind a TCP port and to start a process from Python; unix sockets are left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "bind", _refusing_inet(socket.socket.bind))
        patch.setattr(subprocess.Popen, "__init__", _refuse_process)
        yield


def _refusing_inet(bind: Callable[..., None]) -> Callable[..., None]:
    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a TCP port is bound by {REMEDY}")
        bind(self, address)

    return refuse


def _refuse_process(self: object, *args: Any, **named: Any) -> None:
    # `__del__` of what was never started asks for these.
    self.__dict__.update(_child_created=False, returncode=0)
    raise AssertionError(f"a process is started by {REMEDY}")
