"""What the feed publishes, what it says has gone knowingly, and what cannot hold it up."""

import asyncio
import dataclasses
import json
import threading
from pathlib import Path

import pytest

from skerry.fleet.desired import DesiredState, PeerPlane
from skerry.fleet.observation import ReplicaState
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.gateway.test_routing import SETTINGS, assigned, desired, live
from workload_plane.gateway import files
from workload_plane.gateway.consistent import replica_names
from workload_plane.gateway.feed import GatewayFeed
from workload_plane.replicas.port import LiveReplica

A, B, C = "demo-r1-a", "demo-r1-b", "demo-r1-c"
ALL = frozenset({A, B, C})
READY = ReplicaState.READY


class Facts:
    """An agent that says what the test says."""

    def __init__(self) -> None:
        self.desired: DesiredState = desired(assigned(serving_planes=("here",)), peers=())
        self.replicas: tuple[LiveReplica, ...] | None = tuple(live(name, READY) for name in ALL)
        self.living = ALL

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        return names - self.living


class World:
    def __init__(self, directory: Path) -> None:
        self.facts, self.changed = Facts(), asyncio.Event()
        self.gate = threading.Event()
        settings = dataclasses.replace(SETTINGS, data_dir=directory, tls=None)
        self.settings = settings
        self.clock = FakeClock()
        self.feed = GatewayFeed(settings, self.facts, self.changed, self.clock, self._look_up)

    def _look_up(self, name: str) -> str:
        self.gate.wait(20.0)
        raise OSError(f"{name} is not known")

    def routed(self) -> frozenset[str]:
        published = files.load_published(self.settings.gateway_dir.resolve())
        return replica_names(published) if published is not None else frozenset()

    async def publish(self, *replicas: LiveReplica) -> None:
        """Let the feed publish once."""
        self.facts.replicas = replicas
        await self.feed.prepare()
        await self.feed._publish()

    async def run_until(self, routed: frozenset[str]) -> None:
        """Run the feed's loops until these replicas are routed."""
        async with asyncio.timeout(10.0), asyncio.TaskGroup() as group:
            loops = (self.feed.publish_forever, self.feed.resolve_forever)
            tasks = [group.create_task(loop()) for loop in loops]
            while self.routed() != routed:
                await self.clock.run_for(1.0)
            self.gate.set()
            for task in tasks:
                task.cancel()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def all_ready() -> list[LiveReplica]:
    return [live(name, READY) for name in sorted(ALL)]


async def test_replicas_that_vanish_from_the_agents_sight_stay_routed(world: World) -> None:
    await world.publish(*all_ready())
    assert world.routed() == ALL
    await world.publish()
    assert world.routed() == ALL
    assert "without tombstones" in world.feed.fault


async def test_replicas_with_unreadable_records_stay_routed(world: World) -> None:
    await world.publish(*all_ready())
    unknown = [
        dataclasses.replace(live(name, ReplicaState.STARTING), known=False) for name in sorted(ALL)
    ]
    await world.publish(*unknown)
    assert world.routed() == ALL


async def test_removed_failed_and_dead_replicas_go(world: World) -> None:
    await world.publish(*all_ready())
    world.facts.living = frozenset({B, C})
    failed = live(B, ReplicaState.FAILED, alive=False)
    await world.publish(failed, live(C, READY, alive=False))
    assert (world.routed(), world.feed.fault) == (frozenset(), "")


async def test_a_dead_name_server_holds_up_no_publication(world: World) -> None:
    far = PeerPlane(plane="far", cloud="a", region="b-1", peer_address="gateway.example:5")
    world.facts.desired = dataclasses.replace(world.facts.desired, peers=(far,))
    await world.run_until(ALL)
    endpoints = json.loads(world.settings.endpoints_path.read_bytes())
    assert {one["name"] for one in endpoints["models"][0]["replicas"]} == ALL
