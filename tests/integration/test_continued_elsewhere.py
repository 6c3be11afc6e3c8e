"""A stream that broke goes on where it was not lost: real gateway, picker and relay."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from skerry.api.openengine.v1 import error_pb2, generation_pb2, openengine_pb2_grpc
from skerry.fleet.routing import Routing
from tests.integration.gateway_world import CLOCK, HOST, listening_port
from tests.integration.picker_world import PickedWorld, PickerHandle
from tests.integration.relay_world import (
    DEPLOYMENT,
    SERVED,
    RelayWorld,
    a_question,
    a_relay_world,
    text_of,
)
from workload_plane.gateway.topology import LocalReplica, ServedModel
from workload_plane.picker.hosts import SUSPECT_SECONDS
from workload_plane.picker.wire import authz_socket

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
AVOID = "x-skerry-avoid"
# Before the first new try lie 0.15 s at most. A gateway that waited for its relay to close what had
# broken took a second.
SEAM_SECONDS_MAX = 0.9
START_SECONDS_MAX = 60.0


@dataclass
class Scripted(openengine_pb2_grpc.InferenceServicer):
    """Two engines of one script: who is asked first breaks off, who is asked next still loads."""

    told: list[tuple[str, str]] = field(default_factory=list)  # who was asked, and to avoid whom
    asked_at: list[float] = field(default_factory=list)
    broke_at: float = 0.0

    async def chat(self, name: str, request: web.Request) -> web.StreamResponse:
        self.told.append((name, request.headers.get(AVOID, "")))
        self.asked_at.append(CLOCK.monotonic())
        if len(self.told) == 2:
            # By then nobody suspects the first one any more.
            pause = str(int(SUSPECT_SECONDS) + 1)
            return web.json_response({}, status=503, headers={"retry-after": pause})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        finish = "stop" if len(self.told) == 3 else None
        choice = {"index": 0, "delta": {"content": f" {len(self.told)}"}, "finish_reason": finish}
        event = json.dumps({"id": "i", "created": 1, "choices": [choice]})
        await response.write(f"data: {event}\n\n".encode())
        if finish is None:
            assert request.transport is not None
            request.transport.close()
            self.broke_at = CLOCK.monotonic()
        else:
            await response.write(b"data: [DONE]\n\n")
        return response

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        avoided = dict(context.invocation_metadata()).get(AVOID, "")
        self.told.append(("", str(avoided)))
        if len(self.told) == 1:
            await context.send_initial_metadata(())
            lost = error_pb2.EngineError(code=error_pb2.ERROR_CODE_INTERNAL, retryable=True)
            yield generation_pb2.GenerateResponse(error=lost)
            return
        finished = generation_pb2.GenerateResponse()
        finished.finished.SetInParent()
        yield finished

    async def run(self, name: str, stack: contextlib.AsyncExitStack) -> LocalReplica:
        async def chat(request: web.Request) -> web.StreamResponse:
            return await self.chat(name, request)

        async def well(request: web.Request) -> web.Response:
            return web.Response(text="ok")

        app = web.Application()
        app.router.add_get("/health", well)
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        http, port = listening_port(), listening_port()
        await web.TCPSite(runner, HOST, http, reuse_address=True).start()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        openengine_pb2_grpc.add_InferenceServicer_to_server(self, server)
        server.add_insecure_port(f"{HOST}:{port}")
        await server.start()
        stack.push_async_callback(server.stop, None)
        return LocalReplica(
            name=name, host=HOST, http_port=http, grpc_port=port, health_port=http, draining=False
        )


@contextlib.asynccontextmanager
async def a_scripted_world(tmp_path: Path) -> AsyncIterator[tuple[RelayWorld, Scripted]]:
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(a_relay_world(tmp_path, picks=True))
        (tmp_path / "a").mkdir()
        picker = PickerHandle(world.world.planes["a"], tmp_path / "a", listening_port())
        picker.start()
        stack.push_async_callback(picker.kill)
        await _until_there(authz_socket(tmp_path / "a" / "picker"))
        engines = Scripted()
        model = ServedModel(
            served_name=SERVED,
            deployment=DEPLOYMENT,
            ttft_bound_seconds=10,
            total_deadline_seconds=60,
            replicas=tuple([await engines.run(name, stack) for name in ("e1", "e2")]),
            routing=Routing(continuation=True),
        )
        await PickedWorld(world.world, {"a": picker}).publish("a", model)
        yield world, engines


async def _until_there(socket: Path) -> None:
    """Wait for a process to listen: on a busy machine its imports take longer than all else."""
    async with asyncio.timeout(START_SECONDS_MAX):
        while not await asyncio.to_thread(socket.exists):
            await CLOCK.sleep(0.05)


async def test_a_stream_does_not_return_to_the_replica_that_it_was_lost_with(
    tmp_path: Path,
) -> None:
    async with a_scripted_world(tmp_path) as (world, engines):
        events = await world.stream(a_question("where to?"))
        assert text_of(events) == " 1 3"
        (first, none), second, third = engines.told
        other = {"e1": "e2", "e2": "e1"}[first]
        assert none == ""
        assert [second, third] == [(other, f"a/{first}")] * 2
        assert engines.asked_at[1] - engines.broke_at < SEAM_SECONDS_MAX


async def test_a_generate_tells_the_picker_whom_it_was_lost_with(tmp_path: Path) -> None:
    async with a_scripted_world(tmp_path) as (world, engines):
        request = generation_pb2.GenerateRequest(prompt="hello")
        assert (await world.generate(request))[-1].HasField("finished")
        (_, none), (_, avoided) = engines.told
        assert none == ""
        assert avoided in ("a/e1", "a/e2")
