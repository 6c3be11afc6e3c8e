"""A whole plane whose engine serves `trtllm.TrtllmService`: from its desired state to a stream."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from skerry.api.openengine.v1 import lifecycle_pb2, openengine_pb2_grpc
from skerry.fleet.deployment import BaseModel, Deployment
from skerry.fleet.placement import Envelope
from tests.integration.agent_world import (
    PLANE,
    POOL,
    WAIT_SECONDS,
    AgentWorld,
    a_deployment,
    a_desired,
)
from tests.integration.replica_process import MODEL
from tests.integration.test_scale_from_zero import until_it_listens
from tests.integration.trtllm_engine import a_request, a_trtllm_engine, call, put_on_path

pytestmark = pytest.mark.integration

NAMED = (("x-model", "demo"),)


def a_token_deployment() -> Deployment:
    deployment = a_deployment()
    revision = replace(
        deployment.revision,
        base_model=BaseModel(uri="builtin://skerry-tiny", served_name="demo"),
        engine=a_trtllm_engine(),
    )
    return replace(deployment, revision=revision)


@contextlib.asynccontextmanager
async def a_plane(directory: Path) -> AsyncIterator[AgentWorld]:
    """A plane with its agent and its link, that was told nothing yet."""
    world = AgentWorld(directory)
    world.settings["model_dirs"] = [str(MODEL.parent)]
    world.settings_path.write_text(json.dumps(world.settings))
    await world.start_link()
    world.start_agent()
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AgentWorld]:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    async with a_plane(tmp_path / "plane") as world:
        await world.link.pushes.put(a_desired(1, 1, a_token_deployment()))
        await world.ready(1)
        world.start_gateway()
        yield world


async def until_generated(world: AgentWorld, channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                stream = call(channel, "Generate")(a_request("", 2), metadata=NAMED)
                if [one async for one in stream]:
                    return
            await world.clock.sleep(0.1)


async def test_routers_stream_tokens_and_others_are_told_how_the_model_is_served(
    world: AgentWorld,
) -> None:
    (replica,) = world.replicas("ready")
    async with grpc.aio.insecure_channel(world.public) as channel:
        await until_generated(world, channel)
        async with aiohttp.ClientSession() as session:
            status, text = await world.ask(session)
        assert (status, json.loads(text)["error"]["code"]) == (400, "openai_http_not_served")

        # The agent dies and comes back: the stream goes on, and the replica is the same.
        stream = aiter(call(channel, "Generate")(a_request("long", 300), metadata=NAMED))
        await anext(stream)
        world.kill_agent()
        world.start_agent()
        await world.until(lambda: world.log.count("event=agent.started") == 2)
        rest = [one async for one in stream]
        assert len(rest[-1].complete.output_token_ids) == 300
        assert (await world.ready(1))[0].pid == replica.pid
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.grpc_port}") as direct:
        health = await openengine_pb2_grpc.ControlStub(direct).Health(lifecycle_pb2.HealthRequest())
        assert health.state == lifecycle_pb2.HEALTH_STATE_READY


async def test_calls_wait_for_the_first_replica_of_a_deployment_at_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    async with a_plane(tmp_path / "plane") as world:
        desired = a_desired(1, 0, a_token_deployment())
        (assignment,) = desired.assignments
        envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=0, ceiling=1)
        granted = replace(assignment, envelopes=(envelope,), serving_planes=(PLANE,))
        await world.link.pushes.put(replace(desired, assignments=(granted,)))
        picker_file = world.data_dir / "picker.json"
        await world.until(lambda: picker_file.is_file() and "demo" in picker_file.read_text())
        world.run("workload_plane.picker.main")
        world.start_gateway()
        async with aiohttp.ClientSession() as session:
            await until_it_listens(world, session, "grpc/demo")
        async with grpc.aio.insecure_channel(world.public) as channel:
            streams = [
                call(channel, "Generate")(a_request(f"first-{n}", 4), metadata=NAMED)
                for n in range(5)
            ]
            answers = await asyncio.gather(*(whole(one) for one in streams))
        assert [len(one[-1].complete.output_token_ids) for one in answers] == [4] * 5


async def whole(stream: Any) -> list[Any]:
    return [one async for one in stream]
