"""The relay's worst days, with real Envoys: it hangs, its gateway drains, requests kill engines."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from skerry.api.openengine.v1 import generation_pb2
from skerry.fleet.routing import Routing
from skerry.plumbing.processes import signal_process
from tests.integration.gateway_world import CLOCK, HOST, listening_port
from tests.integration.relay_world import (
    DEPLOYMENT,
    SERVED,
    RelayWorld,
    a_question,
    a_relay_world,
    text_of,
)
from workload_plane.gateway.draining import drain_gateway
from workload_plane.gateway.topology import LocalReplica, ServedModel

pytestmark = pytest.mark.integration
# Two health checks missed, and what a loaded machine takes.
HANG_SECONDS_MAX = 5.0
ENGINES = 6


async def test_a_stream_sent_to_a_relay_that_hangs_takes_the_way_beside_it_within_seconds(
    tmp_path: Path,
) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        question = a_question("still there?", max_tokens=4)
        request = generation_pb2.GenerateRequest(prompt="hello")
        request.stopping.max_tokens = 4
        unbroken = text_of(await world.stream(question))
        await world.generate(request)
        assert await world.metric("skerry_relay_streams_total") == 2
        assert world.relay is not None
        signal_process(world.relay, signal.SIGSTOP)
        async with asyncio.timeout(HANG_SECONDS_MAX):
            told = await asyncio.gather(
                *(world.stream(question) for _ in range(4)), world.generate(request)
            )
        assert [text_of(events) for events in told[:4]] == [unbroken] * 4
        assert told[4][-1].HasField("finished")


async def test_a_gateway_that_drains_still_answers_streams_on_open_connections(
    tmp_path: Path,
) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        await world.serve("a", "a1")
        here = world.world.planes["a"]
        url = f"{here.url}/v1/chat/completions"
        held = a_question("how long?", model=SERVED, stream=True, max_tokens=400, ignore_eos=True)
        late = a_question("late?", model=SERVED, stream=True, max_tokens=4)
        port = here.topology.listen.public_port
        async with world.world.client.post(url, json=held) as under_way:
            await under_way.content.readline()
            # Open before the drain, and used behind it, as a client's pool does.
            reader, writer = await asyncio.open_connection(HOST, port)
            drained = world.tasks.create_task(
                drain_gateway(here.topology.listen.admin_port, CLOCK, 5.0)
            )
            await _until_closed(port)
            body = json.dumps(late).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            answer = await reader.readuntil(b"[DONE]")
            assert answer.startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert (await drained).answered
        assert await world.metric("skerry_relay_streams_total") == 2


async def test_a_relay_cut_off_from_its_gateway_sends_streams_the_other_way(
    tmp_path: Path,
) -> None:
    async with a_relay_world(tmp_path) as world:
        await world.start_replica("a1")
        here = world.world.planes["a"]
        # The gateway's way back in is on another port than the relay knows.
        ports = here.topology.relay
        assert ports is not None
        here.topology = replace(here.topology, relay=replace(ports, inner_port=listening_port()))
        await world.serve("a", "a1")
        assert text_of(await world.stream(a_question("which way?", max_tokens=4))) != ""
        request = generation_pb2.GenerateRequest(prompt="hello")
        request.stopping.max_tokens = 4
        assert (await world.generate(request))[-1].HasField("finished")
        assert await world.metric("skerry_relay_streams_total") == 2


async def test_a_request_that_kills_engines_in_their_prefill_kills_no_third(
    tmp_path: Path,
) -> None:
    async with a_relay_world(tmp_path) as world, _deadly_engines() as engines:
        await _serve_deadly(world, engines)
        async with asyncio.timeout(30.0):
            events = await world.stream(a_question("what kills?"))
        assert events[-1]["error"]["reason"] == "suspect"
        assert engines.killed == 2


async def test_a_generate_whose_replica_is_lost_before_it_answers_says_so(tmp_path: Path) -> None:
    async with a_relay_world(tmp_path) as world, _deadly_engines() as engines:
        await _serve_deadly(world, engines)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.generate(generation_pb2.GenerateRequest(prompt="hello"))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        names = {str(key) for key, _ in refused.value.trailing_metadata() or ()}
        assert "x-skerry-lost" in names
        # The gateway itself was reached: it does not ask a third replica beside the relay.
        assert "x-skerry-direct" not in names
        assert engines.killed == 2
        assert await world.metric("skerry_relay_streams_total") == 1


_GUARDED = """
import os, sys, time
from skerry.plumbing.guard import begin_guard
told = begin_guard("guarded")
if sys.argv[1] != "starts":
    os.write(told, b".")
if sys.argv[1] == "ends":
    os.close(told)
time.sleep(30.0 if sys.argv[1] == "hangs" else 4.0)
"""


@pytest.mark.parametrize(("way", "code"), [("starts", 0), ("hangs", -9), ("ends", 0)])
async def test_a_guard_kills_what_hangs_and_not_what_starts_or_ends(way: str, code: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _GUARDED, way, start_new_session=True
    )
    async with asyncio.timeout(15.0):
        assert await process.wait() == code


class _Deadly:
    """Engines that tell thirty words and die, and die in the prefill of whoever goes on."""

    def __init__(self) -> None:
        self.killed = 0
        self.ports: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    continue
                if head.startswith(b"PRI "):
                    await _until_asked(reader)
                    self.killed += 1
                    break
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.killed += 1
                if body["messages"][-1]["role"] == "user":
                    await _tell(writer)
                break
        writer.transport.abort()


async def _until_asked(reader: asyncio.StreamReader) -> None:
    """Return once the frame with a request's headers has come."""
    await reader.readexactly(len(b"SM\r\n\r\n"))
    while True:
        frame = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(frame[:3], "big"))
        if frame[3] == 1:
            return


async def _tell(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
    writer.write(b"transfer-encoding: chunked\r\n\r\n")
    for number in range(30):
        choice = {"index": 0, "delta": {"content": f" {number}"}, "finish_reason": None}
        event = json.dumps({"id": "i", "created": 1, "choices": [choice]}).encode()
        data = b"data: " + event + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()
    await CLOCK.sleep(0.3)  # an abort drops what was not sent on


@contextlib.asynccontextmanager
async def _deadly_engines() -> AsyncIterator[_Deadly]:
    engines = _Deadly()
    servers = [await asyncio.start_server(engines.serve, HOST, 0) for _ in range(ENGINES)]
    engines.ports = [server.sockets[0].getsockname()[1] for server in servers]
    try:
        yield engines
    finally:
        for server in servers:
            server.close()


async def _serve_deadly(world: RelayWorld, engines: _Deadly) -> None:
    replicas = tuple(
        LocalReplica(name=f"e{n}", host=HOST, http_port=port, grpc_port=port, health_port=port)
        for n, port in enumerate(engines.ports)
    )
    model = ServedModel(
        served_name=SERVED,
        deployment=DEPLOYMENT,
        ttft_bound_seconds=10,
        total_deadline_seconds=60,
        replicas=replicas,
        routing=Routing(continuation=True),
    )
    here = world.world.planes["a"]
    here.topology = replace(here.topology, models=(model,))
    await world.world.settled("a", await here.publish())


async def _until_closed(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return
        writer.close()
        await CLOCK.sleep(0.1)
