"""Every method of a replica's gRPC, found by reflection, called with what nobody should send.

A new method of the contract is tried without a word here: it is served, or UNIMPLEMENTED with a
word why, and nothing that is sent to one harms the engine.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2, openengine_pb2_grpc
from skerry.fleet.engine import EngineName
from tests.integration.openengine_engine import a_passed_through_engine, put_on_path
from tests.integration.replica_process import (
    SERVED,
    RunningReplica,
    a_spec,
    an_engine,
    running_replica,
)
from tests.unit.control_plane.api.test_every_method import INSIDES, outcome, requests_for
from workload_plane.replica_host.lifecycle import HostState

pytestmark = pytest.mark.integration

NOT_OFFERED = {"LoadLora", "UnloadLora", "SubscribeKvEvents"}
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # a stream that goes on when the test has heard enough
}


@pytest.fixture(params=["translated", "passed-through"])
async def replica(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningReplica]:
    engine = an_engine(EngineName.LLAMACPP)
    if request.param == "passed-through":
        monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
        engine = a_passed_through_engine()
    async with running_replica(a_spec(tmp_path, engine)) as running:
        yield running


def methods_of(address: str) -> Iterator[MethodDescriptor]:
    with grpc.insecure_channel(address) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        for service in openengine_pb2.DESCRIPTOR.services_by_name.values():
            yield from pool.FindServiceByName(service.full_name).methods


async def test_every_method_is_served_or_says_why_not_whatever_it_is_sent(
    replica: RunningReplica,
) -> None:
    found = await asyncio.to_thread(lambda: list(methods_of(replica.grpc)))
    declared = {
        method.name
        for service in openengine_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {method.name for method in found} == declared
    faults = []
    async with grpc.aio.insecure_channel(replica.grpc) as channel:
        for method in found:
            for what, request in requests_for(method.input_type):
                code, details = await outcome(channel, method, request)
                offered = method.name not in NOT_OFFERED
                fine = code in FINE if offered else code is grpc.StatusCode.UNIMPLEMENTED
                # What is no message of the type is told before the method is looked at.
                fine = fine or code is grpc.StatusCode.INVALID_ARGUMENT
                told = code is grpc.StatusCode.OK or details
                if not fine or not told or any(word in details for word in INSIDES):
                    faults.append(f"{method.name} with {what}: {code.name} {details[:200]}")
        assert faults == []
        good = generation_pb2.GenerateRequest(model=SERVED, prompt="The sea is")
        good.stopping.max_tokens = 2
        call = openengine_pb2_grpc.InferenceStub(channel).Generate(good)
        assert [response async for response in call][-1].usage.completion_tokens == 2
    record = replica.record()
    assert (record.state, record.restarts) == (HostState.READY, 0)
