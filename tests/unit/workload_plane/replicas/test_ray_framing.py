"""Frames between agent and bridge: what is none is a loss of the bridge, no mistake of ours."""

import asyncio
import io
import pickle

import pytest

from skerry.plumbing.errors import Exhausted, Unavailable
from workload_plane.replicas.ray import framing
from workload_plane.replicas.ray.framing import HEADER, frame_of, next_frame, read_frame


def _reader(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_what_is_written_is_read_again_at_both_ends() -> None:
    data = frame_of((7, {"a": (1, 2)}))
    assert await next_frame(_reader(data)) == (7, {"a": (1, 2)})
    assert read_frame(io.BytesIO(data)) == (7, {"a": (1, 2)})


NOT_FOUND = b"cno_such_module\nname\n."


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(framing.FRAME_BYTES_MAX + 1) + b"x",
        HEADER.pack(4) + b"junk",
        HEADER.pack(len(NOT_FOUND)) + NOT_FOUND,
        frame_of("no pair"),
        frame_of(("seven", None)),
    ],
    ids=["too long", "no pickle", "of another release", "no pair", "no number"],
)
async def test_what_is_no_frame_is_a_loss_of_the_bridge(data: bytes) -> None:
    with pytest.raises(Unavailable, match="bridge"):
        await next_frame(_reader(data))


async def test_the_end_of_the_stream_is_told_as_such() -> None:
    for data in (b"", b"\0", HEADER.pack(9) + b"cut"):
        with pytest.raises(EOFError):
            await next_frame(_reader(data))
        with pytest.raises(EOFError):
            read_frame(io.BytesIO(data))


def test_a_frame_that_nobody_would_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "FRAME_BYTES_MAX", 100)
    with pytest.raises(Exhausted, match="100 bytes"):
        frame_of((1, "x" * 100))
    assert pickle.loads(frame_of((1, "x"))[HEADER.size :]) == (1, "x")
