"""gRPC as we use it: options with their reasons, mTLS, and errors to statuses and back.

Servers add `ErrorInterceptor` and `SERVER_OPTIONS`; clients build channels here and turn what
they catch with `from_rpc_error`. The table of codes is here and nowhere else.
"""

# gRPC's classes are generic in its stubs only, so annotations must stay unevaluated.
from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from skerry.plumbing import logs
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Exhausted,
    FieldViolation,
    Infeasible,
    InvalidInput,
    NotFound,
    NotLeading,
    OutOfRange,
    SkerryError,
    StaleGeneration,
    Unauthenticated,
    Unavailable,
)

_log = logs.get_logger(__name__)

Options = tuple[tuple[str, int | str], ...]

ERROR_DOMAIN = "skerry"

# (kind, its gRPC code, its name on the wire). Ordered: a kind before the one it refines, and
# for a peer that sends no name, the first row of a code that is not a refinement wins.
KINDS: tuple[tuple[type[SkerryError], grpc.StatusCode, str], ...] = (
    (NotFound, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
    (StaleGeneration, grpc.StatusCode.ABORTED, "STALE_GENERATION"),
    (Conflict, grpc.StatusCode.ABORTED, "CONFLICT"),
    (Infeasible, grpc.StatusCode.FAILED_PRECONDITION, "INFEASIBLE"),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    (NotLeading, grpc.StatusCode.UNAVAILABLE, "NOT_LEADING"),
    (Unavailable, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    (OutOfRange, grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE"),
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT"),
    (Denied, grpc.StatusCode.PERMISSION_DENIED, "DENIED"),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    (Exhausted, grpc.StatusCode.RESOURCE_EXHAUSTED, "EXHAUSTED"),
    (Corrupt, grpc.StatusCode.DATA_LOSS, "CORRUPT"),
    (SkerryError, grpc.StatusCode.INTERNAL, "INTERNAL"),
)

# gRPC's own default for receiving, said aloud and for both directions: a page or a snapshot
# that outgrows it is to be split, not let through.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

_LIMITS: Options = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Bandwidth probes cost a fifth of the CPU with thousands of streams of small messages.
    ("grpc.http2.bdp_probe", 0),
)
# Keepalive only closes dead sockets under idle streams; heartbeats judge liveness. Without
# ping_timeout_ms a stopped peer was noticed after 61 s, whatever the keepalive said; with 1 s of
# it (and pings every 2 s) after 2.5 s.
_KEEPALIVE: Options = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
# The link's heartbeats, both ways, notice a stopped peer in seconds. Pings beside them only cost:
# 5,000 planes would send 1,000 a second, and a machine so busy that one is late for 2 s lost the
# streams that its heartbeats still held. These close what nobody has looked at for a minute.
_LINK_KEEPALIVE: Options = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The time allowed for one connection try. Of thousands that return at once some wait for their
    # handshake: who gives up after 2 s comes again, and makes all of them wait longer.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    # A handshake that nobody answers any more holds a descriptor, by default for two minutes.
    ("grpc.server_handshake_timeout_ms", 20_000),
)
CHANNEL_OPTIONS: Options = (
    *_LIMITS,
    *_KEEPALIVE,
    ("grpc.http2.max_pings_without_data", 0),  # an idle stream keeps its keepalive
    # gRPC's own pause grows to two minutes: a server would be back long before its clients.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also the time allowed for one connection try
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A proxy from the environment is for the internet, and would break loopback.
    ("grpc.enable_http_proxy", 0),
)
SERVER_OPTIONS: Options = (
    *_LIMITS,
    *_KEEPALIVE,
    # Half the clients' keepalive time, for idle channels too (permit_without_calls above). The
    # default of 5 min answers the fourth ping with GOAWAY too_many_pings. gRPC's constant has
    # MIN_RECV_PING in its name, the option itself has no `recv`: that spelling is ignored.
    ("grpc.http2.min_ping_interval_without_data_ms", 2_500),
    # A second server would otherwise bind the same port silently and take half the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 100),  # of one connection; a rapid-reset flood meets it
    # With the default, 5,000 clients that return at once were refused in part (3,548 came).
    ("grpc.server.max_pending_requests", 16_384),
    ("grpc.server.max_pending_requests_hard_limit", 32_768),
)

# The same for the link between planes and control planes.
LINK_CHANNEL_OPTIONS = tuple({**dict(CHANNEL_OPTIONS), **dict(_LINK_KEEPALIVE)}.items())
# What a stream of small messages costs a server: 95 KB instead of 105, measured with 300 planes.
_LINK_MEMORY: Options = (
    # Each connection keeps a buffer of one TLS frame, 16 KB by default; larger messages take more
    # frames.
    ("grpc.tsi.max_frame_size", 1_024),
    ("grpc.enable_channelz", 0),  # records of each connection that nobody can ask for
)
LINK_SERVER_OPTIONS = tuple(
    {**dict(SERVER_OPTIONS), **dict(_LINK_KEEPALIVE), **dict(_LINK_MEMORY)}.items()
)

# Trailers over 8 KiB may be dropped by the peer. The details grow by a third in base 64, the
# message up to threefold in percent encoding: both together stay below.
_DETAILS_BYTES_MAX = 3_072
_MESSAGE_BYTES_MAX = 1_024
_HINTS_MAX, _HINT_BYTES_MAX = 4, 128
_DETAILS_KEY = "grpc-status-details-bin"
_INTERNAL_MESSAGE = "internal error; the server's log has the cause"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where one party's PEM files are: trusted authorities, own certificate chain, own key."""

    ca: Path
    cert: Path
    key: Path


def code_of(error: SkerryError) -> grpc.StatusCode:
    """Return the gRPC code that the error travels as."""
    return _row_of(error)[1]


def to_status(error: SkerryError) -> Status:
    """Return the error as google.rpc.Status with its fields, retry time and hints as details."""
    _, code, reason = _row_of(error)
    status = Status(code=code.value[0], message=_cut(error.message, _MESSAGE_BYTES_MAX))
    told = list(error.hints.items())[:_HINTS_MAX]
    hints = {key: _cut(text, _HINT_BYTES_MAX) for key, text in told}
    info = error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=hints)
    _add_detail(status, info)
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        _add_detail(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, Exhausted):
        quota = error_details_pb2.QuotaFailure()
        why = _cut(error.message, _HINT_BYTES_MAX)
        quota.violations.add(subject=error.field or ERROR_DOMAIN, description=why)
        _add_detail(status, quota)
    if error.violations:
        _add_detail(status, _bad_request(error.violations, status.ByteSize()))
    return status


