"""Frames between the agent and its bridge: a length, then a pickle."""

import asyncio
import pickle
import struct
from typing import Any, BinaryIO

from skerry.plumbing.errors import Exhausted, Unavailable

HEADER = struct.Struct("!I")
FRAME_BYTES_MAX = 64 * 1024 * 1024  # 10,000 replicas' records are under 10 MiB
HELLO = -1  # the number of the bridge's first word: it is connected, or why not


def frame_of(value: object) -> bytes:
    """Return the frame of a value; raises Exhausted when it is longer than the other end takes."""
    data = pickle.dumps(value)
    if len(data) > FRAME_BYTES_MAX:
        raise Exhausted(f"a frame of {len(data)} bytes is more than {FRAME_BYTES_MAX} bytes")
    return HEADER.pack(len(data)) + data


def write_frame(stream: BinaryIO, value: object) -> None:
    """Write one value with its length before it; raises Exhausted for one that is too long."""
    stream.write(frame_of(value))
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Return the agent's next value; raises EOFError at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (size,) = HEADER.unpack(header)
    assert size <= FRAME_BYTES_MAX
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Return the bridge's next number and value.

    Raises EOFError at the end of the stream, and Unavailable for what is no frame: the bridge of
    another release, or one that writes elsewhere than it should, is begun anew.
    """
    try:
        (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        if size > FRAME_BYTES_MAX:
            raise Unavailable(f"the bridge to Ray sent a frame of {size} bytes")
        data = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise EOFError("the bridge to Ray ended") from None
    try:
        number, value = pickle.loads(data)
        if not isinstance(number, int):
            raise ValueError(f"{number!r} is no number")
    except Exception as error:  # whatever a class of another release raises
        raise Unavailable(f"the bridge to Ray sent what cannot be read: {error}") from None
    return number, value
