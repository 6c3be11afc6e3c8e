"""What the feed publishes, what it says has gone knowingly, and what cannot hold it up."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.observation import ReplicaState
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.gateway.test_routing import SETTINGS, assigned, desired, live
from workload_plane.gateway import files
from workload_plane.gateway.condition import CONFIRM_SECONDS_MAX, SILENT_SECONDS_MAX
from workload_plane.gateway.consistent import replica_names
from workload_plane.gateway.feed import GatewayFeed
from workload_plane.gateway.order import CLUSTERS
from workload_plane.gateway.status import GatewayStatus
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


def other_assignment() -> Assignment:
    first = assigned().deployment
    model = dataclasses.replace(first.revision.base_model, served_name="other")
    revision = dataclasses.replace(first.revision, base_model=model)
    return assigned(
        deployment=dataclasses.replace(first, name="other", revision=revision),
        serving_planes=("here",),
    )


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


async def test_an_engine_that_is_started_anew_in_its_place_leaves_the_routes(world: World) -> None:
    await world.publish(*all_ready())
    await world.publish(*(live(name, ReplicaState.STARTING) for name in sorted(ALL)))
    assert (world.routed(), world.feed.fault) == (frozenset(), "")


async def test_one_deployments_accident_holds_up_no_other(world: World) -> None:
    other = [of_other(live("other-r1-a", READY))]
    world.facts.desired = dataclasses.replace(
        world.facts.desired, assignments=(*world.facts.desired.assignments, other_assignment())
    )
    await world.publish(*all_ready(), *other)
    world.facts.living = ALL | {"other-r1-a"}
    more = of_other(dataclasses.replace(live("other-r1-b", READY)))
    await world.publish(*other, more)  # all of `demo` out of sight, and unexplained
    assert world.routed() == ALL | {"other-r1-a", "other-r1-b"}
    assert "3 of 3 replicas of deployment 'demo'" in world.feed.fault
    picker = json.loads(world.settings.picker_path.read_bytes())
    told = {one["name"]: len(one["replicas"]) for one in picker["deployments"]}
    assert told == {"demo": 3, "other": 2}
    await world.publish(*all_ready(), *other, more)
    assert (len(world.routed()), world.feed.fault) == (5, "")


def of_other(one: LiveReplica) -> LiveReplica:
    port = 100 + ord(one.record.name[-1])
    record = dataclasses.replace(
        one.record, deployment="other", http_port=port, grpc_port=1_000 + port
    )
    return dataclasses.replace(one, record=record)


async def test_a_deployment_that_is_scaled_down_keeps_the_replica_that_stays(world: World) -> None:
    await world.publish(*all_ready())
    draining = [live(name, ReplicaState.DRAINING) for name in (B, C)]
    await world.publish(live(A, READY), *draining)
    assert world.routed() == ALL  # until their last request has ended
    world.facts.living = frozenset({A})
    await world.publish(live(A, READY))
    assert (world.routed(), world.feed.fault) == (frozenset({A}), "")


async def test_zones_that_are_tightened_refuse_at_once_and_hold_nothing_up(world: World) -> None:
    await world.publish(*all_ready())
    kept = dataclasses.replace(
        assigned().deployment, policy=PlacementPolicy(residency_zones=("eu",))
    )
    world.facts.desired = desired(assigned(deployment=kept, serving_planes=("here",)), peers=())
    await world.publish(*all_ready())
    assert (world.routed(), world.feed.fault) == (ALL, "")
    published = files.load_published(world.settings.gateway_dir.resolve())
    assert published is not None
    assert "residency zones eu" in json.dumps(published.routes)


async def test_a_dead_name_server_holds_up_no_publication(world: World) -> None:
    far = PeerPlane(plane="far", cloud="a", region="b-1", peer_address="gateway.example:5")
    world.facts.desired = dataclasses.replace(world.facts.desired, peers=(far,))
    await world.run_until(ALL)
    endpoints = json.loads(world.settings.endpoints_path.read_bytes())
    assert {one["name"] for one in endpoints["models"][0]["replicas"]} == ALL


def a_status(versions: Mapping[str, str], **rejected: int) -> GatewayStatus:
    return GatewayStatus(
        live=True, versions=versions, rejected=rejected, in_flight={}, hosts={}, peers={}
    )


async def look(world: World, status: GatewayStatus | None) -> tuple[str, ...]:
    """Have the feed see this status of the gateway, and return the faults that it tells."""
    world.feed._status = status
    world.feed._judge()
    await world.feed._settle()
    return world.feed.faults


async def test_what_the_gateway_refuses_is_told_and_put_back_to_what_it_took_up(
    world: World,
) -> None:
    await world.publish(*all_ready())
    good = files.published_versions(world.settings.gateway_dir)
    assert await look(world, a_status(good)) == ()
    world.facts.desired = dataclasses.replace(
        world.facts.desired,
        assignments=(assigned(serving_planes=("here",)), other_assignment()),
    )
    await world.publish(*all_ready())
    changed = files.published_versions(world.settings.gateway_dir)
    assert changed[CLUSTERS] != good[CLUSTERS]
    refusing = a_status({**changed, CLUSTERS: good[CLUSTERS]}, **{CLUSTERS: 1})
    assert await look(world, refusing) == (), "it had no time to take it up yet"
    await world.clock.run_for(CONFIRM_SECONDS_MAX + 1)
    (fault,) = await look(world, refusing)
    assert CLUSTERS in fault
    now = files.published_versions(world.settings.gateway_dir)
    assert now == {**changed, CLUSTERS: good[CLUSTERS]}


async def test_a_file_that_was_refused_once_and_is_slow_now_is_not_put_back(world: World) -> None:
    world.feed._status = a_status({}, **{CLUSTERS: 7})
    await world.publish(*all_ready())
    published = files.published_versions(world.settings.gateway_dir)
    await world.clock.run_for(CONFIRM_SECONDS_MAX + 1)
    (fault,) = await look(world, a_status({}, **{CLUSTERS: 7}))
    assert "not taken up yet" in fault
    assert files.published_versions(world.settings.gateway_dir) == published


async def test_a_gateway_that_is_silent_for_long_is_told(world: World) -> None:
    assert await look(world, None) == ()
    await world.clock.run_for(SILENT_SECONDS_MAX + 1)
    (fault,) = await look(world, None)
    assert "does not answer" in fault
