"""A real agent fetches a real model from a hub, through its own death, and llama.cpp serves it."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.engine import EngineName, EngineSpec
from tests.contract.model_servers import Fault, ModelServer, serving
from tests.integration.agent_world import ROOT, AgentWorld, a_desired

pytestmark = pytest.mark.integration

MODEL = ROOT / "examples" / "models" / "skerry-tiny.gguf"
URI = "hf://org/model@v1/tiny-q8.gguf"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path)
    try:
        yield world
    finally:
        await world.close()


async def test_a_replica_waits_for_its_model_and_serves_it(world: AgentWorld) -> None:
    files = {"tiny-q8.gguf": MODEL.read_bytes(), "tiny-f16.gguf": b"another"}
    async with serving(ModelServer(files=files, share=0.75)) as server:
        server.faults.append(Fault.SLOW)
        await fetch_and_serve(world, server)


async def fetch_and_serve(world: AgentWorld, server: ModelServer) -> None:
    world.settings["model_cache"] = {
        "hub_endpoint": server.url,
        "allow_private_addresses": True,
        "free_bytes_min": 0,
    }
    world.settings_path.write_text(json.dumps(world.settings))
    deployment = Deployment(
        name="demo",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri=URI, served_name="demo"),
            engine=EngineSpec(name=EngineName.LLAMACPP, context_tokens=256),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
    )
    await world.start_link()
    world.start_agent()
    await world.link.wait_for("hello")
    await world.link.pushes.put(a_desired(1, 1, deployment))
    told = await world.link.wait_for(
        "observed",
        lambda o: any(re.search(r"downloading 1\.\d of 2\.1 MB", r.message) for r in o.replicas),
    )
    (shown,) = told.replicas
    assert shown.message.endswith(f"from {URI}")
    assert (shown.state, shown.pid) == (1, 0)
    assert world.replicas() == ()
    assert "model.download-began" in world.log

    # The agent dies in the middle of it; the next one needs no control plane to go on.
    world.kill_agent()
    await world.stop_link()
    models = world.data_dir / "models"
    assert not list((models / "trees").iterdir())
    world.start_agent()
    (record,) = await world.ready(1)
    (tree,) = (models / "trees").iterdir()
    assert (tree / "tiny-q8.gguf").read_bytes() == MODEL.read_bytes()
    assert [path.name.partition(".")[0] for path in (models / "uses").iterdir()] == [record.name]
    assert "model.download-ended" in world.log
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2}
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{record.http_port}/v1/completions"
        async with session.post(url, json=body) as response:
            assert response.status == 200, await response.text()
