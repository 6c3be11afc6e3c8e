"""The waiting room's door for requests over HTTP/1.1; `room_grpc` is the one for gRPC."""

from workload_plane.picker.http_server import Exchange, read_number, response
from workload_plane.picker.room import ANONYMOUS, Asked, Room, Verdict, error_body
from workload_plane.picker.wire import (
    AGAIN_HEADER,
    ATTEMPT_HEADER,
    DEPLOYMENT_HEADER,
    HEALTH_PATH,
    HELD_HEADER,
    KEY_HEADER,
    PRIORITY_HEADER,
    TICKET_HEADER,
)

_HEALTH = HEALTH_PATH.encode()
_KEY = KEY_HEADER.encode()
_FORWARDED_FOR = b"x-forwarded-for"
# No 5xx: outlier detection would take the room for a broken host. What is refused has HELD_HEADER
# for that.
_AGAIN = response(b"425 Too Early", b"", (AGAIN_HEADER.encode(), b"1"))
_REASONS = {429: b"429 Too Many Requests", 503: b"503 Service Unavailable"}


class RoomHttp:
    """Hands requests to the room and its verdicts back."""

    def __init__(self, room: Room) -> None:
        """Hold them in `room`."""
        self._room = room

    def __call__(self, exchange: Exchange) -> None:
        """Take one request; its body was not kept."""
        if exchange.path == _HEALTH:
            exchange.answer(response(b"200 OK"))
            return
        number = self._room.enter(
            read_asked(exchange.headers), lambda verdict: exchange.answer(render(verdict))
        )
        if number is not None:
            exchange.on_gone = lambda: self._room.leave(number)


def read_asked(headers: dict[bytes, bytes]) -> Asked:
    """Return what the headers of a request say."""
    # Where keys are asked for the gateway has taken the credential out, and says whose it is.
    credential = headers.get(_KEY) or headers.get(b"authorization")
    return Asked(
        deployment=headers.get(DEPLOYMENT_HEADER.encode(), b"").decode("latin-1"),
        ticket=read_number(headers.get(TICKET_HEADER.encode())) or 0,
        address=hash(_address(headers.get(_FORWARDED_FOR, b""))),
        tenant=hash(credential) if credential else ANONYMOUS,
        priority=read_number(headers.get(PRIORITY_HEADER.encode())),
        attempt=read_number(headers.get(ATTEMPT_HEADER.encode())) or 1,
    )


def render(verdict: Verdict) -> bytes:
    """Return the response that tells Envoy, or through it the client."""
    if verdict.again:
        return _AGAIN
    return response(
        _REASONS[verdict.status],
        error_body(verdict),
        (b"content-type", b"application/json"),
        (b"retry-after", b"%d" % verdict.retry_after_seconds),
        (HELD_HEADER.encode(), b"1"),
    )


def _address(forwarded_for: bytes) -> bytes:
    """Return whom the gateway itself saw: it adds its own peer last, before it is what is claimed.

    What comes back from the relay of this host is not added to (`relaying.inner_listener`).
    """
    return forwarded_for.rpartition(b",")[2].strip()