def from_rpc_error(error: grpc.RpcError) -> SkerryError:
    """Return the kind of error that the peer raised, or that its absence amounts to."""
    code: grpc.StatusCode = error.code()
    message: str = error.details() or code.name
    trailers = error.trailing_metadata() or ()
    status = _parse_details(trailers)
    violations: list[FieldViolation] = []
    hints: dict[str, str] = {}
    retry: float | None = None
    kind = _kind_of_code(code)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        delay = error_details_pb2.RetryInfo()
        fields = error_details_pb2.BadRequest()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            hints.update(info.metadata)
            kind = next((row[0] for row in KINDS if row[1:] == (code, info.reason)), kind)
        elif detail.Unpack(delay):
            retry = delay.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(fields):
            violations += [
                FieldViolation(path=v.field, message=v.description) for v in fields.field_violations
            ]
    return kind(message, violations=tuple(violations), retry_after_seconds=retry, hints=hints)


def _row_of(error: SkerryError) -> tuple[type[SkerryError], grpc.StatusCode, str]:
    return next(row for row in KINDS if isinstance(error, row[0]))


def _kind_of_code(code: grpc.StatusCode) -> type[SkerryError]:
    if code is grpc.StatusCode.ABORTED:
        return Conflict
    if code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
        return Unavailable
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Infeasible
    return next((row[0] for row in KINDS if row[1] is code), SkerryError)


def _parse_details(trailers: Any) -> Status:
    for key, value in trailers:
        if key == _DETAILS_KEY:
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _bad_request(
    violations: Sequence[FieldViolation], used_bytes: int
) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.path, 256), description=_cut(violation.message, 512)
        )
        # 128 bytes: the type's URL, the tags, and the line that says how many are missing.
        if used_bytes + request.ByteSize() + entry.ByteSize() + 128 > _DETAILS_BYTES_MAX:
            request.field_violations.add(
                field="", description=f"and {len(violations) - index} more fields"
            )
            break
        request.field_violations.append(entry)
    return request


def _add_detail(status: Status, detail: Any) -> None:
    status.details.add().Pack(detail)


def _cut(text: str, bytes_max: int) -> str:
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Lets handlers raise: kinds become rich statuses, anything else a neutral INTERNAL.

    Requests that do not decode become INVALID_ARGUMENT. Handlers must be coroutines or async
    generators, and read streams by iterating them, not through `context.read()`. What a handler
    answers as bytes is its response encoded already.
    """

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method's handler; an unknown method stays UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        return handler and _guarded(handler, str(handler_call_details.method))


class _Undecodable:
    """Stands for request bytes that are no message of the expected type."""


def _guarded(handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
    decode = _tolerant(handler.request_deserializer)
    encode = _unless_encoded(handler.response_serializer)
    if not handler.response_streaming:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        assert inspect.iscoroutinefunction(behaviour), f"{method} must be a coroutine function"

        async def unary(request: Any, context: Any) -> Any:
            try:
                return await behaviour(_checked(request), context)
            except Exception as error:
                await _abort(context, error, method)

        make: Any = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(unary, decode, encode)  # type: ignore[no-any-return]

    behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            if inspect.isasyncgenfunction(behaviour):
                async with contextlib.aclosing(behaviour(_checked(request), context)) as responses:
                    async for response in responses:
                        yield response
            else:  # a coroutine that answers through context.write
                await behaviour(_checked(request), context)
        except Exception as error:
            await _abort(context, error, method)

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_stream_rpc_method_handler
    )
    return make(stream, decode, encode)  # type: ignore[no-any-return]


def _tolerant(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserializer is None:
        return None

    def decode(data: bytes) -> Any:
        # What is raised in here reaches the client as UNKNOWN with Python's class names in it.
        try:
            return deserializer(data)
        except Exception:
            return _Undecodable()

    return decode


def decoded(deserializer: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the message of these bytes, where a handler has them raw; InvalidInput for others."""
    decode = _tolerant(deserializer)
    assert decode is not None, "there is something to decode with"
    return _checked(decode(data))


