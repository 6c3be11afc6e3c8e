"""Errors cross the wire whole, bugs say nothing of us, and peers prove their names."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2

from skerry.plumbing import errors, logs, rpc
from skerry.plumbing.certificates import Subject, create_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import FieldViolation, InvalidInput, SkerryError

# gRPC's own sockets, in the tests' folder: nothing here leaves the process.
pytestmark = pytest.mark.integration

KEEPALIVE_TIME = "grpc.keepalive_time_ms"
PINGS_ALLOWED = "grpc.http2.min_ping_interval_without_data_ms"

Call = Callable[..., Any]
Raise = Callable[[], Awaitable[None]]


class Echo:
    """Answers what it is sent, or does what a test puts into `act`."""

    def __init__(self) -> None:
        self.act: Callable[[Any], Awaitable[None]] | None = None

    async def unary(self, request: StringValue, context: Any) -> StringValue:
        await self._act(context)
        return request

    async def collect(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        words = [request.value async for request in requests]
        await self._act(context)
        return StringValue(value=" ".join(words))

    async def spread(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await self._act(context)
        yield request

    async def chat(
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            await self._act(context)
            yield request

    async def written(self, request: StringValue, context: Any) -> None:
        await context.write(request)
        await self._act(context)

    async def encoded(self, request: StringValue, context: Any) -> bytes:
        return request.SerializeToString()

    async def _act(self, context: Any) -> None:
        if self.act:
            await self.act(context)

    def raises(self, error: BaseException) -> None:
        async def act(context: Any) -> None:
            raise error

        self.act = act


def handlers_of(echo: Echo) -> grpc.GenericRpcHandler:
    decode, encode = StringValue.FromString, StringValue.SerializeToString
    return grpc.method_handlers_generic_handler(
        "test.Echo",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(echo.unary, decode, encode),
            "Collect": grpc.stream_unary_rpc_method_handler(echo.collect, decode, encode),
            "Spread": grpc.unary_stream_rpc_method_handler(echo.spread, decode, encode),
            "Chat": grpc.stream_stream_rpc_method_handler(echo.chat, decode, encode),
            "Encoded": grpc.unary_unary_rpc_method_handler(echo.encoded, decode, encode),
            "Written": grpc.unary_stream_rpc_method_handler(echo.written, decode, encode),
        },
    )


@asynccontextmanager
async def serving(
    echo: Echo, address: str, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[None]:
    server = grpc.aio.server(interceptors=[rpc.ErrorInterceptor()], options=rpc.SERVER_OPTIONS)
    server.add_generic_rpc_handlers((handlers_of(echo),))
    if credentials:
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


async def responses_of(channel: grpc.aio.Channel, method: str, *requests: bytes) -> list[str]:
    """Make one call with raw bytes; return the answers or raise the error as its kind."""
    shape = {
        "Unary": "unary_unary",
        "Encoded": "unary_unary",
        "Collect": "stream_unary",
        "Chat": "stream_stream",
    }
    make = getattr(channel, shape.get(method, "unary_stream"))
    call = make(f"/test.Echo/{method}", response_deserializer=StringValue.FromString)
    sent: Any = iter(requests) if method in ("Collect", "Chat") else requests[0]
    try:
        if method in ("Unary", "Encoded", "Collect"):
            return [(await call(sent)).value]
        return [response.value async for response in call(sent)]
    except grpc.aio.AioRpcError as error:
        raise rpc.from_rpc_error(error) from error


def word(text: str) -> bytes:
    return StringValue(value=text).SerializeToString()


@pytest.fixture
def echo() -> Echo:
    """The service."""
    return Echo()


@pytest.fixture
async def channel(echo: Echo, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A plaintext channel to the running service."""
    address = f"unix:{tmp_path}/echo"
    async with serving(echo, address), rpc.insecure_channel(address) as opened:
        yield opened


def option(options: rpc.Options, name: str) -> int:
    return int(dict(options)[name])


