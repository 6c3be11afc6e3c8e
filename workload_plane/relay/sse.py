"""Whole server-sent events out of bytes that are cut anywhere, kept as they came.

Pure. Only whole events may reach a client: half an event could be neither taken back nor continued.
"""

from workload_plane.replica_host.sse import EVENT_BYTES_MAX, OversizedEvent


class BlockSplitter:
    """Cuts one stream into events, each with the blank line that ends it."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return every event that is whole now; raises OversizedEvent."""
        if b"\r" in data or self._rest.endswith(b"\r"):
            # A line may end in CRLF too; one cut between the two is put right by the next piece.
            data = (self._rest + data).replace(b"\r\n", b"\n")
            self._rest = b""
        if self._rest:
            data = self._rest + data
        *blocks, self._rest = data.split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise OversizedEvent(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return [block + b"\n\n" for block in blocks]


def data_of(block: bytes) -> bytes:
    """Return the data of an event, empty for a comment."""
    if block.startswith(b"data:") and block.find(b"\n") == len(block) - 2:
        return block[5:].strip()
    lines = block.split(b"\n")
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
