"""The operator API as JSON over HTTP, beside the same API by gRPC: the answers must be the same.

Methods are found by server reflection, so a new one is compared without a word here.
"""

import asyncio
import base64
import importlib
import io
import json
import pkgutil
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.rpc.status_pb2 import Status

from control_plane.api import http_bridge, http_gateway
from control_plane.api.http_errors import connect_code
from control_plane.api.http_gateway import HttpGateway
from control_plane.api.serving import operator_services
from control_plane.http import http_application, may_serve_operators, serve_http
from control_plane.store.changes import list_changes
from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database
from skerry.api.operator import v1 as definitions
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import MESSAGE_BYTES_MAX, insecure_channel
from tests.builders import a_deployment
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.api.test_every_method import TEXTS, filled, methods_of

pytestmark = pytest.mark.integration

SERVICE = "/skerry.api.operator.v1.OperatorService"
CATALOGUE = "/skerry.api.operator.v1.CatalogueService"
PARENT = {"parent": "projects/default"}
JSON = {"Content-Type": "application/json"}
STREAM = {"Content-Type": "application/connect+json"}
SECONDS_MAX = 10.0
# Wrong in almost every field, and yet JSON can say it: a negative Timestamp cannot be written.
WELL_FORMED = {"int": 1, "float": -1.0}