@pytest.mark.parametrize("options", [rpc.CHANNEL_OPTIONS, rpc.SERVER_OPTIONS])
def test_grpc_knows_every_option_that_it_is_given(options: rpc.Options) -> None:
    # It ignores others without a word: a name of a similar sound cost every idle channel.
    library = Path(str(import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    assert [name for name, _ in options if f"{name}\0".encode() not in library] == []


def test_servers_allow_the_pings_that_channels_send() -> None:
    sent_ms = option(rpc.CHANNEL_OPTIONS, KEEPALIVE_TIME)
    allowed_ms = option(rpc.SERVER_OPTIONS, PINGS_ALLOWED)
    assert 2 * allowed_ms <= sent_ms
    assert option(rpc.CHANNEL_OPTIONS, "grpc.keepalive_permit_without_calls")
    assert option(rpc.SERVER_OPTIONS, "grpc.keepalive_permit_without_calls")


async def test_idle_channel_outlives_many_pings(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same options, with both intervals a fifth: a channel pings once a second at most.
    strict = ("grpc.http2.max_ping_strikes", 1)  # GOAWAY at the third ping, not the fourth
    monkeypatch.setattr(rpc, "CHANNEL_OPTIONS", tuple(_sooner(rpc.CHANNEL_OPTIONS)))
    monkeypatch.setattr(rpc, "SERVER_OPTIONS", (*_sooner(rpc.SERVER_OPTIONS), strict))
    address = f"unix:{tmp_path}/echo"
    ready = grpc.ChannelConnectivity.READY
    async with serving(echo, address), rpc.insecure_channel(address) as opened:
        await responses_of(opened, "Unary", word("a"))
        assert opened.get_state() is ready
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.wait_for_state_change(ready), 4.5)


def _sooner(options: rpc.Options) -> Iterator[tuple[str, int | str]]:
    for name, value in options:
        yield name, int(value) // 5 if name in (KEEPALIVE_TIME, PINGS_ALLOWED) else value


METHODS = ["Unary", "Collect", "Spread", "Chat", "Written"]


@pytest.mark.parametrize("method", METHODS)
async def test_handlers_answer_through_the_interceptor(
    channel: grpc.aio.Channel, method: str
) -> None:
    answers = await responses_of(channel, method, word("a"))
    assert set(answers) == {"a"}


async def test_an_answer_that_is_encoded_already_is_sent_as_it_is(
    channel: grpc.aio.Channel,
) -> None:
    assert await responses_of(channel, "Encoded", word("a")) == ["a"]


@pytest.mark.parametrize("method", METHODS)
async def test_raised_kind_reaches_the_caller_whole(
    channel: grpc.aio.Channel, echo: Echo, method: str
) -> None:
    violation = FieldViolation(path="a.b[1]", message="too many, größer als 3")
    echo.raises(
        errors.Exhausted(
            "quota is used up",
            violations=(violation,),
            retry_after_seconds=1.5,
            hints={"leader": "x:1"},
        )
    )
    with pytest.raises(errors.Exhausted, match=r"^quota is used up$") as caught:
        await responses_of(channel, method, word("a"))
    assert caught.value.violations == (violation,)
    assert caught.value.retry_after_seconds == 1.5
    assert caught.value.hints == {"leader": "x:1"}


@pytest.mark.parametrize("kind", [row[0] for row in rpc.KINDS])
async def test_every_kind_comes_back_as_itself(
    channel: grpc.aio.Channel, echo: Echo, kind: type[SkerryError]
) -> None:
    echo.raises(kind("fact"))
    with pytest.raises(SkerryError) as caught:
        await responses_of(channel, "Unary", word("a"))
    assert type(caught.value) is kind


def test_what_is_exhausted_tells_its_quota() -> None:
    status = rpc.to_status(errors.Exhausted("100 streams are open", field="streams"))
    quota = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(quota) for detail in status.details)
    assert [(v.subject, v.description) for v in quota.violations] == [
        ("streams", "100 streams are open")
    ]


def test_every_kind_has_its_own_row() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SkerryError)
    }
    assert {row[0] for row in rpc.KINDS} == kinds
    for index, (kind, _, _) in enumerate(rpc.KINDS):
        assert not any(issubclass(kind, earlier) for earlier, _, _ in rpc.KINDS[:index])


