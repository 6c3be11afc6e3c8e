"""The simulated engine as a process: its API over sockets, and each of its failure modes."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import ProcessRecord, is_alive, kill_group, spawn, terminate
from tests.integration.replica_process import (
    CLOCK,
    get_json,
    post_json,
    stream_events,
    until,
)
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import LaunchParameters

pytestmark = pytest.mark.integration

HOST, SERVED = "127.0.0.1", "m"
SHORT = {"model": SERVED, "prompt": "x", "max_tokens": 2, "ignore_eos": True}
FAST = {"ttft-seconds": "0", "tpot-seconds": "0.001", "tpot-seconds-per-request": "0"}
STREAM = SHORT | {"stream": True, "max_tokens": 400}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """One engine's process and where it listens."""

    process: ProcessRecord
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://{HOST}:{self.port}"

    async def complete(self, **changes: Any) -> tuple[int, Any]:
        """Return the answer to a short request."""
        return await post_json(f"{self.url}/v1/completions", SHORT | changes)

    async def metric(self, name: str) -> float:
        """Return one sample of its page."""
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{self.url}/prometheus/metrics") as response:
                page = await response.text()
        (line,) = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
        return float(line.rpartition(" ")[2])


def spawn_engine(directory: Path, options: dict[str, str]) -> RunningEngine:
    """Start an engine as its renderer says; it need not come up."""
    spec = EngineSpec(
        name=EngineName.SIMULATED,
        context_tokens=512,
        concurrent_requests=2,
        options=tuple((FAST | {"jitter": "0"} | options).items()),
    )
    launch_at = LaunchParameters(
        model_path="",
        served_name=SERVED,
        host=HOST,
        http_port=free_port(HOST),
        config_dir=str(directory),
        python=sys.executable,
    )
    launch = render(spec, launch_at)
    for name, content in launch.files:
        (directory / name).write_text(content)
    log = directory / "engine.log"
    process = spawn(launch.argv, env=None, cwd=None, stdout_path=log)
    return RunningEngine(process=process, port=launch_at.http_port, log=log)


@contextlib.asynccontextmanager
async def running_engine(directory: Path, **options: str) -> AsyncIterator[RunningEngine]:
    """Run an engine for the block, which begins once it listens."""
    named = {name.replace("_", "-"): value for name, value in options.items()}
    engine = spawn_engine(directory, named)
    try:
        while not await is_listening(HOST, engine.port):
            assert is_alive(engine.process), engine.log.read_text()
            await CLOCK.sleep(0.02)
        yield engine
    finally:
        await terminate(engine.process, CLOCK, 2.0)
        kill_group(engine.process)


def exit_code(engine: RunningEngine) -> int:
    return psutil.Process(engine.process.pid).wait(10)


