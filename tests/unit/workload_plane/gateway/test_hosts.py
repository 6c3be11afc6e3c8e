"""A name server that is slow, dead or empty takes no address away and holds nobody up."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from tests.fakes.clock import FakeClock
from workload_plane.gateway.hosts import LOOKUP_PAUSE_SECONDS, LOOKUP_SECONDS_MAX, PeerHosts


class NameServer:
    """Answers what it is told to; `dead.gate` hangs until it is opened."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.gate = threading.Event()
        self.asked: list[str] = []

    def look_up(self, name: str) -> str:
        self.asked.append(name)
        if name == "hangs.example":
            self.gate.wait(20.0)
        try:
            return self.answers[name]
        except KeyError:
            raise OSError("no such name") from None


class World:
    def __init__(self) -> None:
        self.server, self.clock = NameServer(), FakeClock()
        self.changed = asyncio.Event()
        self.hosts = PeerHosts(self.changed, self.clock, self.server.look_up)

    async def news(self) -> None:
        async with asyncio.timeout(10.0):
            await self.changed.wait()
        self.changed.clear()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hosts.resolve_forever())
        yield world
        world.server.gate.set()
        task.cancel()


async def test_an_address_is_known_at_once_and_a_name_soon(world: World) -> None:
    world.server.answers["eu.example"] = "10.0.0.1"
    first = world.hosts.known(["10.0.0.9", "eu.example", ""])
    assert first.known == {"10.0.0.9": "10.0.0.9"}
    await world.news()
    assert world.hosts.known(["eu.example"]).address("eu.example") == "10.0.0.1"
    assert "10.0.0.9" not in world.server.asked


async def test_a_name_that_hangs_holds_up_no_other(world: World) -> None:
    world.server.answers["eu.example"] = "10.0.0.1"
    names = ["hangs.example", "eu.example"]
    world.hosts.known(names)
    while world.hosts.known(names).address("eu.example") is None:
        await world.clock.run_for(LOOKUP_SECONDS_MAX)
    assert world.server.asked.count("hangs.example") <= 1  # nobody asks again while it hangs


async def test_the_last_good_address_stays_when_the_name_is_gone(world: World) -> None:
    world.server.answers["eu.example"] = "10.0.0.1"
    world.hosts.known(["eu.example"])
    await world.news()
    del world.server.answers["eu.example"]
    asked = len(world.server.asked)
    while len(world.server.asked) < asked + 2:
        await world.clock.run_for(LOOKUP_PAUSE_SECONDS)
    assert world.hosts.known(["eu.example"]).address("eu.example") == "10.0.0.1"
    world.server.answers["eu.example"] = "10.0.0.2"
    while world.hosts.known(["eu.example"]).address("eu.example") == "10.0.0.1":
        await world.clock.run_for(LOOKUP_PAUSE_SECONDS)
    assert world.changed.is_set()


async def test_an_address_of_before_is_used_until_the_name_resolves(world: World) -> None:
    world.hosts.assume({"eu.example": "10.0.0.1", "us.example": "10.0.0.2"})
    world.server.answers["eu.example"] = "10.0.0.9"
    assert world.hosts.known(["eu.example"]).address("eu.example") == "10.0.0.1"
    await world.news()
    found = world.hosts.known(["eu.example", "us.example"])
    assert (found.address("eu.example"), found.address("us.example")) == ("10.0.0.9", "10.0.0.2")