@dataclass
class Http:
    """A caller of the HTTP port."""

    session: aiohttp.ClientSession
    gateway: HttpGateway
    address: str

    async def send(self, path: str, body: Any = b"{}", **headers: str) -> tuple[int, Any]:
        """Return status and JSON of a POST with exactly this body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(path, data=data, headers={**JSON, **told}) as response:
            return response.status, json.loads(await response.read())


@pytest.fixture
async def http(operator: Operator) -> AsyncIterator[Http]:
    gateway = HttpGateway(insecure_channel(operator.address), operator_services())
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    runner = await serve_http(http_application(lambda: "", gateway), address)
    async with aiohttp.ClientSession(f"http://{address}") as session:
        yield Http(session=session, gateway=gateway, address=address)
    await runner.cleanup()


async def methods(operator: Operator) -> list[MethodDescriptor]:
    """Return every method of ours, unary and streaming."""
    return await asyncio.to_thread(lambda: list(methods_of(operator.address)))


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


async def by_grpc(operator: Operator, method: MethodDescriptor, request: Any) -> Any:
    """Return what gRPC answers: a message, or code, text and details."""
    unary: Any = operator.channel.unary_unary(path_of(method))
    try:
        answer = await unary(request.SerializeToString(), timeout=SECONDS_MAX)
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        told = Status.FromString(bytes(details)).details
        return connect_code(error.code()).value, error.details(), [bytes(d.value) for d in told]
    return message_factory.GetMessageClass(method.output_type).FromString(answer)


async def by_http(http: Http, method: MethodDescriptor, request: Any) -> Any:
    """Return what HTTP answers, in the same form."""
    body = json_format.MessageToJson(request).encode()
    status, told = await http.send(path_of(method), body)
    if status != 200:
        details = [base64.b64decode(d["value"] + "==") for d in told.get("details", ())]
        return told["code"], told["message"], details
    return json_format.ParseDict(told, message_factory.GetMessageClass(method.output_type)())


async def test_every_unary_method_answers_an_empty_request_as_it_does_by_grpc(
    fleet: Operator, http: Http
) -> None:
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
    found = [method for method in await methods(fleet) if not method.server_streaming]
    assert {"ListPlanes", "CreateReservation", "Explain"} <= {method.name for method in found}
    for method in found:
        request = message_factory.GetMessageClass(method.input_type)()
        expected = await by_grpc(fleet, method, request)
        assert await by_http(http, method, request) == expected, method.name


@pytest.mark.parametrize("text", TEXTS)
async def test_every_unary_method_refuses_in_the_words_of_grpc(
    fleet: Operator, http: Http, text: str
) -> None:
    for method in await methods(fleet):
        if method.server_streaming:
            continue
        request = filled(method.input_type, TEXTS[text], WELL_FORMED)
        expected = await by_grpc(fleet, method, request)
        assert await by_http(http, method, request) == expected, method.name


async def test_every_method_of_the_grpc_port_is_there(fleet: Operator, http: Http) -> None:
    for method in await methods(fleet):
        path = path_of(method)
        assert http.gateway.has(path), path
        assert http.gateway.is_stream(path) == method.server_streaming, path


async def test_a_list_is_plain_json(fleet: Operator, http: Http) -> None:
    status, told = await http.send(f"{SERVICE}/ListPlanes", PARENT)
    assert status == 200
    names = [plane["name"] for plane in told["planes"]]
    assert names == ["projects/default/planes/gcp-x", "projects/default/planes/onprem-fra"]


async def test_a_refusal_says_in_json_which_fields_are_wrong(fleet: Operator, http: Http) -> None:
    status, told = await http.send(f"{SERVICE}/ListPlanes", {"parent": "nonsense"})
    assert (status, told["code"]) == (400, "invalid_argument")
    details = {detail["type"]: detail["debug"] for detail in told["details"]}
    assert details["google.rpc.ErrorInfo"] == {"reason": "INVALID_INPUT", "domain": "skerry"}
    violations = details["google.rpc.BadRequest"]["fieldViolations"]
    assert [violation["field"] for violation in violations] == ["parent"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON of skerry.api.operator.v1.ListPlanesRequest"),
        (b"{", "Failed to load JSON"),
        (b"\xff\xfe{}", "no JSON of"),
        (b'{"parent": "\xff"}', "no JSON of"),
        (b'{"parnt": "projects/default"}', 'no field named "parnt"'),
        (b'{"parent": 7}', "Failed to parse parent field"),
        (b'{"parent": "a", "parent": "b"}', "duplicate key"),
        (b'{"pageSize": 1e400}', "page"),
        (b'{"pageSize": ' + b"9" * 5_000 + b"}", "no JSON of"),
        (b"[]", "no JSON of"),
        (b"[" * 100_000, "no JSON of"),
        (b"null", "no JSON of"),
        (b'{"parent":' * 120 + b"1" + b"}" * 120, "no JSON of"),
    ],
)
async def test_what_is_no_such_json_is_the_callers_fault(
    http: Http, body: bytes, said: str
) -> None:
    status, told = await http.send(f"{SERVICE}/ListPlanes", body)
    assert (status, told["code"]) == (400, "invalid_argument")
    assert said in told["message"]
    assert "Traceback" not in told["message"]
    assert len(told["message"]) <= 1_100
    assert told["details"][0]["debug"]["reason"] == "INVALID_INPUT"


async def test_a_body_past_the_limit_is_refused_before_it_is_read(http: Http) -> None:
    body = io.BytesIO(b" " * (MESSAGE_BYTES_MAX + 6))
    async with http.session.post(f"{SERVICE}/ListPlanes", data=body, headers=JSON) as response:
        told = await response.json()
    assert (response.status, told["code"]) == (413, "resource_exhausted")


async def test_a_body_of_untold_length_is_cut_at_the_limit(http: Http) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MESSAGE_BYTES_MAX // 65_536 + 2):
            yield b" " * 65_536

    async with http.session.post(f"{SERVICE}/ListPlanes", data=pieces(), headers=JSON) as response:
        told = await response.json()
    assert (response.status, told["code"]) == (429, "resource_exhausted")


async def test_a_body_that_never_comes_holds_nothing_for_long(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bridge, "BODY_SECONDS_MAX", 0.1)
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with http.session.post(f"{SERVICE}/ListPlanes", data=pieces(), headers=JSON) as response:
        told = await response.json()
    assert (response.status, told["code"]) == (504, "deadline_exceeded")


async def a_stalled_call(http: Http, method: str, kind: str) -> asyncio.StreamWriter:
    """Send the head of a call and a part of its body, and no more."""
    _, writer = await asyncio.open_connection(*http.address.split(":"))
    head = (
        f"POST {SERVICE}/{method} HTTP/1.1\r\nHost: {http.address}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {MESSAGE_BYTES_MAX}\r\n\r\n"
    )
    writer.write(head.encode() + b" " * 1_000)
    await writer.drain()
    return writer


async def test_bodies_that_do_not_come_hold_so_many_places_and_no_more(
    fleet: Operator, http: Http
) -> None:
    stalled = [
        await a_stalled_call(http, "ListPlanes", "application/json")
        for _ in range(http_gateway.CALLS_MAX + 20)
    ]
    async with asyncio.timeout(SECONDS_MAX):
        while http.gateway.calls < http_gateway.CALLS_MAX:
            await SystemClock().sleep(0.01)
    body = json.dumps(PARENT).encode()
    async with http.session.post(f"{SERVICE}/ListPlanes", data=body, headers=JSON) as response:
        told = await response.json()
    assert (response.status, told["code"]) == (429, "resource_exhausted")
    assert response.headers["Retry-After"] == "1"
    assert "64 calls over HTTP are under way" in told["message"]
    assert http.gateway.calls == http_gateway.CALLS_MAX
    body = enveloped({**PARENT, "fromSequence": "0"})
    async with http.session.post(f"{SERVICE}/WatchChanges", data=body, headers=STREAM) as stream:
        await frame(stream.content)  # streams have places of their own
    async with http.session.get("/livez") as alive:
        assert alive.status == 200
    for writer in stalled:
        writer.close()
    async with asyncio.timeout(SECONDS_MAX):
        while http.gateway.calls or http.gateway.streams:
            await SystemClock().sleep(0.01)
    assert (await http.send(f"{SERVICE}/ListPlanes", PARENT))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "json"}, 415),
        ({"Content_Type": "application/proto"}, 415),
        ({"Content_Type": "application/grpc"}, 415),
        ({"Content_Type": "application/connect+json"}, 415),
        ({"Content_Encoding": "zstd"}, 415),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "127.0.0.1.rebound.example:80"}, 403),
        ({"Origin": "https://page.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
async def test_a_foreign_page_or_a_simple_request_gets_nowhere(
    fleet: Operator, http: Http, headers: dict[str, str], status: int
) -> None:
    got, told = await http.send(f"{SERVICE}/ListPlanes", PARENT, **headers)
    assert got == status
    assert "planes" not in told
    assert told["message"]


async def test_the_ports_own_pages_may_call(fleet: Operator, http: Http) -> None:
    own = {"Origin": f"http://{http.address}", "Sec_Fetch_Site": "same-origin"}
    status, _ = await http.send(f"{SERVICE}/ListPlanes", PARENT, **own)
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{SERVICE}/ListPlanes", 405),
        ("OPTIONS", f"{SERVICE}/ListPlanes", 405),
        ("POST", f"{SERVICE}/NoSuchMethod", 404),
        ("POST", "/skerry.api.plane.v1.PlaneLinkService/Connect", 404),
    ],
)
async def test_only_posts_to_methods_of_the_operator_api_are_answered(
    http: Http, method: str, path: str, status: int
) -> None:
    async with http.session.request(method, path, data=b"{}", headers=JSON) as response:
        assert response.status == status
        assert not [name for name in response.headers if name.lower().startswith("access-")]
        assert (await response.json())["code"] == "unimplemented"


async def last_change(database: Database) -> Any:
    """Return the newest entry of the change log."""
    return (await database.run_read(list_changes, 0, 1, True, None))[0]


@pytest.mark.parametrize(
    "reason",
    [
        {"X_Skerry_Reason": "neue Schalter, größer"},
        {"X_Skerry_Reason_Bin": base64.b64encode("neue Schalter, größer".encode()).decode()},
    ],
)
async def test_who_calls_and_why_is_in_the_change_log(
    fleet: Operator, http: Http, reason: dict[str, str]
) -> None:
    body = {**PARENT, "acceleratorKindId": "h100", "acceleratorKind": {"memoryBytes": "1"}}
    status, told = await http.send(
        f"{CATALOGUE}/CreateAcceleratorKind", body, X_Skerry_Actor="user:ada", **reason
    )
    assert status == 200, told
    change = await last_change(fleet.database)
    assert (change.actor, change.reason) == ("user:ada", "neue Schalter, größer")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X_Skerry_Actor": "control-plane:reconcile"}, "permission_denied"),
        ({"X_Skerry_Actor": "nobody"}, "invalid_argument"),
        ({"X_Skerry_Actor": "user:größe"}, "invalid_argument"),
        ({"X_Skerry_Reason_Bin": "%%%"}, "invalid_argument"),
        ({"X_Skerry_Reason_Bin": "//79"}, "invalid_argument"),
        ({"X_Skerry_Reason": "a", "X_Skerry_Reason_Bin": "YQ=="}, "invalid_argument"),
    ],
)
async def test_a_false_actor_or_reason_is_refused_as_by_grpc(
    fleet: Operator, http: Http, headers: dict[str, str], code: str
) -> None:
    body = {**PARENT, "acceleratorKindId": "h100", "acceleratorKind": {"memoryBytes": "1"}}
    _, told = await http.send(f"{CATALOGUE}/CreateAcceleratorKind", body, **headers)
    assert told["code"] == code


def enveloped(message: Any) -> bytes:
    """Return a message in Connect's frame for streams."""
    body = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(body)) + body


