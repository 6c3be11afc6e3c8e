"""Large messages of the link in parts: cut by whoever sends, put together by whoever reads.

Each side takes the other for silent after some seconds without a message, and gRPC sends the
messages of a stream one after another, each whole. A state of 433 kB takes a line of 1 Mbit/s
3.5 s: in one message nothing is heard for as long, the link is lost, and the next one carries it in
vain again. In parts each is heard by itself, and heartbeats go between them. To allow more silence
while a large message is on its way would have been less to write, but a peer that dies just then
would be noticed as much later.

A part is heard within the shortest timeout, 3 s. HTTP/2 lets at most 64 KiB be on their way that
were not read yet (neither side has gRPC probe for more), and behind them an echo waits. So a line
needs 128 kbit/s for large messages: an echo is then 4 s late at most, which mutes a plane for a
moment; past two timeouts, 6 s, its link would end.

PURE, and of this module alone: who may be sent parts is for the features of Hello and Welcome.
"""

from collections.abc import Iterator

from skerry.api.plane.v1.plane_service_pb2 import Part

# What is not larger goes whole. A second of 128 kbit/s; 4 MiB are 256 of them.
PART_BYTES = 16 * 1024
# No message may be larger in one piece either: gRPC refuses it (`plumbing.rpc.MESSAGE_BYTES_MAX`).
WHOLE_BYTES_MAX = 4 * 1024 * 1024


def parts_of(whole: bytes) -> Iterator[Part]:
    """Yield the parts of an encoded message, in the order in which they are to be sent.

    ValueError when it is larger than whoever reads takes.
    """
    if len(whole) > WHOLE_BYTES_MAX:
        raise ValueError(f"a message of {len(whole)} bytes is above {WHOLE_BYTES_MAX}")
    for offset in range(0, len(whole), PART_BYTES):
        data = whole[offset : offset + PART_BYTES]
        yield Part(total_bytes=len(whole), offset=offset, data=data)


class Assembly:
    """What came of the message that is on its way; at most one is."""

    __slots__ = ("_held", "_total")

    def __init__(self) -> None:
        """Begin with nothing on its way."""
        self._held: bytearray | None = None  # grows as parts come: who only says much holds nothing
        self._total = 0

    def take(self, part: Part) -> bytes | None:
        """Take the next part; return the encoded message once it is whole, else None.

        A part that begins a message drops one that was not whole. ValueError on one that does not
        go on where the last ended, or that makes the message larger than it may be or was said to
        be: nothing is kept of the message then.
        """
        held, self._held = self._held, None
        if part.offset == 0:
            held, self._total = bytearray(), part.total_bytes
        if held is None or part.offset != len(held) or part.total_bytes != self._total:
            raise ValueError(f"a part at {part.offset} of {part.total_bytes} bytes goes on nothing")
        if not part.data or self._total > WHOLE_BYTES_MAX:
            raise ValueError(f"a part of {len(part.data)} bytes, of {self._total}, is none")
        if len(held) + len(part.data) > self._total:
            raise ValueError(f"a part at {part.offset} is longer than the {self._total} bytes left")
        held += part.data
        if len(held) == self._total:
            return bytes(held)
        self._held = held
        return None
