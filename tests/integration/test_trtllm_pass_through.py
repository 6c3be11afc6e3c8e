"""An engine that serves `trtllm.TrtllmService`, behind the replica host's own port."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from skerry.api.openengine.v1 import (
    generation_pb2,
    lifecycle_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.plumbing.processes import signal_process, wait_until_gone
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
from tests.integration.trtllm_engine import (
    FIRST_ID,
    PREFIX,
    SERVICE,
    a_request,
    a_trtllm_engine,
    call,
    messages,
    put_on_path,
)
from workload_plane.replica_host.lifecycle import HostState

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

FREE_SECONDS_MAX = 1.0
MANY = 480


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningReplica]:
    directory = tmp_path_factory.mktemp("trtllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", put_on_path(directory / "bin"))
        async with running_replica(a_spec(directory, a_trtllm_engine())) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(replica: RunningReplica) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(replica.grpc) as opened:
        yield opened


async def load_of(replica: RunningReplica) -> dict[str, Any]:
    _, load = await get_json(f"{replica.health}/load")
    assert isinstance(load, dict)
    return load


async def is_under_way(channel: grpc.aio.Channel, request_id: str) -> bool:
    """Ask the engine itself; what it knows of it ends."""
    abort = messages()["AbortRequest"](request_id=request_id)
    return bool((await call(channel, "Abort")(abort)).success)


async def until_idle(replica: RunningReplica) -> None:
    started = CLOCK.monotonic()
    while (load := await load_of(replica))["running_requests"] or load["grpc_requests"]:
        assert CLOCK.monotonic() - started < FREE_SECONDS_MAX, "a request still holds its slot"
        await CLOCK.sleep(0.02)


async def test_an_answer_streams_tokens_and_is_counted_here(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    before = await load_of(replica)
    answers = [one async for one in call(channel, "Generate")(a_request("mine", 12))]
    assert {one.request_id for one in answers} == {"mine"}
    ids = list(range(FIRST_ID, FIRST_ID + 12))
    assert [list(one.chunk.token_ids) for one in answers[:-1]] == [[one] for one in ids]
    assert list(answers[-1].complete.output_token_ids) == ids
    whole = [one async for one in call(channel, "Generate")(a_request("", 5, streaming=False))]
    assert [len(one.complete.output_token_ids) for one in whole] == [5]
    after = await load_of(replica)
    assert after["generated_tokens"] - before["generated_tokens"] == 17
    assert after["prompt_tokens"] - before["prompt_tokens"] == 6
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{replica.health}/metrics") as response:
            page = await response.text()
    assert 'skerry_replica_ended_requests_total{outcome="finished"} 2.0' in page
    assert "skerry_replica_generated_tokens_total 17.0" in page
    assert 'skerry_replica_engine_requests{state="running"} 0.0' in page


async def test_what_exceeds_the_engines_slots_is_told_as_queued(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    calls = [call(channel, "Generate")(a_request(f"many-{n}", MANY)) for n in range(3)]
    for one in calls:
        await one.read()
    load = await openengine_pb2_grpc.ControlStub(channel).GetLoad(server_pb2.GetLoadRequest())
    assert (load.running_requests, load.queued_requests) == (2, 1)
    for one in calls:
        one.cancel()
    await until_idle(replica)


async def test_control_is_the_hosts_and_inference_says_where_the_model_is(
    channel: grpc.aio.Channel,
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    server = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert (server.engine_name, list(server.supported_models)) == ("tensorrt-llm", [SERVED])
    model = await control.GetModelInfo(model_pb2.GetModelInfoRequest(model=SERVED))
    assert (model.supports_text_input, model.supports_token_ids_input) == (False, False)
    health = await control.Health(lifecycle_pb2.HealthRequest(include_inference_probe=True))
    assert health.state == lifecycle_pb2.HEALTH_STATE_READY
    request = generation_pb2.GenerateRequest(model=SERVED, prompt="The sea is")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await openengine_pb2_grpc.InferenceStub(channel).Generate(request).read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert SERVICE in (caught.value.details() or "")


async def test_the_services_that_requests_may_be_sent_to_are_announced(
    channel: grpc.aio.Channel,
) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE, "openengine.v1.Control"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="openengine.v1.Inference"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_services_other_methods_are_the_engines_own(channel: grpc.aio.Channel) -> None:
    kinds = messages()
    health = await call(channel, "HealthCheck")(kinds["HealthCheckRequest"]())
    assert health.status == "OK"
    model = await call(channel, "GetModelInfo")(kinds["GetModelInfoRequest"]())
    assert model.model_id == SERVED
    unknown: Any = channel.unary_unary(f"{PREFIX}OfALaterRelease")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_engines_refusal_comes_with_its_code(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "Generate")(messages()["GenerateRequest"](request_id="none")).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Missing tokenized input"


async def test_a_client_that_cancels_frees_the_engines_slot(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    for number in range(3):  # one more than there are slots
        stream = call(channel, "Generate")(a_request(f"left-{number}", MANY))
        await stream.read()
        stream.cancel()
    await until_idle(replica)
    assert not [n for n in range(3) if await is_under_way(channel, f"left-{n}")]


async def test_a_deadline_ends_the_engines_work_too(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call(channel, "Generate")(a_request("late", MANY), timeout=0.3):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_idle(replica)
    assert not await is_under_way(channel, "late")


async def test_abort_by_either_service_ends_the_stream(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stream = aiter(call(channel, "Generate")(a_request("own", MANY)))
    await anext(stream)
    assert await is_under_way(channel, "own")
    rest = [one async for one in stream]
    assert rest[-1].complete.finish_reason == "cancelled"
    # What the front sends on: it knows no other service.
    stream = aiter(call(channel, "Generate")(a_request("fronts", MANY)))
    await anext(stream)
    control = openengine_pb2_grpc.ControlStub(channel)
    answer = await control.Abort(lifecycle_pb2.AbortRequest(request_id="fronts"))
    assert answer.status == lifecycle_pb2.ABORT_STATUS_ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    await until_idle(replica)
    assert not await is_under_way(channel, "fronts")


async def test_openai_requests_are_told_why_there_is_no_answer(replica: RunningReplica) -> None:
    body = {"model": SERVED, "messages": [{"role": "user", "content": "Hi"}]}
    status, answer = await post_json(f"{replica.http}/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "openai_http_not_served")
    assert f"{SERVICE}/Generate" in answer["error"]["message"]


async def test_an_engine_that_hangs_is_unhealthy_until_it_answers_again(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    engine = replica.record().engine
    assert engine is not None
    signal_process(engine, signal.SIGSTOP)
    try:
        await until(lambda: replica.record().state is HostState.UNHEALTHY, 5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "HealthCheck")(messages()["HealthCheckRequest"](), timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        signal_process(engine, signal.SIGCONT)
    await until(lambda: replica.record().state is HostState.READY, 5)


async def test_an_engine_that_dies_ends_its_streams_with_a_status_and_comes_back(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    before = replica.record()
    assert before.engine is not None
    stream = aiter(call(channel, "Generate")(a_request("dies", MANY)))
    await anext(stream)
    signal_process(before.engine, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await until(lambda: replica.record().state is HostState.READY, 30)
    after = replica.record()
    assert (after.restarts, after.grpc) == (before.restarts + 1, before.grpc)
    again = [one async for one in call(channel, "Generate")(a_request("again", 3))]
    assert again[-1].complete.finish_reason == "length"


async def test_a_drain_finishes_what_is_under_way_and_refuses_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    async with running_replica(a_spec(tmp_path, a_trtllm_engine())) as replica:
        async with grpc.aio.insecure_channel(replica.grpc) as channel:
            stream = aiter(call(channel, "Generate")(a_request("drained", 100)))
            await anext(stream)
            signal_process(replica.process, signal.SIGTERM)
            await until(lambda: replica.record().state is HostState.DRAINING, 5)
            for refused in (
                call(channel, "Generate")(a_request("new", 1)).read(),
                call(channel, "HealthCheck")(messages()["HealthCheckRequest"]()),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await refused
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            rest = [one async for one in stream]
            assert len(rest[-1].complete.output_token_ids) == 100
        assert await asyncio.wait_for(wait_until_gone(replica.process), 20) == 0
        assert replica.record().state is HostState.STOPPED
