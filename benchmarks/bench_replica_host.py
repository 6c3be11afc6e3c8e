"""What a replica host adds and how fast it notices: `python benchmarks/bench_replica_host.py`.

llama.cpp with the small base model behind a host, on this machine. Writes
benchmarks/results/replica_host.json; the figures in docs/operating/replicas.md are from there.
"""

import asyncio
import json
import signal
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil

from benchmarks.bench_scheduler import machine
from skerry.api.openengine.v1 import generation_pb2, lifecycle_pb2, openengine_pb2_grpc
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.processes import signal_process
from tests.integration.replica_process import (
    CLOCK,
    SERVED,
    RunningReplica,
    a_spec,
    get_json,
    running_replica,
    stream_events,
    until,
)
from workload_plane.replica_host.lifecycle import HostState

RESULTS = Path(__file__).resolve().parent / "results" / "replica_host.json"
TIMES = 20
STREAMS = 4
TOKENS = 400
_Stub: Any = openengine_pb2_grpc.InferenceStub  # generated code declares no types
_Control: Any = openengine_pb2_grpc.ControlStub


def a_request(request_id: str = "", tokens: int = 1_900) -> generation_pb2.GenerateRequest:
    """Return a request that runs for as many tokens."""
    request = generation_pb2.GenerateRequest(
        request_id=request_id, model=SERVED, prompt="The sea is"
    )
    request.stopping.max_tokens = tokens
    request.stopping.ignore_eos = True
    request.sampling.temperature = 0
    return request


async def _free(replica: RunningReplica) -> bool:
    return not (await get_json(f"{replica.health}/load"))[1]["running_requests"]


async def _until_free(replica: RunningReplica) -> float:
    started = CLOCK.monotonic()
    while not await _free(replica):
        await CLOCK.sleep(0.001)
    return CLOCK.monotonic() - started


async def cancelled(replica: RunningReplica, channel: grpc.aio.Channel) -> float:
    """Return the seconds from a client's cancel to the engine's free slot."""
    call = _Stub(channel).Generate(a_request())
    await call.read()
    call.cancel()
    return await _until_free(replica)


async def aborted(replica: RunningReplica, channel: grpc.aio.Channel) -> float:
    """Return the seconds from an Abort to the engine's free slot."""
    call = _Stub(channel).Generate(a_request("one"))
    await call.read()
    started = CLOCK.monotonic()
    await _Control(channel).Abort(lifecycle_pb2.AbortRequest(request_id="one"))
    await _until_free(replica)
    seconds = CLOCK.monotonic() - started
    call.cancel()
    return seconds


async def tokens_per_second(work: Callable[[], Awaitable[object]]) -> float:
    """Return the tokens/s of some streams together."""
    started = CLOCK.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(_run(work))
    return STREAMS * TOKENS / (CLOCK.monotonic() - started)


async def _run(work: Callable[[], Awaitable[object]]) -> None:
    await work()


async def crashed(replica: RunningReplica, channel: grpc.aio.Channel) -> tuple[float, float]:
    """Return the seconds from a kill -9 of the engine to the client's error, and to READY."""
    record = replica.record()
    assert record.engine is not None
    call = _Stub(channel).Generate(a_request())
    await call.read()
    started = CLOCK.monotonic()
    signal_process(record.engine, signal.SIGKILL)
    while (response := await call.read()) is not grpc.aio.EOF:
        if response.WhichOneof("event") == "error":
            break
    told = CLOCK.monotonic() - started
    await until(lambda: replica.record().restarts > record.restarts, 30)
    await until(lambda: replica.record().state is HostState.READY, 30)
    return told, CLOCK.monotonic() - started


async def measure() -> dict[str, object]:
    """Return every figure."""
    engine = EngineSpec(name=EngineName.LLAMACPP, context_tokens=2048, concurrent_requests=STREAMS)
    with tempfile.TemporaryDirectory() as directory:
        spec = a_spec(Path(directory), engine)
        async with running_replica(spec) as replica:
            async with grpc.aio.insecure_channel(replica.grpc) as channel:
                return await _measure(replica, channel)


async def _measure(replica: RunningReplica, channel: grpc.aio.Channel) -> dict[str, object]:
    async def by_grpc() -> None:
        async for _ in _Stub(channel).Generate(a_request(tokens=TOKENS)):
            pass

    async def by_http() -> None:
        body = {"prompt": "The sea is", "n_predict": TOKENS, "ignore_eos": True, "temperature": 0}
        async with aiohttp.ClientSession():
            await stream_events(f"{replica.http}/completion", body)

    cancels = [await cancelled(replica, channel) for _ in range(TIMES)]
    aborts = [await aborted(replica, channel) for _ in range(TIMES)]
    grpc_rates = [await tokens_per_second(by_grpc) for _ in range(3)]
    http_rates = [await tokens_per_second(by_http) for _ in range(3)]
    told, ready = await crashed(replica, channel)
    return {
        "machine": machine(),
        "cancel_to_free_slot_seconds": _spread(cancels),
        "abort_to_free_slot_seconds": _spread(aborts),
        f"tokens_per_second_of_{STREAMS}_streams_over_grpc": round(statistics.median(grpc_rates)),
        f"tokens_per_second_of_{STREAMS}_streams_straight": round(statistics.median(http_rates)),
        "kill_of_engine_to_error_seconds": round(told, 4),
        "kill_of_engine_to_ready_seconds": round(ready, 4),
        "host_memory_bytes": psutil.Process(replica.process.pid).memory_info().rss,
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 4), "most": round(max(seconds), 4)}


def main() -> None:
    """Measure, print and write."""
    results = asyncio.run(measure())
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
