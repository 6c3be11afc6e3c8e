"""The operator API as JSON over HTTP: every method of its definitions, answered by its gRPC port.

`control_plane/http.py` serves it. The Connect protocol is connectrpc's; the endpoints are read
from the descriptors, and what they do is one gRPC call: nothing here knows a single method.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import grpc
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from control_plane.api.access.authenticator import AUTHORIZATION_KEY
from control_plane.api.auth import ACTOR_KEY, REASON_KEY, actor_of
from control_plane.api.http_errors import connect_error, connect_error_of_call
from skerry.plumbing import logs
from skerry.plumbing.errors import Exhausted, InvalidInput, SkerryError, Unauthenticated
from skerry.plumbing.rpc import MESSAGE_BYTES_MAX

_log = logs.get_logger(__name__)

# As text, for shells; browsers can send Latin-1 alone and use REASON_KEY, in base 64.
REASON_TEXT_KEY = "x-skerry-reason"
# Past the longest answer there is: a question's 45 s. Who wants less says Connect-Timeout-Ms.
CALL_SECONDS_MAX = 60.0
# Each may hold two messages of MESSAGE_BYTES_MAX. Together they stay below the 100 streams that
# the gRPC port allows one connection, and all of these share one.
CALLS_MAX = 64
STREAMS_MAX = 32
RETRY_SECONDS = 1.0  # most calls take milliseconds

_Context = RequestContext[bytes, bytes]


class HttpGateway:
    """Turns JSON into gRPC calls on one channel, and their answers into JSON."""

    def __init__(self, channel: grpc.aio.Channel, services: Iterable[ServiceDescriptor]) -> None:
        """Offer every method of these services, called on `channel`; `close` closes it."""
        self._channel = channel
        # Four megabytes are read in 0.65 s and written in 0.4 s of Python: on the event loop,
        # heartbeats would wait for it. One thread: JSON never has more than one share of the CPU.
        self._converter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="json")
        self._calls = _Room(CALLS_MAX, "calls")
        self._streams = _Room(STREAMS_MAX, "streams")
        methods = [method for service in services for method in service.methods]
        self._endpoints = {_path_of(method): self._endpoint(method) for method in methods}
        self._streaming = {_path_of(method) for method in methods if method.server_streaming}
        self.application = _Application(
            service=self,
            endpoints=lambda gateway: gateway._endpoints,
            read_max_bytes=MESSAGE_BYTES_MAX,
            compressions=(),
            codecs=(_JsonBytes(),),
        )

    def has(self, path: str) -> bool:
        """Say whether there is such a method."""
        return path in self._endpoints

    def is_stream(self, path: str) -> bool:
        """Say whether the method at this path answers with a stream."""
        return path in self._streaming

    @property
    def calls(self) -> int:
        """Return how many calls that answer once are under way now."""
        return self._calls.taken

    @property
    def streams(self) -> int:
        """Return how many streams are open now."""
        return self._streams.taken

    def a_place_for(self, path: str) -> AbstractContextManager[None]:
        """Hold a place for a call of this method while its body comes and it is answered.

        Exhausted when there is none.
        """
        return (self._streams if self.is_stream(path) else self._calls).taken_by_one()

    async def close(self) -> None:
        """Close the channel; what is under way ends as cancelled."""
        await self._channel.close()
        self._converter.shutdown(wait=False, cancel_futures=True)

    def _endpoint(self, method: MethodDescriptor) -> Any:
        assert not method.client_streaming, f"{method.full_name}: HTTP/1.1 has one request"
        info = MethodInfo(
            name=method.name,
            service_name=method.containing_service.full_name,
            input=bytes,
            output=bytes,
            # POST alone: a GET could be sent by any web page.
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
        )
        if method.server_streaming:
            return Endpoint.server_stream(info, self._stream_of(method))
        return Endpoint.unary(info, self._unary_of(method))

    def _unary_of(self, method: MethodDescriptor) -> Callable[[bytes, _Context], Any]:
        async def unary(body: bytes, context: _Context) -> bytes:
            call: Any = self._channel.unary_unary(_path_of(method))
            with _faults(method):
                request = await self._convert(_to_proto, body, method.input_type)
                left = _seconds_left(context)
                seconds = CALL_SECONDS_MAX if left is None else min(left, CALL_SECONDS_MAX)
                answer = await call(request, timeout=seconds, metadata=_metadata(context))
                return await self._convert(_to_json, answer, method.output_type)

        return unary

    def _stream_of(self, method: MethodDescriptor) -> Callable[[bytes, _Context], Any]:
        async def stream(body: bytes, context: _Context) -> AsyncIterator[bytes]:
            call: Any = self._channel.unary_stream(_path_of(method))
            with _faults(method):
                request = await self._convert(_to_proto, body, method.input_type)
                answers = call(request, timeout=_seconds_left(context), metadata=_metadata(context))
                try:
                    async for answer in answers:
                        yield await self._convert(_to_json, answer, method.output_type)
                finally:
                    answers.cancel()

        return stream

    async def _convert(
        self, convert: Callable[[bytes, Descriptor], bytes], data: bytes, of: Descriptor
    ) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._converter, convert, data, of)


class _Application(ConnectASGIApplication[HttpGateway]):
    """Inherits, because the library leaves the path to what it would have generated."""

    @property
    def path(self) -> str:
        """Return where the application is mounted."""
        return "/"


class _JsonBytes:
    """Hands the bytes through: converting them is the gateway's, away from the event loop."""

    def name(self) -> str:
        """Return the name in `application/NAME`."""
        return "json"

    def encode(self, message: bytes) -> bytes:
        """Return the message's JSON."""
        return message

    def decode(self, data: bytes | bytearray, message_class: type[bytes]) -> bytes:
        """Return the body, not looked at yet."""
        return bytes(data)


