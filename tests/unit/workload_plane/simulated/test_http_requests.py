"""The simulated engine's server reads what clients send, in any pieces, and refuses the rest."""

import pytest

from workload_plane.simulated.http_requests import (
    BODY_BYTES_MAX,
    HttpFault,
    HttpRequest,
    RequestReader,
)

POST = b"POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)


def read_all(data: bytes, piece: int) -> list[HttpRequest]:
    reader = RequestReader()
    found: list[HttpRequest] = []
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        while (request := reader.next()) is not None:
            found.append(request)
    return found


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 10_000])
def test_requests_are_the_same_in_any_pieces(piece: int) -> None:
    get = b"GET /health HTTP/1.0\r\n\r\n"
    one, two, three, four = read_all(POST + CHUNKED + b"\r\n" + get + POST, piece)
    assert (one.method, one.path, one.body) == ("POST", "/v1/completions", b"hello")
    assert (two.path, two.body) == ("/c", b"hello")
    assert (three.method, three.path, three.body) == ("GET", "/health", b"")
    assert three.is_http10
    assert not three.keeps_alive
    assert four == one


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nconnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_connection_is_kept_as_the_client_says(head: bytes, keeps: bool) -> None:
    (request,) = read_all(head, 100)
    assert request.keeps_alive is keeps


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nContent-Length: 5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000, 431),
    ],
)
def test_bytes_that_are_no_request_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(HttpFault) as caught:
        read_all(data, len(data))
    assert caught.value.status == status


def test_endless_bytes_are_refused() -> None:
    reader = RequestReader()
    reader.feed(b"x" * BODY_BYTES_MAX)
    with pytest.raises(HttpFault):
        reader.feed(b"x" * BODY_BYTES_MAX)


def test_a_client_that_waits_is_told_once_to_go_on() -> None:
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next() is None
    assert reader.take_expectation()
    assert not reader.take_expectation()
    reader.feed(b"ab")
    request = reader.next()
    assert request is not None
    assert request.body == b"ab"
