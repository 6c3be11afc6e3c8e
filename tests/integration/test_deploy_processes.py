"""What deploy/ runs inside containers, as real processes: the plane's own, and Ray's loop."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.processes import ProcessRecord, is_alive, signal_process, spawn, terminate
from tests.integration.agent_world import ROOT, WAIT_SECONDS, AgentWorld, a_deployment, a_desired

pytestmark = pytest.mark.integration

PLANE_PY = ROOT / "deploy" / "plane.py"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path)
    await world.start_link()
    try:
        yield world
    finally:
        await world.close()


def start(world: AgentWorld, *arguments: str) -> ProcessRecord:
    """Start plane.py as an image starts it."""
    argv = (sys.executable, str(PLANE_PY), "run", "--settings", str(world.settings_path))
    world.agent = spawn(
        (*argv, *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=world.data_dir,
        stdout_path=world.data_dir / "run.log",
    )
    return world.agent


async def end(world: AgentWorld, plane: ProcessRecord) -> None:
    signal_process(plane, signal.SIGTERM)
    await world.until(lambda: not is_alive(plane))


async def check(world: AgentWorld) -> tuple[int | None, str]:
    """Return what `plane.py check` ends with and says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PLANE_PY),
        *("check", "--settings", str(world.settings_path)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    return process.returncode, told.decode()


async def stream(world: AgentWorld, session: aiohttp.ClientSession, tokens: int) -> int:
    """Stream one completion through the gateway; return how many tokens came."""
    body = {"model": "demo", "prompt": "hello", "max_tokens": tokens, "ignore_eos": True}
    body["stream"] = True
    async with session.post(f"http://{world.public}/v1/completions", json=body) as response:
        assert response.status == 200
        lines = [line.strip() async for line in response.content if line.startswith(b"data: ")]
    assert lines[-1] == b"data: [DONE]"
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    return sum(bool(choice["text"]) for chunk in chunks for choice in chunk["choices"])


async def until_healthy(world: AgentWorld) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await check(world))[0] != 0:
            await world.clock.sleep(0.2)


@pytest.mark.slow
async def test_a_container_keeps_its_replicas_through_the_agents_death_and_ends_them_in_order(
    world: AgentWorld,
) -> None:
    assert (await check(world))[0] == 1
    plane = start(world)
    slow = a_deployment(options={"tpot-seconds": "0.1", "jitter": "0"})
    await world.link.pushes.put(a_desired(1, 1, slow))
    async with aiohttp.ClientSession() as session:
        await world.until_served(session)
        await until_healthy(world)
        (before,) = await world.ready(1)
        first = world.status()["pid"]
        os.kill(first, signal.SIGKILL)
        await world.until(lambda: world.status().get("pid") not in (None, first))
        await until_healthy(world)
        (after,) = await world.ready(1)
        assert (after.name, after.pid) == (before.name, before.pid)
        assert (await world.ask(session))[0] == 200
        # Eight seconds long: past the end of the agent, into that of the replica.
        answer = asyncio.ensure_future(stream(world, session, tokens=80))  # noqa: TID251
        await world.clock.sleep(1.0)
        await end(world, plane)
        assert await answer == 80
    host, engine = after.host_process, after.engine_process
    assert host is not None
    assert engine is not None
    assert not is_alive(host)
    assert not is_alive(engine)
    assert world.replicas() == ()
    log = (world.data_dir / "run.log").read_text()
    assert "agent.stopped" in log
    assert "replicas.stopped" in log
    code, told = await check(world)
    assert code == 1
    missing = [line.partition(":")[0] for line in told.splitlines()]
    assert missing == ["agent", "gateway", "front", "picker"]


@pytest.mark.slow
async def test_a_container_beside_its_nodes_leaves_their_replicas_alone(world: AgentWorld) -> None:
    plane = start(world, "--keep-replicas")
    await world.link.pushes.put(a_desired(1, 1))
    (replica,) = await world.ready(1)
    await end(world, plane)
    assert replica.host_process is not None
    assert is_alive(replica.host_process)
    assert world.replicas() == (replica,)


RAY = """
import pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
out.write_text(out.read_text() + "x" if out.exists() else "x")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
"""
HOST = """
import pathlib, signal, sys
def end(*_):
    # Written before Ray's end: requests are finished while everything is there.
    pathlib.Path(sys.argv[1]).write_text("finished")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text("serving")
signal.pause()
"""


async def test_a_ray_node_outlives_its_raylet_and_ends_replicas_first(tmp_path: Path) -> None:
    clock = SystemClock()
    starts, served = tmp_path / "starts", tmp_path / "served"
    ray = tmp_path / "ray.py"
    ray.write_text(RAY)
    command = f'{sys.executable} {ray} {starts} --labels="a b"'
    node = spawn(
        (str(ROOT / "deploy" / "ray-node.sh"),),
        env={
            **os.environ,
            "KUBERAY_GEN_RAY_START_CMD": command,
            "SKERRY_DATA_DIR": str(tmp_path),
        },
        cwd=tmp_path,
        stdout_path=tmp_path / "log",
    )
    spec = tmp_path / "spec.json"
    arguments = (str(served), "-m", "workload_plane.replica_host.main", "--spec", str(spec))
    host = spawn((sys.executable, "-c", HOST, *arguments), env=None, cwd=None, stdout_path=spec)
    try:
        await until_text(starts, "x", clock)
        await until_text(served, "serving", clock)
        os.kill(child_of(node), signal.SIGKILL)
        await until_text(starts, "xx", clock)
        assert is_alive(host)
        signal_process(node, signal.SIGTERM)
        await until_text(served, "finished", clock)
        async with asyncio.timeout(WAIT_SECONDS):
            while is_alive(node) or is_alive(host):
                await clock.sleep(0.05)
        assert "Ray ended with 137" in (tmp_path / "log").read_text()
    finally:
        for process in (host, node):
            await terminate(process, clock, 2.0)


async def until_text(path: Path, text: str, clock: SystemClock) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while text_of(path) != text:
            await clock.sleep(0.05)


def text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def child_of(process: ProcessRecord) -> int:
    """Return the first child of a process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children.split()[0])