async def frame(stream: aiohttp.StreamReader) -> tuple[int, Any]:
    """Return flags and JSON of the next frame."""
    flags, length = struct.unpack(">BI", await stream.readexactly(5))
    return flags, json.loads(await stream.readexactly(length))


async def test_changes_stream_as_json_as_they_happen(fleet: Operator, http: Http) -> None:
    body = enveloped({**PARENT, "fromSequence": "0"})
    async with (
        asyncio.timeout(SECONDS_MAX),
        http.session.post(f"{SERVICE}/WatchChanges", data=body, headers=STREAM) as response,
    ):
        assert response.status == 200
        assert response.content_type == "application/connect+json"
        flags, first = await frame(response.content)
        assert (flags, first["change"]["sequence"]) == (0, "1")
        last = int((await last_change(fleet.database)).sequence)
        for _ in range(last - 1):
            await frame(response.content)
        await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
        flags, told = await frame(response.content)
        assert (flags, told["change"]["sequence"]) == (0, str(last + 1))
        assert http.gateway.streams == 1


async def test_a_stream_ends_with_the_error_it_ended_with_and_at_its_deadline(
    fleet: Operator, http: Http
) -> None:
    for body, headers, code in (
        ({**PARENT, "fromSequence": "999999"}, {}, "out_of_range"),
        ({**PARENT, "fromSequence": "2"}, {"Connect-Timeout-Ms": "200"}, "deadline_exceeded"),
        ({"parnt": ""}, {}, "invalid_argument"),
    ):
        told: Any = {}
        async with (
            asyncio.timeout(SECONDS_MAX),
            http.session.post(
                f"{SERVICE}/WatchChanges", data=enveloped(body), headers={**STREAM, **headers}
            ) as response,
        ):
            flags = 0
            while not flags:
                flags, told = await frame(response.content)
        assert flags == 2
        assert told["error"]["code"] == code


