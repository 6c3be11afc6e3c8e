"""A whole plane whose engine serves `openengine.v1` itself and keeps prefixes on disk.

Users come through Envoy; an agent that is killed and comes back keeps replica and prefixes.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc
import pytest

from skerry.api.openengine.v1 import generation_pb2, lifecycle_pb2, openengine_pb2_grpc
from skerry.fleet.deployment import BaseModel
from skerry.fleet.engine import PrefixCaching
from tests.integration.agent_world import WAIT_SECONDS, AgentWorld, a_deployment, a_desired
from tests.integration.openengine_engine import a_passed_through_engine, put_on_path
from tests.integration.replica_process import MODEL

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AgentWorld]:
    monkeypatch.setenv("PATH", put_on_path(tmp_path / "bin"))
    world = AgentWorld(tmp_path / "plane")
    world.settings["model_dirs"] = [str(MODEL.parent)]
    world.settings_path.write_text(json.dumps(world.settings))
    await world.start_link()
    world.start_agent()
    deployment = a_deployment()
    disk = PrefixCaching(disk_path=str(world.data_dir / "prefixes"), disk_bytes=2**23)
    revision = replace(
        deployment.revision,
        base_model=BaseModel(uri="builtin://skerry-tiny", served_name="demo"),
        engine=a_passed_through_engine(disk),
    )
    await world.link.pushes.put(a_desired(1, 1, replace(deployment, revision=revision)))
    try:
        await world.ready(1)
        world.start_gateway()
        yield world
    finally:
        await world.close()


def a_request(request_id: str, tokens: int) -> generation_pb2.GenerateRequest:
    stopping = generation_pb2.StoppingOptions(max_tokens=tokens, ignore_eos=True)
    return generation_pb2.GenerateRequest(
        request_id=request_id, model="demo", prompt="The sea is", stopping=stopping
    )


async def until_generated(world: AgentWorld, stub: openengine_pb2_grpc.InferenceStub) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if [one async for one in stub.Generate(a_request("", 2))]:
                    return
            await world.clock.sleep(0.1)


async def test_users_generate_over_grpc_and_are_told_why_openai_http_is_not_there(
    world: AgentWorld,
) -> None:
    (replica,) = world.replicas("ready")
    blocks = world.data_dir / "prefixes" / f"{replica.name}.prefixes" / "blocks"
    (block,) = blocks.iterdir()
    async with grpc.aio.insecure_channel(world.public) as channel:
        stub = openengine_pb2_grpc.InferenceStub(channel)
        await until_generated(world, stub)
        async with aiohttp.ClientSession() as session:
            status, text = await world.ask(session)
        assert (status, json.loads(text)["error"]["code"]) == (400, "openai_http_not_served")

        # The agent dies and comes back: the same replica, with what it has on disk.
        stream = aiter(stub.Generate(a_request("long", 300)))
        await anext(stream)
        world.kill_agent()
        world.start_agent()
        await world.until(lambda: world.log.count("event=agent.started") == 2)
        rest = [one async for one in stream]
        assert rest[-1].usage.completion_tokens == 300
        assert (await world.ready(1))[0].pid == replica.pid
        assert block.exists()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.grpc_port}") as direct:
        health = await openengine_pb2_grpc.ControlStub(direct).Health(lifecycle_pb2.HealthRequest())
        assert health.state == lifecycle_pb2.HEALTH_STATE_READY

    await world.link.pushes.put(a_desired(2, 0))
    await world.until(lambda: not world.replicas())
    assert list((world.data_dir / "prefixes").iterdir()) == []
