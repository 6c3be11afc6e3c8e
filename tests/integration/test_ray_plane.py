"""A whole plane on somebody else's Ray cluster, whose head dies and stays dead for minutes.

Users' requests go through the gateway all the time; prints what it measured (`pytest -s`).
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import is_alive
from tests.integration import agent_world
from tests.integration.agent_world import AgentWorld, a_deployment, a_desired
from tests.integration.ray_record import keep
from tests.integration.ray_world import NODES, SHAPE, ray_settings
from workload_plane.replicas.ray.own_nodes import OwnNodes, end_own_nodes, read_processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.ray_faults,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

WATCH_SECONDS = float(os.environ.get("SKERRY_RAY_WATCH_SECONDS", "180"))
USERS = 4
RAY_UP_SECONDS = 240.0
WAIT_SECONDS_MAX = 240.0  # Ray's processes come beside the plane's own


@dataclass
class Load:
    """What users saw."""

    asked: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0


class OtherCluster:
    """A Ray cluster that the plane is only given the address and the token of."""

    def __init__(self, directory: Path) -> None:
        self.settings = ray_settings(directory)
        self.clock = SystemClock()

    async def start(self) -> None:
        """Start it, and keep it until it is up and no further: what dies then stays dead."""
        await end_own_nodes(self.settings, self.clock)
        for log in self._logs:
            log.unlink(missing_ok=True)
        nodes = OwnNodes(self.settings, (SHAPE,), self.clock, SystemIds(self.clock))
        async with asyncio.timeout(RAY_UP_SECONDS):
            keeper = asyncio.ensure_future(nodes.run())  # noqa: TID251
            while not self._is_up():
                await self.clock.sleep(0.2)
            keeper.cancel()

    @property
    def _logs(self) -> list[Path]:
        return [self.settings.data_dir / f"{name}.log" for name in NODES]

    def _is_up(self) -> bool:
        """Say whether both nodes came up; a raylet that takes 30 s for it is given up by Ray."""
        living = [one for one in read_processes(self.settings).values() if is_alive(one)]
        said = [log.read_text() for log in self._logs if log.exists()]
        return len(living) == len(NODES) == sum("Ray runtime started" in text for text in said)

    def kill_head(self) -> None:
        top = psutil.Process(read_processes(self.settings)[NODES[0]].pid)
        for one in top.children(recursive=True):
            if "gcs_server" in " ".join(one.cmdline()):
                os.kill(one.pid, signal.SIGKILL)

    def raylets(self) -> int:
        """Return how many of its raylets live."""
        temp = str(self.settings.temp_dir)
        words = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
        return sum("raylet/raylet" in text and temp in text for text in words)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[OtherCluster]:
    cluster = OtherCluster(tmp_path / "elsewhere")
    await cluster.start()
    yield cluster
    await end_own_nodes(cluster.settings, cluster.clock)


@pytest.fixture
async def world(
    tmp_path: Path, cluster: OtherCluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AgentWorld]:
    monkeypatch.setattr(agent_world, "WAIT_SECONDS", WAIT_SECONDS_MAX)
    world = AgentWorld(tmp_path)
    world.settings["runtime"] = "ray"
    world.settings["ray"] = {
        "address": cluster.settings.head_address,
        "token_file": str(cluster.settings.token_file),
    }
    world.settings["pools"][0].update(nodes=0, accelerators_per_node=SHAPE.accelerators_per_node)
    world.settings_path.write_text(json.dumps(world.settings))
    yield world
    await world.close()


async def _use(world: AgentWorld, session: aiohttp.ClientSession, load: Load) -> None:
    while True:
        began = world.clock.monotonic()
        status, text = await world.ask(session)
        load.asked += 1
        if status != 200:
            load.failures.append(f"{status} {text}")
        load.slowest_seconds = max(load.slowest_seconds, world.clock.monotonic() - began)
        await world.clock.sleep(0.05)


async def test_a_dead_head_costs_no_request_and_no_replica(
    world: AgentWorld, cluster: OtherCluster
) -> None:
    await world.start_link()
    world.start_agent()
    await world.link.wait_for("hello")
    await world.link.pushes.put(a_desired(1, 4))
    await world.link.wait_for("ack", lambda ack: ack.version.generation == 1)
    before = await world.ready(4)
    assert {one.nodes for one in before} == {("n1",), ("n2",)}
    observed = await world.link.wait_for("observed", lambda o: len(o.nodes) == 2)
    assert {node.name for node in observed.nodes} == set(NODES)
    world.start_gateway()
    world.run("workload_plane.front.main")
    async with aiohttp.ClientSession() as session:
        await world.until_served(session)
        await world.until(lambda: len(world.status()["gateway"]["routable"]) == 4)
        load = Load()
        async with asyncio.TaskGroup() as group:
            users = [group.create_task(_use(world, session, load)) for _ in range(USERS)]
            killed_at = world.clock.monotonic()
            cluster.kill_head()
            told, gone = await _watch(world, cluster, killed_at)
            assert world.replicas() == before
            await cluster.start()
            await world.until(lambda: not world.status()["runtime"]["stopped"])
            back = world.clock.monotonic() - killed_at
            # What had to wait is started now; what ran on is what it was.
            after = await world.ready(6)
            assert set(before) <= set(after)
            for user in users:
                user.cancel()
    keep(
        f"head killed and left dead for {WATCH_SECONDS:.0f} s under load",
        requests=load.asked,
        failed=len(load.failures),
        slowest_request_seconds=load.slowest_seconds,
        told_seconds=told,
        last_raylet_gone_seconds=gone,
        ray_back_seconds=back,
    )
    assert load.failures == [], world.log[-6000:]


async def _watch(world: AgentWorld, cluster: OtherCluster, killed_at: float) -> tuple[float, float]:
    """See the plane through the outage: it says so, and what is wanted more has to wait.

    Returns the seconds until it was told and until the last raylet had ended.
    """
    await world.until(lambda: "does not answer" in world.status()["runtime"]["stopped"])
    told = world.clock.monotonic() - killed_at
    await world.link.pushes.put(a_desired(2, 6, a_deployment()))
    await world.until(lambda: world.status()["waits"])
    assert "does not answer" in world.status()["waits"][0]["reason"]
    raylets_gone: float | None = None
    while (age := world.clock.monotonic() - killed_at) < WATCH_SECONDS:
        if raylets_gone is None and not cluster.raylets():
            raylets_gone = age
        await world.clock.sleep(0.5)
    assert raylets_gone is not None, "Ray's own processes live on without a head"
    return told, raylets_gone
