"""The front over real gRPC: one engine to its clients, whatever its replicas do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from workload_plane.front.fan_out import ANSWER_SECONDS_MAX, Channels
from workload_plane.front.main import build_server

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"
ROUNDS = 100  # of calls at the same time
HANG_SECONDS = 15.0  # far above what a round takes, far below a client's patience


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


class SlowReplica(openengine_pb2_grpc.ControlServicer):
    """A replica whose load is told when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.seconds_left = 0.0

    async def GetLoad(self, request: Any, context: Any) -> server_pb2.LoadInfo:
        self.seconds_left = context.time_remaining() or 0.0
        self.asked.set()
        await self.answer.wait()
        return server_pb2.LoadInfo(running_requests=7)


def a_model(name: str, *replicas: Endpoint) -> Model:
    return Model(
        served_name=name,
        deployment=name,
        base_model="builtin://tiny",
        context_tokens=512,
        replicas=replicas,
    )


def a_dead_replica() -> Endpoint:
    return Endpoint(name="dead", grpc=f"{HOST}:{free_port(HOST)}")


@asynccontextmanager
async def replica_of(name: str, control: Any) -> AsyncIterator[Endpoint]:
    """Serve the Control as one replica."""
    server = grpc.aio.server()
    openengine_pb2_grpc.add_ControlServicer_to_server(control, server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield Endpoint(name=name, grpc=f"{HOST}:{port}")
    finally:
        await server.stop(0)


@asynccontextmanager
async def front_of(directory: Path, *models: Model) -> AsyncIterator[grpc.aio.Channel]:
    """Serve a front that knows these models; gives a channel to it."""
    watch = EndpointsWatch(directory / "endpoints.json", "here", SystemClock())
    watch.current = Endpoints(plane="here", models=models)
    channels = Channels()
    front = build_server(watch, channels)
    address = f"{HOST}:{front.add_insecure_port(f'{HOST}:0')}"
    await front.start()
    try:
        async with insecure_channel(address) as channel:
            yield channel
    finally:
        await front.stop(0)
        await channels.close()


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A front before two replicas, one of which is dead, and a model that only peers serve."""
    async with replica_of("demo-r1-a", Replica()) as alive:
        demo = a_model("demo", alive, a_dead_replica())
        async with front_of(tmp_path, demo, a_model("far")) as channel:
            yield channel


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


async def test_calls_at_the_same_time_all_get_their_answers(tmp_path: Path) -> None:
    async with replica_of("a", Replica()) as a, replica_of("b", Replica()) as b:
        models = (a_model("demo", a, a_dead_replica()), a_model("other", b))
        async with front_of(tmp_path, *models) as channel:
            control = openengine_pb2_grpc.ControlStub(channel)
            for _ in range(ROUNDS):
                async with asyncio.timeout(HANG_SECONDS):
                    load, health, info, whole, other = await asyncio.gather(
                        control.GetLoad(server_pb2.GetLoadRequest()),
                        control.Health(lifecycle_pb2.HealthRequest(model="demo")),
                        control.GetModelInfo(model_pb2.GetModelInfoRequest(model="demo")),
                        control.Health(lifecycle_pb2.HealthRequest()),
                        control.GetModelInfo(model_pb2.GetModelInfoRequest(model="other")),
                    )
                assert load.running_requests == 4
                assert health.state == whole.state == lifecycle_pb2.HEALTH_STATE_READY
                assert (info.served_model_name, other.served_model_name) == ("demo", "other")


async def test_a_replica_that_leaves_still_answers_what_it_was_asked() -> None:
    slow, channels = SlowReplica(), Channels()
    async with replica_of("slow", slow) as leaving, asyncio.TaskGroup() as group:
        asked = group.create_task(_loads(channels, leaving))
        await slow.asked.wait()
        closing = group.create_task(channels.close_all_but(()))
        await asyncio.sleep(0)  # noqa: TID251 (yields, so that the close has begun)
        slow.answer.set()
        assert await asked == [7]
        await closing
        assert await _loads(channels, leaving) == [7]
        await channels.close()


async def test_a_channel_closed_under_a_call_is_no_answer_and_no_cancellation() -> None:
    slow, channels = SlowReplica(), Channels()
    async with replica_of("slow", slow) as replica, asyncio.TaskGroup() as group:
        asked = group.create_task(_loads(channels, replica))
        await slow.asked.wait()
        await channels.close()
        assert await asked == []


async def test_a_replica_learns_how_long_its_answer_is_waited_for() -> None:
    slow, channels = SlowReplica(), Channels()
    slow.answer.set()
    async with replica_of("slow", slow) as replica:
        assert await _loads(channels, replica) == [7]
        assert 0 < slow.seconds_left < 1.5 * ANSWER_SECONDS_MAX  # the wire rounds up
        await channels.close()


async def _loads(channels: Channels, *replicas: Endpoint) -> list[int]:
    asked = server_pb2.GetLoadRequest()
    told = await channels.ask_all(replicas, lambda stub: stub.GetLoad, asked)
    return [load.running_requests for _, load in told]


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


async def test_nobody_ends_the_requests_of_others_at_a_front(tmp_path: Path) -> None:
    aborts: list[Any] = []

    class Recorder(Replica):
        async def Abort(self, request: Any, context: Any) -> lifecycle_pb2.AbortResponse:
            aborts.append(request)
            return lifecycle_pb2.AbortResponse()

    async with replica_of("a", Recorder()) as replica:
        async with front_of(tmp_path, a_model("demo", replica)) as channel:
            control = openengine_pb2_grpc.ControlStub(channel)
            everything = lifecycle_pb2.AbortRequest(all_requests=lifecycle_pb2.AllRequests())
            error = await _refusal(control.Abort(everything))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "other users" in str(error.details())
            assert "request_id" in str(error.details())
            session = kv_pb2.KvSessionRef(session_id="s")
            error = await _refusal(control.Abort(lifecycle_pb2.AbortRequest(kv_session=session)))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "request_id" in str(error.details())
    assert aborts == []


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
