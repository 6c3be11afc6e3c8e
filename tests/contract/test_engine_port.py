"""What every engine promises behind the engine port, held against real processes.

The engine's own HTTP API, and the same engine through the replica host's `openengine.v1`. Engines
of accelerators run where there are both, on the chat model that SKERRY_CONTRACT_MODEL names.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from skerry.api.openengine.v1 import (
    generation_pb2,
    lifecycle_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.errors import Conflict
from skerry.plumbing.ports import check_port_free, free_port, is_listening
from skerry.plumbing.processes import kill_group, signal_process, spawn, terminate
from tests.integration.replica_process import (
    CLOCK,
    MODEL,
    SERVED,
    START_SECONDS_MAX,
    RunningReplica,
    a_spec,
    an_engine,
    get_json,
    post_json,
    running_replica,
    stream_events,
    until,
)
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import Dialect, EngineLaunch, LaunchParameters
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.main import PYTHON_VARIABLE

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ACCELERATED_MODEL = os.environ.get("SKERRY_CONTRACT_MODEL", "")
HERE = (EngineName.SIMULATED, EngineName.LLAMACPP)


def _why_not(name: EngineName) -> str:
    """Return why an engine cannot run on this machine, empty when it can."""
    if not Path("/dev/nvidia0").exists():
        return "no accelerator"
    if name is EngineName.SGLANG:
        lacking = PYTHON_VARIABLE not in os.environ and f"{PYTHON_VARIABLE} names no interpreter"
    else:
        program = {EngineName.VLLM: "vllm", EngineName.TENSORRT_LLM: "trtllm-serve"}[name]
        lacking = shutil.which(program) is None and f"no {program} on the PATH"
    return lacking or ("" if ACCELERATED_MODEL else "SKERRY_CONTRACT_MODEL names no base model")


ENGINES = [
    *HERE,
    *(
        pytest.param(name, marks=pytest.mark.skipif(bool(_why_not(name)), reason=_why_not(name)))
        for name in (EngineName.TENSORRT_LLM, EngineName.VLLM, EngineName.SGLANG)
    ),
]
# Of these an answer has either text or ids.
TEXT_ALONE = (Dialect.OPENAI, Dialect.TRTLLM_SERVE, Dialect.TRTLLM_SERVE_1_2)
PROMPT = "The sea is"
CHAT = {"model": SERVED, "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 8}
# From a hang-up or an Abort to the free slot.
FREE_SECONDS_MAX = 1.0
# What no engine here answers before it is ended: a third of a second of the fastest, llama.cpp.
ENDLESS_TOKENS = 1_900
ENDLESS = generation_pb2.StoppingOptions(max_tokens=ENDLESS_TOKENS, ignore_eos=True)
ENDLESS_BODY = {
    "model": SERVED,
    "prompt": PROMPT,
    "max_tokens": ENDLESS_TOKENS,
    "ignore_eos": True,
}


def an_engine_here(name: EngineName) -> EngineSpec:
    """Return an engine with room for what is endless."""
    slowly = {"tpot_seconds": "0.02"} if name is EngineName.SIMULATED else {}
    return replace(an_engine(name, **slowly), context_tokens=2_048)


def model_of(name: EngineName) -> str:
    """Return the path of the base model that the engine is given."""
    return str(MODEL) if name in HERE else ACCELERATED_MODEL


def launch_of(replica: RunningReplica) -> EngineLaunch:
    """Return how the replica's engine was started."""
    spec = replica.spec
    place = LaunchParameters(
        model_path=spec.model_path,
        served_name=spec.served_name,
        host=spec.host,
        http_port=spec.http_port,
        config_dir=str(spec.config_dir),
    )
    return render(spec.engine, place)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def replica(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningReplica]:
    directory = tmp_path_factory.mktemp(str(request.param))
    name = request.param
    spec = a_spec(
        directory,
        an_engine_here(name),
        model_path=model_of(name),
        accelerators=() if name in HERE else (0,),
    )
    async with running_replica(
        spec, seconds=START_SECONDS_MAX if name in HERE else 3_600
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(replica: RunningReplica) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(replica.grpc) as opened:
        yield opened


def generate_request(**fields: Any) -> generation_pb2.GenerateRequest:
    sampling = generation_pb2.SamplingParams(temperature=0, seed=1)
    values: dict[str, Any] = {"model": SERVED, "prompt": PROMPT, "sampling": sampling}
    values["stopping"] = generation_pb2.StoppingOptions(max_tokens=12)
    return generation_pb2.GenerateRequest(**(values | fields))


def tells_running(replica: RunningReplica) -> bool:
    """Return whether the engine counts its requests, which TensorRT-LLM 1.2 does not."""
    return launch_of(replica).load_metrics.running_requests is not None


async def running_requests(replica: RunningReplica) -> int:
    _, load = await get_json(f"{replica.health}/load")
    running = load["running_requests"]
    assert isinstance(running, int)
    return running


async def until_serving_again(replica: RunningReplica) -> None:
    seconds = 10 if replica.spec.engine.name in HERE else launch_of(replica).startup_seconds_max
    await until(lambda: replica.record().state is HostState.READY, seconds)


async def until_busy(replica: RunningReplica) -> None:
    if not tells_running(replica):
        return  # what was sent is all that is known
    started = CLOCK.monotonic()
    while await running_requests(replica) < 2:
        assert CLOCK.monotonic() - started < 15, "nothing runs"
        await CLOCK.sleep(0.02)


async def until_all_slots_answer(replica: RunningReplica, seconds: float) -> None:
    """Return once as many endless answers as there are slots have begun: a held one would not."""
    body = ENDLESS_BODY | {"stream": True}
    async with aiohttp.ClientSession() as session, asyncio.timeout(seconds):
        posts = [
            session.post(f"{replica.http}/v1/completions", json=body)
            for _ in range(replica.spec.engine.concurrent_requests)
        ]
        responses = await asyncio.gather(*posts)
        try:
            for response in responses:
                assert await response.content.readany()
        finally:
            for response in responses:
                response.close()


async def until_idle(replica: RunningReplica, seconds: float = FREE_SECONDS_MAX) -> None:
    if not tells_running(replica):
        await until_all_slots_answer(replica, seconds)
        return
    started = CLOCK.monotonic()
    while await running_requests(replica):
        assert CLOCK.monotonic() - started < seconds, "a request still holds its slot"
        await CLOCK.sleep(0.02)


async def test_engine_is_healthy_and_lists_the_served_name(replica: RunningReplica) -> None:
    status, _ = await get_json(f"{replica.http}/health")
    assert status == 200
    _, models = await get_json(f"{replica.http}/v1/models")
    named = [model["id"] for model in models["data"]]
    if replica.spec.engine.name is EngineName.TENSORRT_LLM:  # 1.2 calls it by its weights
        assert named == [Path(replica.spec.model_path).name]
    else:
        assert named == [SERVED]


async def test_chat_streams_role_then_text_then_reason_then_usage(replica: RunningReplica) -> None:
    body = CHAT | {"stream_options": {"include_usage": True}}
    *events, last = await stream_events(f"{replica.http}/v1/chat/completions", body)
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    deltas = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert deltas[0]["delta"]["role"] == "assistant"
    assert [d["finish_reason"] for d in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1]["finish_reason"] in ("stop", "length")
    assert "".join(d["delta"].get("content") or "" for d in deltas)
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert 1 <= chunks[-1]["usage"]["completion_tokens"] <= 8


async def test_chat_without_streaming_gives_one_message_and_its_usage(
    replica: RunningReplica,
) -> None:
    status, answer = await post_json(f"{replica.http}/v1/chat/completions", CHAT)
    assert status == 200
    assert answer["choices"][0]["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_text_completion_without_streaming(replica: RunningReplica) -> None:
    body = {"model": SERVED, "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    status, answer = await post_json(f"{replica.http}/v1/completions", body)
    assert status == 200
    assert answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] <= 4


async def test_a_body_that_is_no_json_is_refused_and_harms_nothing(replica: RunningReplica) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{replica.http}/v1/completions", data=b"{") as response:
            assert 400 <= response.status < 600
    status, _ = await get_json(f"{replica.http}/health")
    assert status == 200


async def test_metrics_are_prometheus_and_tell_the_load(replica: RunningReplica) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{replica.http}{launch_of(replica).metrics_path}") as response:
            assert response.status == 200
            assert "# TYPE" in await response.text()
    _, load = await get_json(f"{replica.health}/load")
    told = launch_of(replica).load_metrics
    names = ("running_requests", "queued_requests", "prompt_tokens", "generated_tokens")
    kept = [name for name in names if getattr(told, name)]
    # What an engine does not count nobody may take for zero.
    assert [name for name in names if load[name] is not None] == kept
    assert kept or told.first_tokens


async def test_a_user_who_hangs_up_frees_the_slot(replica: RunningReplica) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):  # one more than there are slots
            response = await session.post(
                f"{replica.http}/v1/completions", json=ENDLESS_BODY | {"stream": True}
            )
            await response.content.readany()
            response.close()
    await until_idle(replica)
    await until_all_slots_answer(replica, FREE_SECONDS_MAX)
    await until_idle(replica)


async def test_grpc_generate_equals_http_for_greedy_sampling(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    body = {"model": SERVED, "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 1}
    afresh: dict[str, object] = {}
    if launch_of(replica).dialect is Dialect.LLAMACPP:  # the others refuse to go without
        body |= {"cache_prompt": False}
        afresh = {"kv": generation_pb2.KvOptions(bypass_prefix_cache=True)}
    _, answer = await post_json(f"{replica.http}/v1/completions", body)
    request = generate_request(request_id="equal", **afresh)
    stub = openengine_pb2_grpc.InferenceStub(channel)
    responses = [response async for response in stub.Generate(request)]
    assert {response.request_id for response in responses} == {"equal"}
    tokens = [r.token for r in responses if r.WhichOneof("event") == "token"]
    assert "".join(token.text for token in tokens) == answer["choices"][0]["text"]
    assert all(token.HasField("output_index") for token in tokens)
    assert [r.HasField("usage") for r in responses] == [False] * (len(responses) - 1) + [True]
    last = responses[-1]
    assert last.finished.reason == generation_pb2.FINISH_REASON_LENGTH
    assert last.usage.completion_tokens == answer["usage"]["completion_tokens"]
    assert last.usage.prompt_tokens == answer["usage"]["prompt_tokens"]
    if launch_of(replica).dialect not in TEXT_ALONE:
        assert sum(len(token.tokens) for token in tokens) == last.usage.completion_tokens


async def test_grpc_takes_token_ids(replica: RunningReplica, channel: grpc.aio.Channel) -> None:
    request = generate_request(token_ids=generation_pb2.TokenIds(ids=[20, 21, 22]))
    stub = openengine_pb2_grpc.InferenceStub(channel)
    responses = [response async for response in stub.Generate(request)]
    assert responses[-1].usage.prompt_tokens in (3, 4)  # some put a begin token before them


async def test_unknown_model_is_not_found_and_names_what_is_served(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(generate_request(model="other")).read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert SERVED in (caught.value.details() or "")


async def test_unsupported_field_is_refused_by_name(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(generate_request(lora_name="mine")).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UNSUPPORTED_FEATURE: lora_name" in (caught.value.details() or "")


async def test_abort_ends_the_stream_as_cancelled(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    call = openengine_pb2_grpc.InferenceStub(channel).Generate(
        generate_request(request_id="to-abort", stopping=ENDLESS)
    )
    responses = aiter(call)
    await anext(responses)
    answer = await control.Abort(lifecycle_pb2.AbortRequest(request_id="to-abort"))
    rest = [response async for response in responses]
    assert answer.status == lifecycle_pb2.ABORT_STATUS_ABORTED
    assert rest[-1].finished.reason == generation_pb2.FINISH_REASON_CANCELLED
    assert rest[-1].usage.completion_tokens < ENDLESS_TOKENS
    assert await call.code() is grpc.StatusCode.OK
    await until_idle(replica)
    again = await control.Abort(lifecycle_pb2.AbortRequest(request_id="to-abort"))
    assert again.status == lifecycle_pb2.ABORT_STATUS_ALREADY_FINISHED


async def test_a_client_that_cancels_frees_the_slot(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = openengine_pb2_grpc.InferenceStub(channel)
    for _ in range(3):
        call = stub.Generate(generate_request(stopping=ENDLESS))
        await call.read()
        call.cancel()
    await until_idle(replica)


async def test_control_tells_server_model_load_and_health(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    control = openengine_pb2_grpc.ControlStub(channel)
    server = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    assert list(server.supported_models) == [SERVED]
    model = await control.GetModelInfo(model_pb2.GetModelInfoRequest(model=SERVED))
    assert model.max_context_length == replica.spec.engine.context_tokens
    load = await control.GetLoad(server_pb2.GetLoadRequest())
    assert load.HasField("running_requests") == tells_running(replica)
    health = await control.Health(lifecycle_pb2.HealthRequest(include_inference_probe=True))
    assert health.state == lifecycle_pb2.HEALTH_STATE_READY
    check = health_pb2_grpc.HealthStub(channel)
    answer = await check.Check(health_pb2.HealthCheckRequest(service="openengine.v1.Inference"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    call.cancel()
    names = {service.name for service in answer.list_services_response.service}
    assert {"openengine.v1.Inference", "openengine.v1.Control", "grpc.health.v1.Health"} <= names


async def test_a_busy_engine_still_answers_its_health_check(replica: RunningReplica) -> None:
    body = {"model": SERVED, "prompt": PROMPT, "max_tokens": 400, "ignore_eos": True}
    async with asyncio.TaskGroup() as group:
        url = f"{replica.http}/v1/completions"
        # Two slots: most of them wait.
        posts = [group.create_task(post_json(url, body)) for _ in range(30)]
        await until_busy(replica)
        started = CLOCK.monotonic()
        status, _ = await get_json(f"{replica.http}/health")
        assert status == 200
        assert CLOCK.monotonic() - started < 0.9  # or the host would take it for hung
        for post in posts:
            post.cancel()
    await until_idle(replica, 15)


async def test_an_engine_that_hangs_is_unhealthy_until_it_answers_again(
    replica: RunningReplica,
) -> None:
    engine = replica.record().engine
    assert engine is not None
    signal_process(engine, signal.SIGSTOP)
    try:
        # Three seconds are the promise; the rest is for a machine that others use too.
        await until(lambda: replica.record().state is HostState.UNHEALTHY, 5)
    finally:
        signal_process(engine, signal.SIGCONT)
    await until(lambda: replica.record().state is HostState.READY, 5)
    assert replica.record().engine == engine


async def test_an_engine_that_crashes_fails_its_requests_at_once_and_comes_back(
    replica: RunningReplica, channel: grpc.aio.Channel
) -> None:
    before = replica.record()
    assert before.engine is not None
    stub = openengine_pb2_grpc.InferenceStub(channel)
    responses = aiter(stub.Generate(generate_request(stopping=ENDLESS)))
    rest = [await anext(responses)]
    started = CLOCK.monotonic()
    signal_process(before.engine, signal.SIGKILL)
    rest += [response async for response in responses]
    assert CLOCK.monotonic() - started < 1
    assert rest[-1].error.retryable
    await until(lambda: replica.record().restarts == before.restarts + 1, 10)
    await until_serving_again(replica)
    after = replica.record()
    assert (after.http, after.grpc, after.host) == (before.http, before.grpc, before.host)
    again = [response async for response in stub.Generate(generate_request())]
    assert again[-1].usage.completion_tokens == 12


@pytest.mark.parametrize("name", HERE)
async def test_sigterm_ends_the_engine_within_two_seconds(name: EngineName, tmp_path: Path) -> None:
    parameters = LaunchParameters(
        model_path=str(MODEL),
        served_name=SERVED,
        host="127.0.0.1",
        http_port=free_port("127.0.0.1"),
        config_dir=str(tmp_path),
        python=sys.executable,
    )
    launch = render(an_engine(name), parameters)
    for file, content in launch.files:
        (tmp_path / file).write_text(content)
    process = spawn(launch.argv, env=None, cwd=None, stdout_path=tmp_path / "log")
    try:
        while not await is_listening(parameters.host, parameters.http_port):
            await CLOCK.sleep(0.02)
        started = CLOCK.monotonic()
        await terminate(process, CLOCK, 10.0)
        assert CLOCK.monotonic() - started < 2
    finally:
        kill_group(process)
    await until(lambda: not _port_is_held(parameters.http_port), 1)


def _port_is_held(port: int) -> bool:
    try:
        check_port_free("127.0.0.1", port)
    except Conflict:
        return True
    return False
