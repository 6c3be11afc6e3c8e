"""Every method of the API, found by server reflection, called with what nobody should send.

A new method is tried without a word here: an answer or a caller's fault is right, UNKNOWN and
INTERNAL never are, and no message shows the server's insides. What a repeated request does is in
`test_every_mutation.py`.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from control_plane.store.deployments import apply_deployment
from tests.builders import a_deployment
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

OWN = "skerry.api."
STREAM_SECONDS = 0.3  # what streams without end are listened to
CALL_SECONDS = 10.0
DEPTH_MAX = 3
BAD = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED)
INSIDES = ("Traceback", "Error:", "sqlalchemy", ".py", "object at 0x")
# Not to be sent to a server that is to live on: none there is.
NUMBERS = {
    "negative": {"int": -1, "float": -1.0},
    "huge": {"int": 2**31 - 1, "float": 1e308},
    "nan": {"int": 0, "float": float("nan")},
    "infinite": {"int": 1, "float": float("-inf")},
}
TEXTS = {
    "empty": "",
    "long": "x" * 10_000,
    "control": "a\x00\x1b[31m\n",
    "upwards": "projects/default/../../etc/passwd",
    "look-alike": "projects/default/planes/\u0440lane",
    "unknown": "projects/default/planes/nowhere",
    "other project": "projects/other/planes/x",
}


def filled(descriptor: Descriptor, text: str, number: dict[str, Any], depth: int = 0) -> Message:
    """Return a message with every field set to what is told, however deep."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None:
            if depth >= DEPTH_MAX or field.message_type.GetOptions().map_entry:
                continue
            part = filled(field.message_type, text, number, depth + 1)
            if field.is_repeated:
                getattr(message, field.name).add().CopyFrom(part)
            else:
                getattr(message, field.name).CopyFrom(part)
            continue
        value = value_for(field, text, number)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def value_for(field: FieldDescriptor, text: str, number: dict[str, Any]) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return text if field.type != FieldDescriptor.TYPE_BYTES else text.encode()
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return number["float"]
        case FieldDescriptor.CPPTYPE_ENUM:
            return 1
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(number["int"])
        case _:
            return number["int"]


def methods_of(address: str) -> Iterator[MethodDescriptor]:
    """Yield every method of ours that the server tells of itself."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        for service in database.get_services():
            if service.startswith(OWN):
                yield from pool.FindServiceByName(service).methods


def requests_for(descriptor: Descriptor) -> Iterator[tuple[str, bytes]]:
    yield "no input", b""
    for what, text in TEXTS.items():
        yield what, filled(descriptor, text, NUMBERS["negative"]).SerializeToString()
    for what, number in NUMBERS.items():
        yield what, filled(descriptor, "demo", number).SerializeToString()
    yield "not of the type", b"\x0a\x05" + b"\xff" * 5
    yield "endless nesting", b"\x0a\x80\x80\x80\x80\x04" + b"\x0a" * 200
    yield "garbage", bytes(range(256))


async def outcome(channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes) -> Any:
    """Return (code, details) of a call with these very bytes."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.server_streaming:
            stream: Any = channel.unary_stream(path)
            async for _ in stream(request, timeout=STREAM_SECONDS):
                pass
        else:
            unary: Any = channel.unary_unary(path)
            await unary(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_every_method_takes_anything_and_shows_nothing(fleet: Operator) -> None:
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
    found = await _in_thread(fleet.address)
    assert {"Explain", "CreateReservation", "WatchChanges"} <= {method.name for method in found}
    faults = []
    for method in found:
        for what, request in requests_for(method.input_type):
            code, details = await outcome(fleet.channel, method, request)
            if code in BAD or any(word in details for word in INSIDES):
                faults.append(f"{method.name} with {what}: {code.name} {details[:200]}")
    assert faults == []


async def test_what_was_refused_is_refused_again_and_nothing_is_left(fleet: Operator) -> None:
    for method in await _in_thread(fleet.address):
        if method.server_streaming:
            continue
        request = filled(method.input_type, "x" * 10_000, NUMBERS["negative"]).SerializeToString()
        first = await outcome(fleet.channel, method, request)
        assert await outcome(fleet.channel, method, request) == first, method.name


async def _in_thread(address: str) -> list[MethodDescriptor]:
    import asyncio

    return await asyncio.to_thread(lambda: list(methods_of(address)))


@pytest.mark.parametrize("what", ["", "skerry.api.operator.v1.CatalogueService"])
async def test_health_is_told_of_each_service(operator: Operator, what: str) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub: Any = health_pb2_grpc.HealthStub(operator.channel)
    name = what or "skerry.api.operator.v1.OperatorService"
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
