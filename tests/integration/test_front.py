"""The front over real gRPC: one engine to its clients, whatever its replicas do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from skerry.api.openengine.v1 import (
    generation_pb2,
    kv_pb2,
    lifecycle_pb2,
    lora_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import insecure_channel
from workload_plane.front.endpoints import Endpoint, Endpoints, EndpointsWatch, Model
from workload_plane.front.fan_out import Channels
from workload_plane.front.main import build_server

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"


class Replica(openengine_pb2_grpc.ControlServicer):
    """A replica's Control that knows one request."""

    async def GetLoad(self, request: Any, context: Any) -> server_pb2.LoadInfo:
        return server_pb2.LoadInfo(running_requests=2)

    async def Health(self, request: Any, context: Any) -> lifecycle_pb2.HealthResponse:
        return lifecycle_pb2.HealthResponse(state=lifecycle_pb2.HEALTH_STATE_READY)

    async def Abort(self, request: Any, context: Any) -> lifecycle_pb2.AbortResponse:
        known = request.request_id == "mine"
        status = (
            lifecycle_pb2.ABORT_STATUS_ABORTED
            if known
            else lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED
        )
        return lifecycle_pb2.AbortResponse(status=status)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A front before two replicas, one of which is dead, and a model that only peers serve."""
    replica = grpc.aio.server()
    openengine_pb2_grpc.add_ControlServicer_to_server(Replica(), replica)
    port = replica.add_insecure_port(f"{HOST}:0")
    await replica.start()
    watch = EndpointsWatch(tmp_path / "endpoints.json", "here", SystemClock())
    alive = Endpoint(name="demo-r1-a", grpc=f"{HOST}:{port}")
    dead = Endpoint(name="demo-r1-b", grpc=f"{HOST}:{free_port(HOST)}")
    demo = Model(
        served_name="demo",
        deployment="demo",
        base_model="builtin://tiny",
        context_tokens=64,
        replicas=(alive, dead),
    )
    far = Model(served_name="far", deployment="far", base_model="x", context_tokens=512)
    watch.current = Endpoints(plane="here", models=(demo, far))
    channels = Channels()
    front = build_server(watch, channels)
    address = f"{HOST}:{front.add_insecure_port(f'{HOST}:0')}"
    await front.start()
    async with insecure_channel(address) as channel:
        yield channel
    await channels.close()
    await front.stop(0)
    await replica.stop(0)


async def _refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_what_replicas_tell_is_added_up_and_a_dead_one_costs_only_its_share(
    channel: grpc.aio.Channel,
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    assert (await control.GetLoad(server_pb2.GetLoadRequest())).running_requests == 2
    info = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert list(info.supported_models) == ["demo", "far"]
    health = await control.Health(lifecycle_pb2.HealthRequest(model="demo"))
    assert health.state == lifecycle_pb2.HEALTH_STATE_READY
    whole = await control.Health(lifecycle_pb2.HealthRequest())
    assert whole.state == lifecycle_pb2.HEALTH_STATE_DEGRADED
    told = await control.GetModelInfo(model_pb2.GetModelInfoRequest(model="far"))
    assert told.max_context_length == 512


async def test_an_abort_finds_the_replica_that_works_on_the_request(
    channel: grpc.aio.Channel,
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    aborted = await control.Abort(lifecycle_pb2.AbortRequest(request_id="mine"))
    assert aborted.status == lifecycle_pb2.ABORT_STATUS_ABORTED
    finished = await control.Abort(lifecycle_pb2.AbortRequest(request_id="other"))
    assert finished.status == lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED
    error = await _refusal(control.Abort(lifecycle_pb2.AbortRequest()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_and_missing_models_are_refused_with_those_served(
    channel: grpc.aio.Channel,
) -> None:
    inference = openengine_pb2_grpc.InferenceStub(channel)
    for name in ("nobody", ""):
        call = inference.Generate(generation_pb2.GenerateRequest(request_id="1", model=name))
        error = await _refusal(call.read())
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "demo, far" in str(error.details())
    control = openengine_pb2_grpc.ControlStub(channel)
    error = await _refusal(control.GetModelInfo(model_pb2.GetModelInfoRequest()))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_what_a_plane_does_not_offer_says_so(channel: grpc.aio.Channel) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    calls = (
        control.LoadLora(lora_pb2.LoadLoraRequest()),
        control.ListLoras(lora_pb2.ListLorasRequest()),
        control.GetKvEventSources(kv_pb2.GetKvEventSourcesRequest()),
        control.SubscribeKvEvents(kv_pb2.SubscribeKvEventsRequest()).read(),
    )
    for call in calls:
        assert (await _refusal(call)).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_and_reflection_are_there(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection.ServerReflectionInfo(iter([asked]))
    listed = await call.read()
    names = {service.name for service in listed.list_services_response.service}
    assert {"openengine.v1.Control", "openengine.v1.Inference", "grpc.health.v1.Health"} <= names
