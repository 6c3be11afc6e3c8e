"""An agent dies under users' load and comes back: whole plane, real processes, nobody notices.

The load is open: requests come at their rate whatever becomes of those before them.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from skerry.fleet.deployment import Deployment
from tests.integration.agent_world import AgentWorld, a_deployment, a_desired

pytestmark = pytest.mark.integration

REPLICAS = 3
RATE_PER_SECOND = 25.0
REQUEST_SECONDS_MAX = 30.0
# Without what the agent waited for a core that other tests had: the promise is of a plane's host.
ADOPTED_SECONDS_MAX = 3.0
KILLS = 2


@dataclass
class OpenLoad:
    """Requests at a rate through the gateway, half of them streams, and what became of them."""

    url: str
    session: aiohttp.ClientSession
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    async def run(self, world: AgentWorld, stop: asyncio.Event) -> None:
        """Send until `stop` is set, and return when all have been answered."""
        began, number = world.clock.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self._ask(stream=number % 2 == 0))
                number += 1
                due = began + number / RATE_PER_SECOND
                await world.clock.sleep(max(0.0, due - world.clock.monotonic()))

    async def _ask(self, *, stream: bool) -> None:
        body = {
            "model": "demo",
            "prompt": "hello",
            "max_tokens": 30,
            "ignore_eos": True,
            "stream": stream,
        }
        try:
            async with self.session.post(self.url, json=body) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(repr(error))
            return
        is_whole = text.rstrip().endswith("data: [DONE]") if stream else bool(json.loads(text))
        if response.status == 200 and is_whole:
            self.answered += 1
        else:
            self.failures.append(f"{response.status} {text[-200:]}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    world = AgentWorld(tmp_path)
    try:
        yield world
    finally:
        await world.close()


async def test_a_killed_agents_replicas_are_adopted_in_three_seconds_and_no_request_fails(
    world: AgentWorld,
) -> None:
    await world.start_link()
    world.start_agent()
    await world.link.pushes.put(a_desired(1, REPLICAS, _served()))
    before = await world.ready(REPLICAS)
    world.start_gateway()
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await world.until_served(session)
        load = OpenLoad(url=f"http://{world.public}/v1/completions", session=session)
        stop = asyncio.Event()
        adopted: list[_Adoption] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(world, stop))
            for _ in range(KILLS):
                adopted.append(await _killed_and_adopted(world, load))
                assert world.replicas() == before
            stop.set()
    for one in adopted:
        print(f"\nadopted after {one.seconds:.2f} s, {one.waited_seconds:.2f} s of them for a core")
    print(f"{load.answered} requests, {len(load.failures)} failed")
    assert load.failures == []
    assert max(one.seconds - one.waited_seconds for one in adopted) <= ADOPTED_SECONDS_MAX
    # Nothing was started, drained or ended: not by the new agents either.
    assert world.log.count("event=replica.started") == REPLICAS


def _served() -> Deployment:
    """Return a deployment with room for the load, and some answers under way at any moment."""
    deployment = a_deployment(options={"tpot-seconds": "0.02"})
    engine = replace(deployment.revision.engine, concurrent_requests=64)
    return replace(deployment, revision=replace(deployment.revision, engine=engine))


@dataclass(frozen=True)
class _Adoption:
    """How long it took, and how long of that the agent could have run and others did."""

    seconds: float
    waited_seconds: float


async def _killed_and_adopted(world: AgentWorld, load: OpenLoad) -> _Adoption:
    """Kill the agent, let users go on without one, and return how long the next one took.

    From the start of its process until its status has the replicas READY.
    """
    world.kill_agent()
    await _answered(world, load, 2.0)
    began = world.clock.monotonic()
    agent = world.start_agent()

    def has_adopted() -> bool:
        with contextlib.suppress(ValueError):
            status = world.status()
            return status.get("pid") == agent.pid and status["replicas"] == {"ready": REPLICAS}
        return False

    await world.until(has_adopted)
    seconds = world.clock.monotonic() - began
    adoption = _Adoption(seconds, _waited_for_a_core(agent.pid))
    await _answered(world, load, 1.0)  # and it goes on after it
    return adoption


def _waited_for_a_core(pid: int) -> float:
    """Return how long a process's main thread was runnable and others ran, in seconds."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0  # a kernel that does not count it


async def _answered(world: AgentWorld, load: OpenLoad, seconds: float) -> None:
    """Wait until as many more are answered as come in the time, or one has failed."""
    enough = load.answered + seconds * RATE_PER_SECOND
    await world.until(lambda: load.answered >= enough or load.failures)
    assert load.failures == []
