"""A taken port is told apart from a free one, with who has it."""

import os
import socket

import pytest

from skerry.plumbing.errors import Conflict
from skerry.plumbing.ports import check_port_free, fixed_port, free_port, is_listening

pytestmark = [pytest.mark.integration, pytest.mark.enable_socket]

HOST = "127.0.0.1"


def test_a_free_port_is_none_that_outgoing_connections_are_given_and_is_told_once() -> None:
    told = [free_port(HOST) for _ in range(50)]
    assert len(set(told)) == 50
    assert all(port < 32_768 for port in told)


def test_a_port_that_is_written_down_before_its_listener_starts_is_given_to_nobody_else() -> None:
    fixed = {fixed_port(HOST) for _ in range(50)}
    assert len(fixed) == 50
    assert max(fixed) < 24_000 <= min(free_port(HOST) for _ in range(50))


async def test_free_port_is_free_and_nobody_listens() -> None:
    port = free_port(HOST)
    check_port_free(HOST, port)
    assert not await is_listening(HOST, port)


async def test_listener_is_seen() -> None:
    with socket.create_server((HOST, 0)) as listener:
        assert await is_listening(HOST, listener.getsockname()[1])


def test_taken_port_names_itself_and_its_holder() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} .* process {os.getpid()};") as caught:
            check_port_free(HOST, port)
    assert caught.value.hints == {"port": str(port), "pid": str(os.getpid())}


def test_connections_still_closing_do_not_make_a_port_taken() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((HOST, port)):
            accepted, _ = listener.accept()
            accepted.close()  # closed here first: this side is the one that waits
    check_port_free(HOST, port)


def test_address_that_is_not_ours_is_another_error() -> None:
    with pytest.raises(OSError, match="assign"):
        check_port_free("192.0.2.1", 80)