class _Room:
    """Counts what is under way and refuses what is too much."""

    def __init__(self, size: int, what: str) -> None:
        self._size = size
        self._what = what
        self.taken = 0

    @contextlib.contextmanager
    def taken_by_one(self) -> Iterator[None]:
        """Hold a place; Exhausted when there is none."""
        if self.taken >= self._size:
            raise Exhausted(
                f"{self._size} {self._what} over HTTP are under way; wait for one, or use gRPC",
                retry_after_seconds=RETRY_SECONDS,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@contextlib.contextmanager
def _faults(method: MethodDescriptor) -> Iterator[None]:
    """Let nothing out but what a caller may see."""
    try:
        yield
    except ConnectError:
        raise
    except grpc.aio.AioRpcError as error:
        raise connect_error_of_call(error) from None
    except SkerryError as error:
        raise connect_error(error) from None
    except Exception:
        _log.exception("http.failed", method=method.full_name)
        neutral = SkerryError("internal error; the server's log has the cause")
        raise connect_error(neutral) from None


def _path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _to_proto(body: bytes, of: Descriptor) -> bytes:
    message = GetMessageClass(of)()
    try:
        if body.lstrip()[:1] == b"[":  # what Parse takes an empty list for is an empty message
            raise json_format.ParseError("it is a list")
        json_format.Parse(body, message)
        return message.SerializeToString()
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is no JSON of {of.full_name}: {error}") from error
    except Exception as error:  # what it raises for odd JSON is not all of one kind
        raise InvalidInput(
            f"the body is no JSON of {of.full_name}, or nested too deep; an empty one is {{}}"
        ) from error


def _to_json(answer: bytes, of: Descriptor) -> bytes:
    message = GetMessageClass(of).FromString(answer)
    return json_format.MessageToJson(message, indent=None).encode()


def _seconds_left(context: _Context) -> float | None:
    return None if context.timeout_ms is None else max(context.timeout_ms, 0.0) / 1000


def _metadata(context: _Context) -> tuple[tuple[str, str | bytes], ...]:
    """Return who calls and why, as gRPC metadata; it is judged there as of any caller."""
    headers = context.request_headers
    actors = [(ACTOR_KEY, value) for value in headers.getall(ACTOR_KEY)]
    if any(not _is_plain(value) for _, value in actors):
        actor_of(_Told(actors))  # gRPC cannot carry it, so it is refused here, in the same words
    credentials = [(AUTHORIZATION_KEY, value) for value in headers.getall(AUTHORIZATION_KEY)]
    if any(not _is_plain(value) for _, value in credentials):
        raise Unauthenticated(f"{AUTHORIZATION_KEY} must be printable ASCII")
    reasons = [value.encode() for value in headers.getall(REASON_TEXT_KEY)]
    reasons += [_decoded(value) for value in headers.getall(REASON_KEY)]
    return (*credentials, *actors, *((REASON_KEY, reason) for reason in reasons))


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


class _Told:
    """As much of a call's context as `auth` looks at."""

    def __init__(self, metadata: list[tuple[str, str]]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """Return what the caller said."""
        return self._metadata


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"{REASON_KEY} is not base 64; send {REASON_TEXT_KEY} for plain text", field=REASON_KEY
        ) from error