@pytest.mark.parametrize("method", METHODS)
async def test_bug_is_told_neutrally_and_logged_once(
    channel: grpc.aio.Channel, echo: Echo, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    echo.raises(KeyError("secret"))
    with caplog.at_level(logging.INFO), pytest.raises(SkerryError) as caught:
        await responses_of(channel, method, word("a"))
    assert type(caught.value) is SkerryError
    assert "secret" not in str(caught.value)
    assert "KeyError" not in str(caught.value)
    assert [record.getMessage() for record in caplog.records] == ["rpc.failed"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"])
async def test_bytes_that_do_not_decode_are_invalid_input(
    channel: grpc.aio.Channel, method: str, data: bytes
) -> None:
    with pytest.raises(InvalidInput, match="not a message") as caught:
        await responses_of(channel, method, data)
    assert "Decode" not in str(caught.value)


async def test_bad_bytes_in_the_middle_of_a_stream_are_invalid_input(
    channel: grpc.aio.Channel,
) -> None:
    with pytest.raises(InvalidInput, match="not a message"):
        await responses_of(channel, "Chat", word("a"), b"\xff")


async def test_too_large_a_message_is_exhausted(channel: grpc.aio.Channel) -> None:
    with pytest.raises(errors.Exhausted):
        await responses_of(channel, "Unary", b"x" * (rpc.MESSAGE_BYTES_MAX + 1))


async def test_unknown_method_is_infeasible(channel: grpc.aio.Channel) -> None:
    with pytest.raises(errors.Infeasible):
        await responses_of(channel, "Nothing", word("a"))


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    async with rpc.insecure_channel(f"unix:{tmp_path}/none") as channel:
        with pytest.raises(errors.Unavailable):
            await responses_of(channel, "Unary", word("a"))


async def test_timeout_in_a_handler_is_a_passed_deadline(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    echo.raises(TimeoutError())
    with pytest.raises(errors.DeadlineExceeded):
        await responses_of(channel, "Unary", word("a"))


async def test_status_that_a_handler_chose_itself_is_kept(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    async def act(context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "chosen")

    echo.act = act
    with pytest.raises(errors.NotFound, match="chosen"):
        await responses_of(channel, "Unary", word("a"))


async def test_error_with_very_much_to_say_still_arrives(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    many = tuple(FieldViolation(path=f"f[{n}]", message="ü" * 300) for n in range(1000))
    hints = {f"k{n}": "v" * 1000 for n in range(50)}
    echo.raises(InvalidInput("ü" * 10_000, violations=many, hints=hints))
    with pytest.raises(InvalidInput) as caught:
        await responses_of(channel, "Unary", word("a"))
    assert caught.value.violations[0].path == "f[0]"
    assert "more fields" in caught.value.violations[-1].message


NAME = "spiffe://skerry/plane/a"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """An authority valid now."""
    directory = tmp_path / "authority"
    create_authority(directory, "test root", SystemClock().now())
    return directory


def party(authority: Path, out: Path, name: str, *uris: str) -> rpc.TlsFiles:
    subject = Subject(name=name, uris=uris, dns_names=(name, "localhost"))
    return issue(authority, out, subject, SystemClock().now())


async def test_caller_is_known_by_the_uris_of_its_certificate(
    authority: Path, tmp_path: Path, echo: Echo
) -> None:
    server = party(authority, tmp_path / "s", "server")
    client = party(authority, tmp_path / "c", "client", NAME, "urn:second")
    seen: list[tuple[str, ...]] = []

    async def act(context: Any) -> None:
        seen.append(rpc.peer_uri_sans(context))

    echo.act = act
    address = f"unix:{tmp_path}/echo"
    async with (
        serving(echo, address, rpc.server_credentials(server)),
        rpc.secure_channel(address, client, server_name="server") as channel,
    ):
        await responses_of(channel, "Unary", word("a"))
    assert seen == [(NAME, "urn:second")]


async def test_plaintext_caller_has_no_name(channel: grpc.aio.Channel, echo: Echo) -> None:
    seen: list[tuple[str, ...]] = []

    async def act(context: Any) -> None:
        seen.append(rpc.peer_uri_sans(context))

    echo.act = act
    await responses_of(channel, "Unary", word("a"))
    assert seen == [()]


async def test_stranger_s_certificate_is_refused(
    authority: Path, tmp_path: Path, echo: Echo
) -> None:
    server = party(authority, tmp_path / "s", "server")
    create_authority(tmp_path / "other", "test root", SystemClock().now())
    foreign = party(tmp_path / "other", tmp_path / "f", "client", NAME)
    # It trusts the right root, so that the server alone can refuse.
    client = rpc.TlsFiles(ca=authority / "ca.pem", cert=foreign.cert, key=foreign.key)
    address = f"unix:{tmp_path}/echo"
    async with (
        serving(echo, address, rpc.server_credentials(server)),
        rpc.secure_channel(address, client, server_name="server") as channel,
    ):
        with pytest.raises(errors.Unavailable):
            await responses_of(channel, "Unary", word("a"))


async def test_server_under_another_name_is_refused(
    authority: Path, tmp_path: Path, echo: Echo
) -> None:
    server = party(authority, tmp_path / "s", "server")
    client = party(authority, tmp_path / "c", "client", NAME)
    address = f"unix:{tmp_path}/echo"
    async with (
        serving(echo, address, rpc.server_credentials(server)),
        rpc.secure_channel(address, client, server_name="elsewhere") as channel,
    ):
        with pytest.raises(errors.Unavailable):
            await responses_of(channel, "Unary", word("a"))


async def test_renewed_certificate_serves_the_next_connection_without_a_restart(
    authority: Path, tmp_path: Path, echo: Echo
) -> None:
    address = f"unix:{tmp_path}/echo"
    client = party(authority, tmp_path / "c", "client", NAME)
    server = party(authority, tmp_path / "s", "server")
    credentials = rpc.server_credentials(server)
    renewed = party(authority, tmp_path / "n", "renewed")
    async with serving(echo, address, credentials):
        async with rpc.secure_channel(address, client, server_name="server") as channel:
            assert await responses_of(channel, "Unary", word("a")) == ["a"]
            renewed.key.replace(server.key)
            renewed.cert.replace(server.cert)
            assert await responses_of(channel, "Unary", word("b")) == ["b"]
        async with rpc.secure_channel(address, client, server_name="renewed") as channel:
            assert await responses_of(channel, "Unary", word("c")) == ["c"]


class GoneCall:
    """A call whose caller went away: gRPC cannot send anything any more."""

    def __init__(self) -> None:
        self.aborts = 0

    async def abort(self, *_: Any) -> None:
        self.aborts += 1
        raise import_module("grpc._cython.cygrpc").ExecuteBatchError("Failed")


@pytest.mark.parametrize("aborts_itself", [True, False])
async def test_a_caller_that_went_away_is_no_failure_of_ours(
    aborts_itself: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def behaviour(request: Any, context: Any) -> None:
        if aborts_itself:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        raise InvalidInput("no")

    async def continuation(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(behaviour)

    details: Any = type("Details", (), {"method": "/x/Y"})
    handler: Any = await rpc.ErrorInterceptor().intercept_service(continuation, details)
    call = GoneCall()
    with pytest.raises(asyncio.CancelledError):
        await handler.unary_unary(b"", call)
    assert call.aborts == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("server", "module", "kind"),
    [
        ("grpc._cython.cygrpc", "grpc._cython.cygrpc", "ExecuteBatchError"),
        ("aiohttp.server", "aiohttp.http_exceptions", "BadHttpMessage"),
    ],
)
def test_what_callers_do_leaves_no_traceback_in_the_log(
    server: str, module: str, kind: str
) -> None:
    stream = StringIO()
    handler = logs.configure(stream=stream)
    try:
        for error in (getattr(import_module(module), kind), ValueError):
            try:
                raise error("Failed")
            except Exception:
                logging.getLogger(server).exception("raised by a handler")
    finally:
        logging.getLogger().removeHandler(handler)
    assert kind not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
