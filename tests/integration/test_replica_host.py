"""A replica host with a real engine: failures, hangs, drains, and what is left on disk."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest

from skerry.api.openengine.v1 import (
    error_pb2,
    generation_pb2,
    model_pb2,
    openengine_pb2_grpc,
    server_pb2,
)
from skerry.fleet.engine import EngineName, EngineSpec, Parallelism
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from skerry.plumbing.processes import signal_process, wait_until_gone
from tests.integration.replica_process import (
    CLOCK,
    SERVED,
    RunningReplica,
    a_spec,
    an_engine,
    environment_of_process,
    get_json,
    is_gone,
    post_json,
    running_replica,
    until,
)
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import Dialect, EngineLaunch, LaunchParameters
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.engine_keeper import HUNG_SECONDS_MAX
from workload_plane.replica_host.grpc_server import HealthAnnouncer, start_grpc
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import Health, HostState
from workload_plane.replica_host.marks import left_of, left_on_devices
from workload_plane.replica_host.spec import ReplicaSpec

pytestmark = pytest.mark.integration

SLOW = an_engine(EngineName.SIMULATED, tpot_seconds="0.05", jitter="0")
MEMORY_BYTES_MAX = 70 * 1024 * 1024


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[RunningReplica]:
    async with running_replica(a_spec(tmp_path, SLOW)) as running:
        yield running


def a_request(request_id: str = "", tokens: int = 200) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(
        request_id=request_id,
        model=SERVED,
        prompt="The sea is",
        stopping=generation_pb2.StoppingOptions(max_tokens=tokens, ignore_eos=True),
    )


def a_launch(spec: ReplicaSpec) -> EngineLaunch:
    parameters = LaunchParameters(
        model_path="",
        served_name=SERVED,
        host=spec.host,
        http_port=spec.http_port,
        config_dir="",
    )
    return render(spec.engine, parameters)


def _pid(replica: RunningReplica) -> int:
    engine = replica.record().engine
    assert engine is not None
    return engine.pid


async def health_status(replica: RunningReplica) -> int:
    return (await get_json(f"{replica.health}/health"))[0]


async def until_health_is(replica: RunningReplica, status: int, seconds: float) -> None:
    started = CLOCK.monotonic()
    while await health_status(replica) != status:
        assert CLOCK.monotonic() - started < seconds, f"health is not {status}"
        await CLOCK.sleep(0.05)


async def test_state_file_names_both_processes_and_every_port(replica: RunningReplica) -> None:
    record = replica.record()
    assert record.host.pid == replica.process.pid
    assert record.host.start_time == replica.process.start_time
    assert record.engine is not None
    assert os.getsid(record.host.pid) == record.host.pid
    assert record.http == f"127.0.0.1:{replica.spec.http_port}"
    assert record.grpc == replica.grpc


async def test_an_engine_is_not_given_the_credentials_of_base_models_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "skerry-test-secret")
    async with running_replica(a_spec(tmp_path, an_engine(EngineName.SIMULATED))) as replica:
        engine = replica.record().engine
        assert engine is not None
        told = environment_of_process(engine.pid)
    assert b"PATH=" in told
    assert b"skerry-test-secret" not in told


async def test_a_replica_tells_how_its_engine_is_parallel(tmp_path: Path) -> None:
    engine = dataclasses.replace(
        an_engine(EngineName.SIMULATED), parallelism=Parallelism(tensor=2, pipeline=3, data=4)
    )
    async with running_replica(a_spec(tmp_path, engine)) as replica:
        async with grpc.aio.insecure_channel(replica.grpc) as channel:
            control = openengine_pb2_grpc.ControlStub(channel)
            told = await control.GetServerInfo(server_pb2.GetServerInfoRequest())
    sizes = told.parallelism
    assert (sizes.tensor_parallel_size, sizes.pipeline_parallel_size) == (2, 3)
    assert sizes.data_parallel_size == 4


async def test_host_is_light(replica: RunningReplica) -> None:
    for pid in (replica.process.pid, _pid(replica)):
        assert psutil.Process(pid).memory_info().rss < MEMORY_BYTES_MAX


async def test_hung_engine_turns_unhealthy_within_two_seconds_and_back(
    replica: RunningReplica,
) -> None:
    engine = replica.record().engine
    assert engine is not None
    signal_process(engine, signal.SIGSTOP)
    # 1.5 s are the promise; the rest is for a machine that others use too.
    await until_health_is(replica, 503, 5.0)
    assert replica.record().state is HostState.UNHEALTHY
    signal_process(engine, signal.SIGCONT)
    await until_health_is(replica, 200, 5.0)


async def test_what_waits_on_a_hung_engine_is_freed_within_ten_seconds_without_an_agent(
    tmp_path: Path,
) -> None:
    async with running_replica(a_spec(tmp_path, an_engine(EngineName.LLAMACPP))) as replica:
        engine = replica.record().engine
        assert engine is not None
        signal_process(engine, signal.SIGSTOP)
        started = CLOCK.monotonic()
        body = {"model": SERVED, "prompt": "x", "max_tokens": 1}
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(30.0):
                await post_json(f"{replica.http}/v1/completions", body)
        # The sum is in test_hang_figures.py; the rest is for a machine that others use too.
        assert HUNG_SECONDS_MAX < CLOCK.monotonic() - started < 12.0
        await until(lambda: replica.record().state is HostState.READY, 20)
        record = replica.record()
        assert is_gone(engine)
        assert (record.engine == engine, record.restarts) == (False, 1)
        assert "it was ready and has not been healthy for" in replica.output()


async def test_engine_that_hangs_by_its_fault_flag_is_unhealthy(tmp_path: Path) -> None:
    engine = an_engine(EngineName.SIMULATED, hang_after_requests="1")
    async with running_replica(a_spec(tmp_path, engine, drain_seconds_max=0.5)) as replica:
        body = {"model": SERVED, "prompt": "x", "max_tokens": 1}
        assert (await post_json(f"{replica.http}/v1/completions", body))[0] == 200
        await until_health_is(replica, 503, 5.0)


async def test_engine_that_fails_by_its_fault_flag_ends_a_host_without_restarts(
    tmp_path: Path,
) -> None:
    engine = an_engine(EngineName.SIMULATED, fail_after_requests="1")
    async with running_replica(a_spec(tmp_path, engine, engine_restarts_max=0)) as replica:
        body = {"model": SERVED, "prompt": "x", "max_tokens": 1}
        assert (await post_json(f"{replica.http}/v1/completions", body))[0] == 200
        with pytest.raises(aiohttp.ClientError):
            await post_json(f"{replica.http}/v1/completions", body)
        assert await wait_until_gone(replica.process) == 1
        assert "with exit code 1" in replica.record().message
        assert "as fail_after_requests says" in replica.record().message


async def test_engine_that_never_comes_up_is_given_up_in_time(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, SLOW)
    launch = dataclasses.replace(a_launch(spec), startup_seconds_max=0.2)
    async with EngineClient(f"http://127.0.0.1:{spec.http_port}", launch) as client:
        host = ReplicaHost(spec, launch, client, CLOCK)
        await asyncio.wait_for(host.probe_until_too_late(), 5)
    assert host.health.state is HostState.STARTING


def test_wrong_use_and_absent_spec_exit_with_two(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workload_plane.replica_host.main"]
    for arguments in ([], ["--spec", str(tmp_path / "none.json")]):
        ended = subprocess.run([*command, *arguments], capture_output=True, check=False)
        assert ended.returncode == 2
        assert b"--spec" in ended.stderr


async def test_an_accelerator_of_this_host_has_one_engine_whatever_plane_it_is_of(
    tmp_path: Path,
) -> None:
    devices: dict[str, Any] = {"accelerators": (0,), "device_locks_dir": tmp_path / "devices"}
    llama = an_engine(EngineName.LLAMACPP)
    async with running_replica(a_spec(tmp_path / "one", llama, **devices)) as first:
        engine = first.record().engine
        assert engine is not None
        numbers = os.listdir(f"/proc/{engine.pid}/fd")
        open_files = {os.readlink(f"/proc/{engine.pid}/fd/{number}") for number in numbers}
        assert str(tmp_path / "devices" / "device-0.lock") in open_files
        # Also what closes them, and takes a session of its own, is known for one of this replica.
        assert left_of({"one": tmp_path / "one" / "state.json"}) == {"one": (engine,)}
        assert left_on_devices(tmp_path / "devices", (0, 1)) == {engine: 0}
        second = a_spec(tmp_path / "two", llama, plane="onprem-ams", **devices)
        async with running_replica(second, state=HostState.FAILED) as refused:
            holder = f"accelerator 0 of this host is held by replica host {first.process.pid}"
            assert holder in refused.record().message
        simulated = a_spec(tmp_path / "three", an_engine(EngineName.SIMULATED), **devices)
        async with running_replica(simulated):
            pass  # its accelerators are but numbers
    third = a_spec(tmp_path / "four", llama, **devices)
    async with running_replica(third):
        pass  # free with the last process of the engine


async def test_the_hosts_own_log_has_a_bound(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, an_engine(EngineName.SIMULATED))
    spec.log_dir.mkdir(parents=True)
    log = engine_process.host_log_path(spec)
    with log.open("wb") as file:
        file.truncate(engine_process.LOG_BYTES_MAX + 1)
    async with running_replica(spec):
        await until(lambda: log.stat().st_size <= engine_process.LOG_BYTES_MAX, 10)


async def test_dead_engine_is_started_again_behind_the_same_ports(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, an_engine(EngineName.LLAMACPP), restarts=2)
    async with running_replica(spec) as replica, grpc.aio.insecure_channel(replica.grpc) as channel:
        before = replica.record()
        assert before.engine is not None
        signal_process(before.engine, signal.SIGKILL)
        await until(lambda: replica.record().restarts == 3, 5)
        restarting = replica.record()
        assert restarting.state in (HostState.RESTARTING, HostState.READY)
        await until(lambda: replica.record().state is HostState.READY, 10)
        after = replica.record()
        assert (after.host, after.message) == (before.host, "")
        assert after.engine != before.engine
        status, told = await get_json(f"{replica.health}/health")
        assert (status, told["restarts"]) == (200, 3)
        stub = openengine_pb2_grpc.InferenceStub(channel)
        responses = [response async for response in stub.Generate(a_request(tokens=3))]
        assert responses[-1].usage.completion_tokens == 3


async def test_an_engine_that_dies_again_and_again_is_given_up_with_its_last_words(
    tmp_path: Path,
) -> None:
    spec = a_spec(tmp_path, an_engine(EngineName.LLAMACPP), engine_restarts_max=2)
    seen = set()
    async with running_replica(spec) as replica:
        for _ in range(3):
            await until(lambda: replica.record().state is HostState.READY, 10)
            engine = replica.record().engine
            assert engine is not None
            signal_process(engine, signal.SIGKILL)
            await until(lambda: replica.record().state is not HostState.READY, 5)
            seen.add(replica.record().state)
        assert await wait_until_gone(replica.process) == 1
        record = replica.record()
    assert HostState.CRASH_LOOPING in seen
    assert record.state is HostState.FAILED
    assert "ended by itself by signal 9, 3 times in a row" in record.message
    assert "engine.log" in record.message
    assert "listening" in record.message


async def test_a_request_that_waits_for_a_dead_engine_is_told_at_once_to_try_again(
    tmp_path: Path,
) -> None:
    async with running_replica(a_spec(tmp_path, an_engine(EngineName.LLAMACPP))) as replica:
        async with grpc.aio.insecure_channel(replica.grpc) as channel:
            stub = openengine_pb2_grpc.InferenceStub(channel)
            engine = replica.record().engine
            assert engine is not None
            signal_process(engine, signal.SIGSTOP)  # it accepts and does not answer
            waiting = asyncio.gather(stub.Generate(a_request()).read(), return_exceptions=True)
            await _until_under_way(replica, 1)
            started = CLOCK.monotonic()
            signal_process(engine, signal.SIGKILL)
            (error,) = await waiting
            assert CLOCK.monotonic() - started < 1
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_restarting_replica_can_be_ended(tmp_path: Path) -> None:
    slow = an_engine(EngineName.LLAMACPP)
    async with running_replica(a_spec(tmp_path, slow)) as replica:
        for _ in range(2):  # the second start waits a second
            await until(lambda: replica.record().state is HostState.READY, 10)
            engine = replica.record().engine
            assert engine is not None
            signal_process(engine, signal.SIGKILL)
            await until(lambda: replica.record().state is not HostState.READY, 5)
        started = CLOCK.monotonic()
        signal_process(replica.process, signal.SIGTERM)
        assert await wait_until_gone(replica.process) == 0
        assert CLOCK.monotonic() - started < 3
        assert replica.record().state is HostState.STOPPED


async def _until_under_way(replica: RunningReplica, count: int) -> None:
    started = CLOCK.monotonic()
    while (await get_json(f"{replica.health}/load"))[1]["grpc_requests"] != count:
        assert CLOCK.monotonic() - started < 10
        await CLOCK.sleep(0.02)


async def test_engine_dies_with_a_killed_host(replica: RunningReplica) -> None:
    engine = replica.record().engine
    signal_process(replica.process, signal.SIGKILL)
    await until(lambda: is_gone(engine), 5)


async def test_engine_lost_in_a_stream_is_a_terminal_error_with_status_ok(
    replica: RunningReplica,
) -> None:
    async with grpc.aio.insecure_channel(replica.grpc) as channel:
        call = openengine_pb2_grpc.InferenceStub(channel).Generate(a_request())
        responses = aiter(call)
        await anext(responses)
        engine = replica.record().engine
        assert engine is not None
        signal_process(engine, signal.SIGKILL)
        rest = [response async for response in responses]
        assert await call.code() is grpc.StatusCode.OK
    assert rest[-1].error.code == error_pb2.ERROR_CODE_INTERNAL
    assert rest[-1].error.retryable


async def test_sigterm_lets_streams_finish_and_refuses_new_ones(replica: RunningReplica) -> None:
    async with grpc.aio.insecure_channel(replica.grpc) as channel:
        stub = openengine_pb2_grpc.InferenceStub(channel)
        responses = aiter(stub.Generate(a_request(tokens=40)))
        await anext(responses)
        body = {"model": SERVED, "prompt": "x", "max_tokens": 40, "ignore_eos": True}
        over_http = asyncio.gather(post_json(f"{replica.http}/v1/completions", body))
        signal_process(replica.process, signal.SIGTERM)
        await until_health_is(replica, 503, 1.0)
        assert replica.record().state is HostState.DRAINING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(a_request()).read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        rest = [response async for response in responses]
        assert rest[-1].finished.reason == generation_pb2.FINISH_REASON_LENGTH
        assert (await over_http)[0][0] == 200
    assert await wait_until_gone(replica.process) == 0
    assert replica.record().state is HostState.STOPPED
    assert is_gone(replica.record().engine)


async def test_drain_waits_for_an_engine_that_is_too_busy_to_tell(
    replica: RunningReplica,
) -> None:
    engine = replica.record().engine
    assert engine is not None
    body = {"model": SERVED, "prompt": "x", "max_tokens": 20, "stream": True, "ignore_eos": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{replica.http}/v1/completions", json=body) as response:
            await response.content.readany()
            signal_process(engine, signal.SIGSTOP)
            signal_process(replica.process, signal.SIGTERM)
            # Longer than one look at the load, 1 s, with all that would follow, 2.5 s.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wait_until_gone(replica.process), 5.0)
            signal_process(engine, signal.SIGCONT)
            assert (await response.text()).endswith("data: [DONE]\n\n")
    assert await wait_until_gone(replica.process) == 0


async def test_drain_has_a_limit(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, SLOW, drain_seconds_max=0.5)
    async with running_replica(spec) as replica, aiohttp.ClientSession() as session:
        body = {"model": SERVED, "prompt": "x", "max_tokens": 400, "stream": True}
        response = await session.post(
            f"{replica.http}/v1/completions", json=body | {"ignore_eos": True}
        )
        await response.content.readany()
        started = CLOCK.monotonic()
        signal_process(replica.process, signal.SIGTERM)
        assert await wait_until_gone(replica.process) == 0
        assert CLOCK.monotonic() - started < 5
        response.close()


async def test_a_generate_that_outlives_the_drain_is_told_that_it_may_be_tried_elsewhere(
    tmp_path: Path,
) -> None:
    spec = a_spec(tmp_path, SLOW, drain_seconds_max=0.5)
    async with running_replica(spec) as replica, grpc.aio.insecure_channel(replica.grpc) as channel:
        call = openengine_pb2_grpc.InferenceStub(channel).Generate(a_request(tokens=400))
        last = await call.read()
        signal_process(replica.process, signal.SIGTERM)
        while (response := await call.read()) is not grpc.aio.EOF:
            last = response
        assert await wait_until_gone(replica.process) == 0
    assert (last.WhichOneof("event"), last.error.retryable) == ("error", True)
    assert "was asked to end" in last.error.message


async def test_request_id_under_way_is_refused_a_second_time(replica: RunningReplica) -> None:
    async with grpc.aio.insecure_channel(replica.grpc) as channel:
        stub = openengine_pb2_grpc.InferenceStub(channel)
        first = stub.Generate(a_request("same"))
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(a_request("same")).read()
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        first.cancel()


async def test_full_engine_is_resource_exhausted_before_anything_is_accepted(
    tmp_path: Path,
) -> None:
    engine = an_engine(EngineName.SIMULATED, tpot_seconds="0.05", queue_requests_max="0")
    async with running_replica(a_spec(tmp_path, engine)) as replica:
        async with grpc.aio.insecure_channel(replica.grpc) as channel:
            stub = openengine_pb2_grpc.InferenceStub(channel)
            held = [stub.Generate(a_request()) for _ in range(2)]
            for call in held:
                await call.read()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Generate(a_request()).read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in held:
                call.cancel()


async def test_missing_model_file_leaves_a_failed_record_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    missing = str(tmp_path / "nothing.gguf")
    spec = a_spec(tmp_path, an_engine(EngineName.LLAMACPP), model_path=missing)
    async with running_replica(spec, state=HostState.FAILED) as replica:
        assert await wait_until_gone(replica.process) == 1
        record = replica.record()
    assert record.engine is None
    assert f"base model {missing} does not exist; put the file there" in record.message


async def test_engine_that_cannot_start_leaves_its_last_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF and no more")
    spec = a_spec(tmp_path, an_engine(EngineName.LLAMACPP), model_path=str(damaged))
    async with running_replica(spec, state=HostState.FAILED) as replica:
        assert await wait_until_gone(replica.process) == 1
        assert "llama.cpp refused" in replica.record().message


async def test_refused_technique_is_told_before_anything_starts(tmp_path: Path) -> None:
    engine = EngineSpec(name=EngineName.LLAMACPP, parallelism=Parallelism(tensor=2))
    async with running_replica(a_spec(tmp_path, engine), state=HostState.FAILED) as replica:
        record = replica.record()
    assert record.engine is None
    assert "parallelism.tensor" in record.message
    assert "runs on one accelerator" in record.message


async def test_engine_that_speaks_openai_only_is_served_over_grpc(
    replica: RunningReplica,
) -> None:
    """The simulated engine has both APIs: here it stands for those that have one."""
    launch = dataclasses.replace(a_launch(replica.spec), dialect=Dialect.OPENAI)
    parsers = (("reasoning-parser", "qwen3"), ("tool-call-parser", "qwen25"))
    engine = dataclasses.replace(replica.spec.engine, name=EngineName.SGLANG, options=parsers)
    spec = dataclasses.replace(replica.spec, engine=engine, grpc_port=free_port("127.0.0.1"))
    async with EngineClient(replica.http, launch) as client:
        host = ReplicaHost(spec, launch, client, CLOCK)
        host.health = Health(state=HostState.READY)
        server = await start_grpc(host, SystemIds(CLOCK), HealthAnnouncer())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{spec.grpc_port}") as channel:
            control = openengine_pb2_grpc.ControlStub(channel)
            told = await control.GetModelInfo(model_pb2.GetModelInfoRequest())
            assert (told.tool_call_parser, told.reasoning_parser) == ("qwen25", "qwen3")
            stub = openengine_pb2_grpc.InferenceStub(channel)
            responses = [r async for r in stub.Generate(a_request("by-openai", tokens=5))]
        await server.stop(None)
    assert "".join(response.token.text for response in responses)
    assert responses[-1].finished.reason == generation_pb2.FINISH_REASON_LENGTH
    assert responses[-1].usage.completion_tokens == 5
