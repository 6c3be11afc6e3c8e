"""A connection of the simulated engine answers in order and tells at once when nobody waits."""

import asyncio

import pytest

from workload_plane.simulated import http_connection
from workload_plane.simulated.http_connection import REQUEST_SECONDS_MAX, Connection
from workload_plane.simulated.http_requests import BODY_BYTES_MAX, HttpRequest

GET = b"GET /%d HTTP/1.1\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = ""
        self.high: int | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = "closed"

    def abort(self) -> None:
        self.closed = "aborted"

    def is_closing(self) -> bool:
        return bool(self.closed)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high


class Desk:
    """A handler that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open: set[Connection] = set()
        self.wire = Wire()
        self.connection = Connection(self._take, lambda status, text: text.encode(), self.open)
        self.connection.connection_made(self.wire)

    def _take(self, _: Connection, request: HttpRequest) -> None:
        self.asked.append(request.path)


def test_pipelined_requests_are_handed_over_one_by_one() -> None:
    desk = Desk()
    desk.connection.data_received(GET % 1 + GET % 2)
    assert desk.asked == ["/1"]
    desk.connection.respond(200, b"one")
    assert desk.asked == ["/1", "/2"]
    desk.connection.respond(404, b"two")
    assert desk.wire.written.index(b"one") < desk.wire.written.index(b"HTTP/1.1 404 Not Found")


def test_head_of_a_stream_waits_for_the_first_piece_or_the_flush() -> None:
    desk = Desk()
    desk.connection.data_received(GET % 1 + GET % 2)
    desk.connection.begin()
    assert desk.wire.written == b""
    desk.connection.flush()
    assert desk.wire.written.endswith(b"\r\n\r\n")
    head = len(desk.wire.written)
    desk.connection.flush()
    desk.connection.send(b"")
    assert len(desk.wire.written) == head
    desk.connection.send(b"data: a\n\n")
    desk.connection.end(b"data: b\n\n")
    assert desk.wire.written[head:] == (b"9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n")
    assert desk.asked == ["/1", "/2"]


def test_a_lost_client_is_told_once_and_answers_to_it_are_dropped() -> None:
    desk = Desk()
    told: list[str] = []
    desk.connection.data_received(GET % 1)
    desk.connection.on_gone = lambda: told.append("gone")
    assert desk.open == {desk.connection}
    desk.connection.connection_lost(None)
    desk.connection.respond(200, b"too late")
    assert (told, desk.open, desk.wire.written) == (["gone"], set(), b"")


def test_an_answered_request_is_not_told_that_its_client_left() -> None:
    desk = Desk()
    told: list[str] = []
    desk.connection.data_received(GET % 1)
    desk.connection.on_gone = lambda: told.append("gone")
    desk.connection.respond(200, b"one")
    desk.connection.connection_lost(None)
    assert told == []


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    desk = Desk()
    assert desk.wire.high == 16 * 1024 * 1024
    desk.connection.pause_writing()
    assert desk.wire.closed == "aborted"


def test_a_client_that_sends_without_end_is_hung_up_on() -> None:
    desk = Desk()
    desk.connection.data_received(GET % 1)
    desk.connection.data_received(b"x" * BODY_BYTES_MAX)
    desk.connection.data_received(b"x" * BODY_BYTES_MAX)
    assert desk.wire.closed == "aborted"


def test_close_is_said_and_done() -> None:
    desk = Desk()
    desk.connection.data_received(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n" + GET % 2)
    desk.connection.respond(200, b"one")
    assert b"Connection: close\r\n" in desk.wire.written
    assert desk.wire.closed == "closed"
    assert desk.asked == ["/1"]


def test_a_head_request_gets_no_body() -> None:
    desk = Desk()
    desk.connection.data_received(b"HEAD /health HTTP/1.1\r\n\r\n")
    desk.connection.respond(200, b"body")
    assert b"Content-Length: 4\r\n" in desk.wire.written
    assert desk.wire.written.endswith(b"\r\n\r\n")


def test_a_connection_is_closed_when_it_is_quiet_for_too_long() -> None:
    desk = Desk()
    desk.connection.data_received(GET % 1)
    for _ in range(5):
        desk.connection.close_if_quiet(2)
    assert desk.wire.closed == ""
    desk.connection.respond(200, b"one")
    for _ in range(2):
        desk.connection.close_if_quiet(2)
    assert desk.wire.closed == ""
    desk.connection.close_if_quiet(2)
    assert desk.wire.closed == "closed"


@pytest.mark.parametrize("begun", [b"G", b"POST /1 HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"])
def test_a_request_that_trickles_in_is_refused_however_often_a_byte_comes(begun: bytes) -> None:
    desk = Desk()
    desk.connection.data_received(begun)
    for _ in range(REQUEST_SECONDS_MAX):
        desk.connection.data_received(b"x")
        desk.connection.close_if_quiet(0)
    assert desk.wire.closed == ""
    desk.connection.data_received(b"x")
    desk.connection.close_if_quiet(0)
    assert desk.wire.written.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert desk.wire.closed == "closed"
    assert desk.asked == []


def test_one_request_after_another_is_no_trickle() -> None:
    desk = Desk()
    for number in range(2 * REQUEST_SECONDS_MAX):
        whole = GET % number
        desk.connection.data_received(whole[:5])
        desk.connection.close_if_quiet(1)
        desk.connection.data_received(whole[5:])
        desk.connection.respond(200, b"")
    assert desk.wire.closed == ""
    assert len(desk.asked) == 2 * REQUEST_SECONDS_MAX


def test_a_kept_connection_has_the_whole_time_for_its_next_request() -> None:
    desk = Desk()
    for _ in range(5):
        desk.connection.close_if_quiet(5)
    desk.connection.data_received(b"GET")
    for _ in range(REQUEST_SECONDS_MAX):
        desk.connection.close_if_quiet(5)
    assert desk.wire.closed == ""


def test_more_connections_than_the_cap_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "CONNECTIONS_MAX", 1)
    desk = Desk()
    wire = Wire()
    late = Connection(desk._take, lambda status, text: text.encode(), desk.open)
    late.connection_made(wire)
    assert desk.open == {desk.connection}
    assert wire.written.startswith(b"HTTP/1.1 503 ")
    assert wire.closed == "closed"
    late.data_received(GET % 1)
    late.connection_lost(None)
    assert (desk.asked, desk.open) == ([], {desk.connection})
