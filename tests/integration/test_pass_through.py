"""An engine that serves `openengine.v1` itself, behind the replica host's own port."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from skerry.api.openengine.v1 import (
    error_pb2,
    generation_pb2,
    lifecycle_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import signal_process, wait_until_gone
from tests.integration.openengine_engine import a_passed_through_engine, put_on_path
from tests.integration.replica_process import (
    CLOCK,
    SERVED,
    RunningReplica,
    a_spec,
    get_json,
    post_json,
    running_replica,
    until,
)
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.grpc_server import HealthAnnouncer, start_grpc
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import Health, HostState
from workload_plane.replica_host.openengine_client import OpenEngineClient
from workload_plane.replica_host.pass_through import GENERATE

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

FREE_SECONDS_MAX = 1.0
ENDLESS = generation_pb2.StoppingOptions(max_tokens=480, ignore_eos=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningReplica]:
    directory = tmp_path_factory.mktemp("passed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", put_on_path(directory / "bin"))
        async with running_replica(a_spec(directory, a_passed_through_engine())) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(replica: RunningReplica) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(replica.grpc) as opened:
        yield opened


def a_request(**fields: Any) -> generation_pb2.GenerateRequest:
    values: dict[str, Any] = {"model": SERVED, "prompt": "The sea is"}
    values["stopping"] = generation_pb2.StoppingOptions(max_tokens=12, ignore_eos=True)
    return generation_pb2.GenerateRequest(**(values | fields))


async def load_of(replica: RunningReplica) -> dict[str, Any]:
    _, load = await get_json(f"{replica.health}/load")
    assert isinstance(load, dict)
    return load


async def until_idle(replica: RunningReplica) -> None:
    started = CLOCK.monotonic()
    while (load := await load_of(replica))["running_requests"] or load["grpc_requests"]:
        assert CLOCK.monotonic() - started < FREE_SECONDS_MAX, "a request still holds its slot"
        await CLOCK.sleep(0.02)


async def test_an_answer_streams_and_is_counted_here(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    before = await load_of(replica)
    stub = openengine_pb2_grpc.InferenceStub(channel)
    responses = [one async for one in stub.Generate(a_request(request_id="mine"))]
    assert {one.request_id for one in responses} == {"mine"}
    assert len([one for one in responses if one.WhichOneof("event") == "token"]) > 1
    assert responses[-1].usage.completion_tokens == 12
    after = await load_of(replica)
    assert after["generated_tokens"] == before["generated_tokens"] + 12
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{replica.health}/metrics") as response:
            page = await response.text()
    assert 'skerry_replica_ended_requests_total{outcome="finished"} 1.0' in page
    assert "skerry_replica_generated_tokens_total 12.0" in page
    assert 'skerry_replica_engine_requests{state="running"} 0.0' in page


async def test_control_is_the_engines_own_and_health_has_the_hosts_word_too(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    server = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert server.engine_name == "simulated"  # what stands for TensorRT-LLM here
    model = await control.GetModelInfo(model_pb2.GetModelInfoRequest(model=SERVED))
    assert model.served_model_name == SERVED
    health = await control.Health(lifecycle_pb2.HealthRequest(include_inference_probe=True))
    assert health.state == lifecycle_pb2.HEALTH_STATE_READY
    assert [check.name for check in health.checks] == ["engine", "probe", "replica-host"]
    check = health_pb2_grpc.HealthStub(channel)
    answer = await check.Check(health_pb2.HealthCheckRequest(service="openengine.v1.Inference"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await control.Health(lifecycle_pb2.HealthRequest(model="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_engines_refusal_comes_with_its_code_and_details(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(a_request(model="other")).read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert SERVED in (caught.value.details() or "")
    trailers = dict(caught.value.trailing_metadata() or ())
    assert b"EngineError" in trailers["grpc-status-details-bin"]


async def test_a_request_id_under_way_is_refused_a_second_time(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    first = stub.Generate(a_request(request_id="twice", stopping=ENDLESS))
    await first.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(a_request(request_id="twice")).read()
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    first.cancel()
    await until_idle(replica)


async def test_abort_reaches_the_engine_and_ends_the_stream_as_cancelled(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    call = openengine_pb2_grpc.InferenceStub(channel).Generate(
        a_request(request_id="to-abort", stopping=ENDLESS)
    )
    responses = aiter(call)
    await anext(responses)
    answer = await control.Abort(lifecycle_pb2.AbortRequest(request_id="to-abort"))
    assert answer.status == lifecycle_pb2.ABORT_STATUS_ABORTED
    rest = [response async for response in responses]
    assert rest[-1].finished.reason == generation_pb2.FINISH_REASON_CANCELLED
    assert await call.code() is grpc.StatusCode.OK
    await until_idle(replica)


async def test_a_client_that_cancels_frees_the_engines_slot(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    for _ in range(3):  # one more than there are slots
        call = stub.Generate(a_request(stopping=ENDLESS))
        await call.read()
        call.cancel()
    await until_idle(replica)


async def test_a_deadline_ends_the_engines_work_too(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Generate(a_request(stopping=ENDLESS), timeout=0.3):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_idle(replica)


async def test_openai_requests_are_told_why_there_is_no_answer(replica: RunningReplica) -> None:
    body = {"model": SERVED, "messages": [{"role": "user", "content": "Hi"}]}
    status, answer = await post_json(f"{replica.http}/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "openai_http_not_served")
    assert answer["error"]["type"] == "invalid_request_error"
    assert "openengine" in answer["error"]["message"]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{replica.http}/health") as response:
            assert response.status == 200


async def test_an_engine_that_hangs_is_unhealthy_until_it_answers_again(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    engine = replica.record().engine
    assert engine is not None
    control = openengine_pb2_grpc.ControlStub(channel)
    signal_process(engine, signal.SIGSTOP)
    try:
        # Three seconds are the promise; the rest is for a machine that others use too.
        await until(lambda: replica.record().state is HostState.UNHEALTHY, 5)
        health = await control.Health(lifecycle_pb2.HealthRequest(), timeout=0.5)
        assert health.state == lifecycle_pb2.HEALTH_STATE_NOT_READY
    except grpc.aio.AioRpcError as error:
        raise AssertionError(error.details()) from None
    finally:
        signal_process(engine, signal.SIGCONT)
    await until(lambda: replica.record().state is HostState.READY, 5)


async def test_an_engine_that_dies_fails_its_requests_and_comes_back_behind_the_same_port(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    before = replica.record()
    assert before.engine is not None
    stub = openengine_pb2_grpc.InferenceStub(channel)
    responses = aiter(stub.Generate(a_request(stopping=ENDLESS)))
    rest = [await anext(responses)]
    signal_process(before.engine, signal.SIGKILL)
    rest += [response async for response in responses]
    assert rest[-1].error.retryable
    assert rest[-1].error.code == error_pb2.ERROR_CODE_INTERNAL
    control = openengine_pb2_grpc.ControlStub(channel)
    health = await control.Health(lifecycle_pb2.HealthRequest())
    assert health.state == lifecycle_pb2.HEALTH_STATE_STARTING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(a_request()).read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await until(lambda: replica.record().state is HostState.READY, 30)
    after = replica.record()
    assert (after.restarts, after.grpc, after.host) == (
        *(before.restarts + 1, before.grpc, before.host),
    )
    again = [one async for one in stub.Generate(a_request())]
    assert again[-1].usage.completion_tokens == 12


async def test_a_drain_finishes_what_is_under_way_and_refuses_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    async with running_replica(a_spec(tmp_path, a_passed_through_engine())) as replica:
        async with grpc.aio.insecure_channel(replica.grpc) as channel:
            stub = openengine_pb2_grpc.InferenceStub(channel)
            stopping = generation_pb2.StoppingOptions(max_tokens=100, ignore_eos=True)
            responses = aiter(stub.Generate(a_request(stopping=stopping)))
            await anext(responses)
            signal_process(replica.process, signal.SIGTERM)
            await until(lambda: replica.record().state is HostState.DRAINING, 5)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Generate(a_request()).read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            control = openengine_pb2_grpc.ControlStub(channel)
            health = await control.Health(lifecycle_pb2.HealthRequest())
            assert health.state == lifecycle_pb2.HEALTH_STATE_DRAINING
            rest = [one async for one in responses]
            assert rest[-1].usage.completion_tokens == 100
        assert await asyncio.wait_for(wait_until_gone(replica.process), 20) == 0
        assert replica.record().state is HostState.STOPPED
        assert not await is_listening("127.0.0.1", replica.spec.http_port)


class RawEngine(grpc.GenericRpcHandler):
    """Answers bytes and keeps what came: what no release knows of must pass as well."""

    ANSWER = b"\x0a\x02id\xfa\x3f\x05later"  # request_id, and a field 1023 of a later release

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.metadata: list[tuple[str, str | bytes]] = []

    def service(self, handler_call_details: Any) -> Any:
        self.metadata = list(handler_call_details.invocation_metadata)
        if handler_call_details.method.endswith("/Generate"):
            return grpc.unary_stream_rpc_method_handler(self._generate)
        return grpc.stream_stream_rpc_method_handler(self._later)

    async def _generate(self, request: bytes, context: Any) -> None:
        self.requests.append(request)
        await context.send_initial_metadata((("engine-first", "1"),))
        await context.write(self.ANSWER)
        trailers = (("engine-last-bin", b"\x00\xff"),)
        for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
            if code.name.encode() in request:
                await context.abort(code, "no room", trailers)
        context.set_trailing_metadata(trailers)

    async def _later(self, requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(request[::-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    engine: RawEngine
    channel: Any  # of bytes, which gRPC's types have no word for


@pytest_asyncio.fixture(loop_scope="module")
async def raw(tmp_path: Path) -> AsyncIterator[Raw]:
    spec = a_spec(tmp_path, a_passed_through_engine())
    launch = engine_process.prepare(spec, "python3")
    assert launch.own_port is not None
    engine = RawEngine()
    behind = grpc.aio.server()
    behind.add_generic_rpc_handlers((engine,))
    behind.add_insecure_port(f"127.0.0.1:{launch.own_port}")
    await behind.start()
    async with OpenEngineClient(launch.own_port) as client:
        host = ReplicaHost(spec, launch, client, CLOCK)
        host.health = Health(state=HostState.READY)
        server = await start_grpc(host, SystemIds(CLOCK), HealthAnnouncer())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{spec.grpc_port}") as channel:
            yield Raw(engine=engine, channel=channel)
        await server.stop(0)
    await behind.stop(0)


async def test_messages_metadata_and_trailers_pass_byte_for_byte(raw: Raw) -> None:
    request = a_request(request_id="id").SerializeToString() + b"\xfa\x3f\x05later"
    metadata = (("traceparent", "00-a-b-01"), ("openengine-priority", "7"), ("own-bin", b"\x00"))
    call = raw.channel.unary_stream(GENERATE)(request, metadata=metadata)
    assert [one async for one in call] == [RawEngine.ANSWER]
    assert raw.engine.requests == [request]
    assert set(metadata) <= set(raw.engine.metadata)
    assert len([key for key, _ in raw.engine.metadata if key == "user-agent"]) == 1
    assert ("engine-first", "1") in tuple(await call.initial_metadata())
    assert ("engine-last-bin", b"\x00\xff") in tuple(await call.trailing_metadata())


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
async def test_a_status_in_the_middle_of_an_answer_passes_with_its_trailers(
    raw: Raw, code: grpc.StatusCode
) -> None:
    request = a_request(request_id=code.name).SerializeToString()
    call = raw.channel.unary_stream(GENERATE)(request)
    assert await call.read() == RawEngine.ANSWER
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is code
    assert caught.value.details() == "no room"
    assert ("engine-last-bin", b"\x00\xff") in tuple(caught.value.trailing_metadata() or ())


async def test_a_request_that_cannot_be_read_here_is_the_engines_to_judge(raw: Raw) -> None:
    call = raw.channel.unary_stream(GENERATE)(b"\xff\xff")
    assert [one async for one in call] == [RawEngine.ANSWER]
    assert raw.engine.requests == [b"\xff\xff"]


async def test_a_method_of_a_later_release_passes_whatever_streams_in_it(raw: Raw) -> None:
    later = raw.channel.stream_stream("/openengine.v1.Control/Later")
    call = later(iter([b"abc", b"def"]))
    assert [one async for one in call] == [b"cba", b"fed"]
    assert await raw.channel.unary_unary("/openengine.v1.New/One")(b"xy") == b"yx"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw.channel.unary_unary("/other.v1.Package/One")(b"xy")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_large_messages_pass_as_the_engine_takes_them(raw: Raw) -> None:
    call = raw.channel.unary_stream(GENERATE)(a_request(prompt="x" * 6 * 2**20).SerializeToString())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    # This engine stays with gRPC's 4 MiB, and it is the one that says so.
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in (caught.value.details() or "")
