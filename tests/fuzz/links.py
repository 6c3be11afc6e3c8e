"""The planes' link: garbage for a Hello, and after a good one messages that are none."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import grpc

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.plumbing.rpc import TlsFiles, secure_channel
from skerry.wire.observations import report_to_proto
from tests.builders import a_report
from tests.fuzz.dice import dice_of
from tests.fuzz.messages import a_message, request_bytes
from tests.fuzz.tally import INSIDES, Outcome
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

CONNECT = "/skerry.api.plane.v1.PlaneLinkService/Connect"
# The stubs give a message's descriptor two types.
_REQUEST: Any = messages.ConnectRequest.DESCRIPTOR
_HELLO: Any = messages.Hello.DESCRIPTOR
PLANES = 4
ANSWER_SECONDS = 20.0
# What grpc.aio says of a write to a stream that the server has ended just then.
_ENDED_MEANWHILE = "Internal error from Core"
HELLO_SHARE = 0.05  # of all inputs: only so many a second are let in
BAD = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)


class PlaneLinks:
    """Planes with certificates of the fleet that lost their mind; each has one stream."""

    name = "planes' link"
    concurrency = PLANES

    def __init__(self, address: str, tls: Callable[[str], TlsFiles], seed: int) -> None:
        """Make the planes `fuzz-0`...; `tls` gives their certificates."""
        self._address, self._seed = address, seed
        self._free: asyncio.Queue[_Plane] = asyncio.Queue()
        self._planes = [_Plane(f"fuzz-{n}", address, tls(f"fuzz-{n}")) for n in range(PLANES)]
        for plane in self._planes:
            self._free.put_nowait(plane)

    async def close(self) -> None:
        """Close the connections."""
        for plane in self._planes:
            await plane.close()

    async def send(self, number: int) -> Outcome:
        """Send one message and say what came of it."""
        dice = dice_of(self._seed, self.name, number)
        plane = await self._free.get()
        try:
            if dice.random() < HELLO_SHARE:
                return await plane.greet(_odd_hello(dice, plane.name))
            return await plane.say(_odd_message(dice, plane.name), number)
        finally:
            self._free.put_nowait(plane)


class _Plane:
    """One plane and its stream, which is opened anew when the control plane has ended it."""

    def __init__(self, name: str, address: str, tls: TlsFiles) -> None:
        self.name = name
        self._channel = secure_channel(address, tls, server_name=CONTROL_PLANE_SERVER_NAME)
        self._stream: Any = None

    async def close(self) -> None:
        self._end()
        await self._channel.close()

    async def greet(self, hello: bytes) -> Outcome:
        """Begin a stream with these bytes."""
        self._end()
        return await self._judged(self._opened(hello), "a Hello")

    async def say(self, message: bytes, number: int) -> Outcome:
        """Send these bytes after a good Hello; what follows must be answered, or refused."""
        return await self._judged(self._said(message, number), "a message")

    async def _said(self, message: bytes, number: int) -> str:
        if self._stream is None and (label := await self._opened(_hello(self.name))) != "OK":
            return label
        await self._stream.write(message)
        beat = messages.ConnectRequest(heartbeat=messages.Heartbeat(number=number + 1))
        await self._stream.write(beat.SerializeToString())
        while (answer := await self._stream.read()) is not grpc.aio.EOF:
            told = messages.ConnectResponse.FromString(answer)
            if told.heartbeat.number == number + 1:
                return "(goes on)"
        return await self._ended()

    async def _opened(self, hello: bytes) -> str:
        make: Any = self._channel.stream_stream(CONNECT)
        self._stream = make(wait_for_ready=True)  # gRPC pauses after a connection that ended
        await self._stream.write(hello)
        if await self._stream.read() is grpc.aio.EOF:
            return await self._ended()
        return "OK"

    async def _ended(self) -> str:
        code, details = await self._stream.code(), await self._stream.details() or ""
        self._end()
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"UNAVAILABLE: {details[:60]}"
        if code in BAD or INSIDES.search(details):
            raise _Finding(f"{code.name} {details[:300]}")
        return str(code.name)

    async def _judged(self, saying: Any, what: str) -> Outcome:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return Outcome(label=await saying)
        except _Finding as found:
            return Outcome(label=str(found).partition(" ")[0], finding=f"{what}: {found}")
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if details == _ENDED_MEANWHILE:
                self._end()
                return Outcome(label="(ended meanwhile)")
            self._end()
            is_bad = code in BAD or INSIDES.search(details)
            finding = f"{what}: {code.name} {details[:300]}" if is_bad else ""
            return Outcome(label=code.name, finding=finding)
        except asyncio.InvalidStateError:  # it was ended while we wrote
            with contextlib.suppress(_Finding):
                return Outcome(label=await self._ended())
            return Outcome(label="INTERNAL", finding=f"{what}: ended with INTERNAL or UNKNOWN")
        except TimeoutError:
            self._end()
            return Outcome(label="(silence)", finding=f"{what}: nothing for {ANSWER_SECONDS:g} s")

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


class _Finding(Exception):
    """An end that no stream should have."""


def _hello(plane: str) -> bytes:
    hello = messages.Hello(
        project="default", observed=report_to_proto(a_report(plane)), agent_id="fuzz"
    )
    hello.features.extend(("loads.v1", "parts.v1"))
    return messages.ConnectRequest(hello=hello).SerializeToString()


def _words(plane: str) -> tuple[str, ...]:
    return (plane, "default", "cpu", "demo", f"{plane}--cpu", "demo-r1-aaaa", "steady")


def _odd_hello(dice: random.Random, plane: str) -> bytes:
    if dice.random() < 0.4:
        return request_bytes(dice, _REQUEST, _words(plane))
    whole: Any = messages.ConnectRequest.FromString(_hello(plane))
    odd = a_message(dice, _HELLO, _words(plane))
    whole.hello.MergeFrom(odd)
    if dice.random() < 0.5:
        whole.hello.project = "default"
        whole.hello.observed.identity.name = plane
    return whole.SerializeToString()  # type: ignore[no-any-return]


def _odd_message(dice: random.Random, plane: str) -> bytes:
    if dice.random() < 0.25:
        return request_bytes(dice, _REQUEST, _words(plane))
    request: Any = messages.ConnectRequest()
    field = dice.choice(_REQUEST.fields)
    part = a_message(dice, field.message_type, _words(plane))
    getattr(request, field.name).CopyFrom(part)
    if field.name == "observed" and dice.random() < 0.7:
        sound: Any = report_to_proto(a_report(plane))
        sound.MergeFrom(request.observed)
        request.observed.CopyFrom(sound)
    return request.SerializeToString()  # type: ignore[no-any-return]
