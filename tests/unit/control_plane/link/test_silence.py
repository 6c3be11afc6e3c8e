"""Silent planes are judged when the timeout ends, and their streams end with the lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from control_plane.link.push import Outbox
from control_plane.link.registry import Registry
from control_plane.link.silence import GRAIN_SECONDS, SilenceWatch
from control_plane.reconcile.policy import ReconcilePolicy
from skerry.plumbing.errors import SkerryError
from tests.builders import a_report
from tests.fakes.clock import FakeClock, settle

POLICY = ReconcilePolicy()
TIMEOUT_SECONDS, LEASE_SECONDS = POLICY.heartbeat_timeout_seconds, POLICY.lease_seconds
A_LITTLE = 2 * GRAIN_SECONDS  # a look comes so much later at most


@dataclass
class Stream:
    plane: str
    outbox: Outbox
    ends: list[str] = field(default_factory=list)

    def end(self, why: SkerryError) -> None:
        self.ends.append(why.message)


class World:
    def __init__(self) -> None:
        self.clock, self.woken = FakeClock(), 0
        self.registry = Registry(self.clock, self.wake)
        self.watch = SilenceWatch(self.registry, lambda: POLICY, self.clock)

    def wake(self) -> None:
        self.woken += 1

    def connect(self, plane: str) -> Stream:
        outbox = self.registry.open(a_report(plane), "agent", TIMEOUT_SECONDS, stream_number=1)
        stream = Stream(plane, outbox)
        self.watch.add(stream)
        self.woken = 0
        return stream


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(world.watch.run())
        yield world
        watching.cancel()


async def test_a_silent_plane_is_judged_once_when_the_timeout_ends_and_ends_with_its_lease() -> (
    None
):
    async with a_world() as world:
        stream = world.connect("fra")
        await world.clock.run_for(TIMEOUT_SECONDS)
        assert world.woken == 0
        await world.clock.run_for(A_LITTLE)
        assert world.woken == 1
        await world.clock.run_for(LEASE_SECONDS - TIMEOUT_SECONDS - A_LITTLE)
        assert (world.woken, stream.ends) == (1, [])
        await world.clock.run_for(A_LITTLE)
        assert stream.ends == ["nothing was heard for 8 s: lease over"]
        await world.clock.run_for(10 * LEASE_SECONDS)
        assert (world.woken, len(stream.ends)) == (1, 1)


async def test_a_plane_that_is_heard_in_time_is_left_alone_beside_one_that_is_not() -> None:
    async with a_world() as world:
        heard, silent = world.connect("fra"), world.connect("aws")
        for _ in range(10):
            await world.clock.run_for(1.0)
            world.registry.hear("fra")
        assert (heard.ends, len(silent.ends)) == ([], 1)


async def test_a_second_silence_of_the_same_stream_is_judged_as_well() -> None:
    async with a_world() as world:
        world.connect("fra")
        for silence in (1, 2):
            await world.clock.run_for(TIMEOUT_SECONDS + 1.0)
            assert world.woken == silence
            world.registry.hear("fra")


async def test_a_later_stream_is_watched_though_an_earlier_one_is_due_after_it() -> None:
    async with a_world() as world:
        world.connect("fra")
        await world.clock.run_for(TIMEOUT_SECONDS + 1.0)  # its lease is over in four seconds
        world.connect("aws")
        await settle()
        await world.clock.run_for(TIMEOUT_SECONDS + A_LITTLE)
        assert world.woken == 1


async def test_the_stream_before_a_planes_present_one_is_ended() -> None:
    async with a_world() as world:
        before = world.connect("fra")
        world.clock.advance(1.0)
        now = world.connect("fra")
        for _ in range(5):
            await world.clock.run_for(1.0)
            world.registry.hear("fra")
        assert (before.ends, now.ends) == (["the plane has another stream by now"], [])