async def until_idle(engine: RunningEngine, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while await engine.metric("trtllm_num_requests_running"):
            await CLOCK.sleep(0.01)


@contextlib.asynccontextmanager
async def a_stream(engine: RunningEngine) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{engine.url}/v1/completions", json=STREAM) as response:
            await response.content.readany()
            yield response


async def read_until_lost(engine: RunningEngine) -> bytes:
    """Return what came of a stream whose engine was lost."""
    received = b""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{engine.url}/v1/completions", json=STREAM) as response:
            with contextlib.suppress(aiohttp.ClientError):
                while data := await response.content.readany():
                    received += data
    return received


async def test_one_connection_takes_many_requests_and_pipelined_ones(tmp_path: Path) -> None:
    body = json.dumps(SHORT).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running_engine(tmp_path) as engine:
        reader, writer = await asyncio.open_connection(HOST, engine.port)
        writer.write((head + body) * 3 + b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert data.count(b"HTTP/1.1 200 OK") == 4
    assert data.count(b'"id":"sim-') == 3
    assert data.endswith(b'{"status":"ok"}')


async def test_quiet_connections_are_closed_and_busy_ones_are_not(tmp_path: Path) -> None:
    async with running_engine(tmp_path, keep_alive_seconds="1", tpot_seconds="0.01") as engine:
        reader, writer = await asyncio.open_connection(HOST, engine.port)
        async with a_stream(engine) as response:  # four seconds
            assert await asyncio.wait_for(reader.read(), 4) == b""
            assert (await response.text()).endswith("data: [DONE]\n\n")
        writer.close()


async def test_old_clients_get_a_stream_without_chunks(tmp_path: Path) -> None:
    body = json.dumps(SHORT | {"stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running_engine(tmp_path) as engine:
        reader, writer = await asyncio.open_connection(HOST, engine.port)
        writer.write(head + body)
        data = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert b"chunked" not in data
    assert data.partition(b"\r\n\r\n")[2].startswith(b"data: {")
    assert data.endswith(b"data: [DONE]\n\n")


async def test_bytes_that_are_no_http_are_told_so_in_openais_shape(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as engine:
        reader, writer = await asyncio.open_connection(HOST, engine.port)
        writer.write(b"hello\r\n\r\n")
        data = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert data.startswith(b"HTTP/1.1 400 ")
    assert json.loads(data.partition(b"\r\n\r\n")[2])["error"]["code"] == 400


async def test_errors_name_the_field_in_openais_shape(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as engine:
        status, answer = await engine.complete(n=2)
        assert (status, answer["error"]["param"]) == (400, "n")
        assert (await engine.complete(model="x"))[0] == 404
        assert (await engine.complete(prompt="x" * 4_000))[0] == 400
        assert (await post_json(f"{engine.url}/v1/embeddings", {}))[0] == 404
        assert (await get_json(f"{engine.url}/v1/completions"))[0] == 405
        assert (await post_json(f"{engine.url}/health", {}))[0] == 405


async def test_metrics_have_tensorrt_llms_names_and_count(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as engine:
        prompt = "the same beginning " * 20
        for _ in range(2):
            assert (await engine.complete(prompt=prompt))[0] == 200
        assert await engine.metric("trtllm_request_success_total") == 2
        assert await engine.metric("trtllm_generation_tokens_total") == 4
        assert await engine.metric("trtllm_prompt_tokens_total") == 190
        assert await engine.metric("trtllm_prompt_cached_tokens_total") == 64
        assert await engine.metric("trtllm_time_to_first_token_seconds_count") == 2
        assert await engine.metric("trtllm_kv_cache_used_blocks") == 0
        assert await engine.metric("trtllm_num_requests_running") == 0


async def test_usage_tells_the_cached_tokens_and_a_request_may_bypass_them(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as engine:
        for cached, changes in ((0, {}), (64, {}), (0, {"cache_prompt": False})):
            _, answer = await engine.complete(prompt="the same beginning " * 20, **changes)
            assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == cached


async def test_a_client_that_hangs_up_frees_slot_and_blocks_within_a_second(
    tmp_path: Path,
) -> None:
    async with running_engine(tmp_path, tpot_seconds="0.05") as engine:
        async with a_stream(engine):
            assert await engine.metric("trtllm_num_requests_running") == 1
            assert await engine.metric("trtllm_kv_cache_used_blocks") > 0
        await until_idle(engine, 1.0)
        assert await engine.metric("trtllm_kv_cache_used_blocks") == 0
        assert await engine.metric("simulated_requests_aborted_total") == 1


async def test_port_refuses_until_the_cold_start_is_over(tmp_path: Path) -> None:
    engine = spawn_engine(tmp_path, {"startup-seconds": "1"})
    started = CLOCK.monotonic()
    try:
        while not await is_listening(HOST, engine.port):
            await CLOCK.sleep(0.01)
        assert CLOCK.monotonic() - started >= 1.0
        assert (await get_json(f"{engine.url}/health"))[0] == 200
    finally:
        kill_group(engine.process)


async def test_it_exits_at_start_with_the_code_it_was_told(tmp_path: Path) -> None:
    engine = spawn_engine(tmp_path, {"exit-at-start-code": "3"})
    assert exit_code(engine) == 3
    assert "as exit_at_start_code says" in engine.log.read_text()


async def test_it_fails_after_a_number_of_tokens_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    options = {"fail_after_tokens": "5", "fail_exit_code": "7"}
    async with running_engine(tmp_path, **options) as engine:
        received = await read_until_lost(engine)
        assert received.count(b"data: ") == 5
        assert exit_code(engine) == 7


@pytest.mark.parametrize("word", ["poison", "sea"])
async def test_it_fails_on_a_word_of_a_prompt(tmp_path: Path, word: str) -> None:
    async with running_engine(tmp_path, fail_on_word=word) as engine:
        assert (await engine.complete(max_tokens=1, prompt="a cure"))[0] == 200
        with pytest.raises(aiohttp.ClientError):
            await engine.complete(prompt=f"the {word} of this")
        assert exit_code(engine) == 1
        assert "as fail_on_word says" in engine.log.read_text()


async def test_it_fails_on_a_word_of_its_own(tmp_path: Path) -> None:
    async with running_engine(tmp_path, fail_on_word="sea") as engine:
        with pytest.raises(aiohttp.ClientError):
            await stream_events(f"{engine.url}/v1/completions", STREAM)
        assert exit_code(engine) == 1


async def test_it_hangs_and_answers_nothing_any_more(tmp_path: Path) -> None:
    async with running_engine(tmp_path, hang_after_requests="1") as engine:
        assert (await engine.complete())[0] == 200
        for attempt in (engine.complete(), get_json(f"{engine.url}/health")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(attempt, 0.3)
        assert await is_listening(HOST, engine.port)


async def test_it_stalls_in_a_stream_and_calls_itself_healthy(tmp_path: Path) -> None:
    async with running_engine(tmp_path, stall_after_tokens="3") as engine:
        async with a_stream(engine) as response:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await response.text()
        assert (await get_json(f"{engine.url}/health"))[0] == 200
        assert await engine.metric("trtllm_generation_tokens_total") == 3
        process = psutil.Process(engine.process.pid)
        spent = process.cpu_times().user
        await engine.metric("trtllm_num_requests_running")
        await CLOCK.sleep(0.5)
        assert process.cpu_times().user - spent < 0.2  # it waits, it does not spin


async def test_it_turns_slow_after_a_number_of_requests(tmp_path: Path) -> None:
    options = {"slow_factor": "200", "slow_after_requests": "2"}
    async with running_engine(tmp_path, **options) as engine:
        started = CLOCK.monotonic()
        await engine.complete()
        quick = CLOCK.monotonic() - started
        await engine.complete()
        assert CLOCK.monotonic() - started - quick >= 0.2


async def test_it_answers_a_part_of_the_requests_with_errors(tmp_path: Path) -> None:
    async with running_engine(tmp_path, error_rate="0.5") as engine:
        statuses = [(await engine.complete())[0] for _ in range(40)]
        assert set(statuses) == {200, 500}
        assert 8 <= statuses.count(500) <= 32
        assert await engine.metric("trtllm_request_error_total") == statuses.count(500)


async def test_it_is_unhealthy_though_it_serves(tmp_path: Path) -> None:
    async with running_engine(tmp_path, unhealthy_after_requests="1") as engine:
        assert (await get_json(f"{engine.url}/health"))[0] == 200
        assert (await engine.complete())[0] == 200
        assert (await get_json(f"{engine.url}/health"))[0] == 503
        assert (await engine.complete())[0] == 200
    async with running_engine(tmp_path, unhealthy="true") as engine:
        assert (await get_json(f"{engine.url}/health"))[0] == 503


async def test_it_refuses_connections_for_a_time_and_keeps_those_it_has(tmp_path: Path) -> None:
    options = {"refuse_after_requests": "2", "refuse_seconds": "0.5"}
    async with running_engine(tmp_path, tpot_seconds="0.005", **options) as engine:
        async with a_stream(engine) as response:
            await engine.complete()
            started = CLOCK.monotonic()
            assert not await is_listening(HOST, engine.port)
            while not await is_listening(HOST, engine.port):
                await CLOCK.sleep(0.02)
            assert 0.3 < CLOCK.monotonic() - started < 3
            assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_it_leaks_memory_up_to_its_bound(tmp_path: Path) -> None:
    options = {"leak_bytes_per_request": "10000000", "leak_bytes_max": "45000000"}
    async with running_engine(tmp_path, **options) as engine:
        process = psutil.Process(engine.process.pid)
        before = process.memory_info().rss
        for _ in range(3):
            await engine.complete()
        assert process.memory_info().rss - before > 28_000_000
        for _ in range(3):
            await engine.complete()
        assert await engine.metric("simulated_leaked_bytes") == 40_000_000


async def test_it_ignores_sigterm_when_told_so(tmp_path: Path) -> None:
    async with running_engine(tmp_path, ignore_sigterm="true") as engine:
        psutil.Process(engine.process.pid).terminate()
        await until(lambda: "ignores SIGTERM" in engine.log.read_text(), 5)
        assert (await engine.complete())[0] == 200


async def test_sigterm_ends_it_though_a_stream_is_under_way(tmp_path: Path) -> None:
    async with running_engine(tmp_path, tpot_seconds="1") as engine, a_stream(engine):
        started = CLOCK.monotonic()
        psutil.Process(engine.process.pid).terminate()
        assert exit_code(engine) == 0
        assert CLOCK.monotonic() - started < 2


@pytest.mark.parametrize("content", [None, "{", '{"served_name": "m"}', '{"nonsense": 1}'])
async def test_a_bad_configuration_exits_with_two(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "simulated.json"
    if content is not None:
        file.write_text(content)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workload_plane.simulated",
        "--config",
        str(file),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"simulated: " in errors
