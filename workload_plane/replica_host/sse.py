"""Server-sent events out of a stream of bytes, cut anywhere."""

# One event holds one token, or the last one's summary; more is no engine's answer.
EVENT_BYTES_MAX = 4 * 1024 * 1024


class OversizedEvent(Exception):
    """An event longer than any engine sends."""


class EventSplitter:
    """Keeps the bytes of an event that is not whole yet."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that is whole now; raises OversizedEvent."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > EVENT_BYTES_MAX:
            raise OversizedEvent(f"an event of more than {EVENT_BYTES_MAX} bytes")
        # Engines write each event's data on one line; comments (pings) and blank lines go.
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
