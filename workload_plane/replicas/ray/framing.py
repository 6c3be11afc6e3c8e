"""Frames between the agent and its bridge: a length, then a pickle."""

import pickle
import struct
from typing import Any, BinaryIO

HEADER = struct.Struct("!I")
FRAME_BYTES_MAX = 64 * 1024 * 1024  # 10,000 replicas' records are under 10 MiB
HELLO = -1  # the number of the bridge's first word: it is connected, or why not


def write_frame(stream: BinaryIO, value: object) -> None:
    """Write one value with its length before it."""
    data = pickle.dumps(value)
    stream.write(HEADER.pack(len(data)) + data)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Return the next value; raises EOFError at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (size,) = HEADER.unpack(header)
    assert size <= FRAME_BYTES_MAX
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)