async def test_who_goes_away_leaves_no_stream_behind(fleet: Operator, http: Http) -> None:
    body = enveloped({**PARENT, "fromSequence": "0"})
    response = await http.session.post(f"{SERVICE}/WatchChanges", data=body, headers=STREAM)
    await frame(response.content)
    assert http.gateway.streams == 1
    response.close()
    async with asyncio.timeout(SECONDS_MAX):
        while http.gateway.streams:
            await SystemClock().sleep(0.01)


async def test_too_many_streams_are_refused_and_calls_still_answered(
    fleet: Operator, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.gateway._streams, "_size", 1)
    body = enveloped({**PARENT, "fromSequence": "0"})
    async with http.session.post(f"{SERVICE}/WatchChanges", data=body, headers=STREAM) as one:
        await frame(one.content)
        async with http.session.post(f"{SERVICE}/WatchChanges", data=body, headers=STREAM) as two:
            told = await two.json()
        assert (two.status, told["code"]) == (429, "resource_exhausted")
        assert two.headers["Retry-After"] == "1"
        assert (await http.send(f"{SERVICE}/ListPlanes", PARENT))[0] == 200


async def test_a_call_ends_at_the_deadline_that_it_names(
    fleet: Operator, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def stuck(domains: Any) -> Any:
        await never.wait()

    monkeypatch.setattr(fleet.questions, "survive", stuck)
    body = {**PARENT, "domains": ["plane"]}
    status, told = await http.send(f"{SERVICE}/Survive", body, Connect_Timeout_Ms="200")
    assert (status, told["code"]) == (504, "deadline_exceeded")


async def test_a_fault_of_ours_shows_nothing_of_itself(
    fleet: Operator, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret.py")

    monkeypatch.setattr(http_gateway, "_to_json", broken)
    status, told = await http.send(f"{SERVICE}/ListPlanes", PARENT)
    assert (status, told["code"]) == (500, "internal")
    assert told["message"] == "internal error; the server's log has the cause"


async def test_a_grpc_port_that_is_gone_is_unavailable(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = insecure_channel(f"127.0.0.1:{free_port('127.0.0.1')}")
    monkeypatch.setattr(http.gateway, "_channel", nowhere)
    status, told = await http.send(f"{SERVICE}/ListPlanes", PARENT)
    assert (status, told["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("127.0.0.1:80", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("0.0.0.0:80", False),
        ("10.0.0.1:80", False),
        (":80", False),
        ("[::]:80", False),
    ],
)
def test_the_api_is_on_loopback_alone(address: str, may: bool) -> None:
    assert may_serve_operators(address) == may


async def test_without_the_api_the_port_has_health_and_nothing_else() -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    runner = await serve_http(http_application(lambda: "not yet"), address)
    async with aiohttp.ClientSession(f"http://{address}") as session:
        for path, status in (("/livez", 200), ("/readyz", 503), (f"{SERVICE}/ListPlanes", 404)):
            async with session.request("GET", path) as response:
                assert response.status == status, path
    await runner.cleanup()


async def test_a_port_that_is_taken_is_said_in_one_line(http: Http) -> None:
    with pytest.raises(Conflict, match="cannot listen on"):
        await serve_http(http_application(lambda: ""), http.address)


def test_every_service_of_the_definitions_is_served() -> None:
    defined = {
        f"skerry.api.operator.v1.{service}"
        for module in pkgutil.iter_modules(definitions.__path__)
        if module.name.endswith("_pb2")
        for service in importlib.import_module(
            f"skerry.api.operator.v1.{module.name}"
        ).DESCRIPTOR.services_by_name
    }
    assert {service.full_name for service in operator_services()} == defined