def _unless_encoded(serializer: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    if serializer is None:
        return None

    def encode(response: Any) -> bytes:
        return response if isinstance(response, bytes) else serializer(response)

    return encode


def _checked(request: Any) -> Any:
    if isinstance(request, _Undecodable):
        raise InvalidInput("the request's bytes are not a message of this method's request type")
    return _checked_stream(request) if hasattr(request, "__aiter__") else request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


async def _abort(context: Any, error: Exception, method: str) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error  # the handler chose a status of its own
    if isinstance(error, grpc.aio.InternalError):
        raise asyncio.CancelledError from error  # an answer to who is gone: nobody hears another
    if isinstance(error, TimeoutError):
        error = DeadlineExceeded("the time given to this call is over; ask with a longer deadline")
    elif type(error) is SkerryError or not isinstance(error, SkerryError):
        _log.exception("rpc.failed", method=method)
        error = SkerryError(_INTERNAL_MESSAGE)
    status = to_status(error)
    try:
        await context.abort(
            code_of(error), status.message, ((_DETAILS_KEY, status.SerializeToString()),)
        )
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError from gone
    raise AssertionError("abort returns never")


def secure_channel(
    address: str,
    tls: TlsFiles,
    *,
    server_name: str | None = None,
    options: Options = CHANNEL_OPTIONS,
) -> grpc.aio.Channel:
    """Return a channel that proves itself with `tls` and checks the server against its `ca`.

    `server_name` is the name in the server's certificate when the address is not in it. The
    files are read now: after a renewal, the next channel has the new ones.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=tls.ca.read_bytes(),
        private_key=tls.key.read_bytes(),
        certificate_chain=tls.cert.read_bytes(),
    )
    name: Options = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
    return grpc.aio.secure_channel(address, credentials, options=(*options, *name))


def pinned_channel(address: str, roots: bytes, server_name: str) -> grpc.aio.Channel:
    """Return a channel without a certificate of one's own to a server that these roots (PEM) prove.

    For who has none yet, or whose certificate has ended.
    """
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    name: Options = (("grpc.ssl_target_name_override", server_name),)
    return grpc.aio.secure_channel(address, credentials, options=(*CHANNEL_OPTIONS, *name))


def trusting_credentials(ca: Path) -> grpc.ChannelCredentials:
    """Return what checks a server against the authorities in a PEM file, and proves nothing."""
    return grpc.ssl_channel_credentials(root_certificates=ca.read_bytes())


def insecure_channel(address: str) -> grpc.aio.Channel:
    """Return a plaintext channel, for loopback and unix sockets only."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the files: a renewed certificate serves the next handshake.

    A client without a certificate of our authority is refused.
    """
    return _following(_TlsState(cert=tls.cert, key=tls.key, ca=tls.ca), asks=True)


def public_server_credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Return credentials that follow the files and ask clients for no certificate."""
    return _following(_TlsState(cert=cert, key=key, ca=None), asks=False)


def _following(state: _TlsState, *, asks: bool) -> grpc.ServerCredentials:
    return grpc.dynamic_ssl_server_credentials(
        state.configuration(),
        state.changed,  # type: ignore[arg-type]  # None means unchanged, which the stubs leave out
        asks,
    )


class _TlsState:
    """What the files held at the last handshake; gRPC asks on its own threads, one at a time."""

    def __init__(self, *, cert: Path, key: Path, ca: Path | None) -> None:
        self._cert, self._key, self._ca = cert, key, ca
        self._stamp = self._read_stamp()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._key.read_bytes(), self._cert.read_bytes())
        roots = None if self._ca is None else self._ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return None
            configuration = self.configuration()
        except OSError:
            _log.exception("tls.unreadable", cert=self._cert)
            return None  # the old certificate serves on
        self._stamp = stamp
        return configuration

    def _read_stamp(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in (self._ca, self._cert, self._key) if path is not None]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def peer_uri_sans(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[str, ...]:
    """Return the URI names of the caller's verified certificate; none without a certificate."""
    properties = context.auth_context()
    if tuple(properties.get("transport_security_type", ())) != (b"ssl",):
        return ()
    return tuple(value.decode() for value in properties.get("peer_uri", ()))


def peer_certificate(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Return the caller's verified certificate as PEM; empty without one."""
    properties = context.auth_context()
    if tuple(properties.get("transport_security_type", ())) != (b"ssl",):
        return b""
    return b"".join(tuple(properties.get("x509_pem_cert", ()))[:1])
