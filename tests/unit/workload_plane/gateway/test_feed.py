"""What the feed publishes, what it says has gone knowingly, and what cannot hold it up."""

import asyncio
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import Clock
from skerry.plumbing.rpc import TlsFiles
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.gateway.test_routing import (
    PEERS,
    SETTINGS,
    assigned,
    desired,
    live,
)
from workload_plane.gateway import files
from workload_plane.gateway.bootstrap import BootstrapKeeper
from workload_plane.gateway.condition import CONFIRM_SECONDS_MAX, SILENT_SECONDS_MAX
from workload_plane.gateway.consistent import replica_names
from workload_plane.gateway.descriptors import descriptor_set
from workload_plane.gateway.feed import GatewayFeed
from workload_plane.gateway.fitting import is_logged
from workload_plane.gateway.known_before import peer_addresses
from workload_plane.gateway.order import CLUSTERS
from workload_plane.gateway.picking import PICKER_LOG
from workload_plane.gateway.program import Programs
from workload_plane.gateway.publish import ensure_initial
from workload_plane.gateway.resources import Snapshot
from workload_plane.gateway.rewriting import AGAIN_SECONDS_MIN
from workload_plane.gateway.routing import Hosts, empty_topology
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
        self.is_desired_newest = True

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        return names - self.living


class World:
    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self.facts, self.changed = Facts(), asyncio.Event()
        self.gate = threading.Event()
        files_of_tls = make_tls_files(directory) if tls else None
        self.settings = dataclasses.replace(SETTINGS, data_dir=directory, tls=files_of_tls)
        self.clock = FakeClock()
        self.names: dict[str, str] = {}
        self.restart_agent()

    def restart_agent(self) -> None:
        """Forget all that an agent keeps in memory."""
        self.feed = GatewayFeed(self.settings, self.facts, self.changed, self.clock, self._look_up)

    def _look_up(self, name: str) -> str:
        if name in self.names:
            return self.names[name]
        self.gate.wait(20.0)
        raise OSError(f"{name} is not known")

    def published(self) -> Snapshot:
        published = files.load_published(self.settings.gateway_dir.resolve())
        assert published is not None
        return published

    def peers(self) -> dict[str, str]:
        """Return the addresses that the gateway knows its peers by."""
        return peer_addresses(self.published())

    def routed(self) -> frozenset[str]:
        published = files.load_published(self.settings.gateway_dir.resolve())
        return replica_names(published) if published is not None else frozenset()

    async def publish(self, *replicas: LiveReplica) -> None:
        """Let the feed publish once."""
        self.facts.replicas = replicas
        await self.feed.prepare()
        await self.feed._publish()

    async def run_until(self, is_so: Callable[[], bool]) -> None:
        """Run the feed's loops until it is so."""
        async with asyncio.timeout(10.0), asyncio.TaskGroup() as group:
            loops = (self.feed.publish_forever, self.feed.resolve_forever)
            tasks = [group.create_task(loop()) for loop in loops]
            while not is_so():
                await self.clock.run_for(1.0)
            self.gate.set()
            for task in tasks:
                task.cancel()


def make_tls_files(directory: Path) -> TlsFiles:
    paths = [directory / name for name in ("ca.pem", "plane.pem", "plane.key")]
    for path in paths:
        path.write_text("a certificate")
    return TlsFiles(ca=paths[0], cert=paths[1], key=paths[2])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def world_of_planes(tmp_path: Path) -> World:
    return World(tmp_path, tls=True)


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
    await world.run_until(lambda: world.routed() == ALL)
    endpoints = json.loads(world.settings.endpoints_path.read_bytes())
    assert {one["name"] for one in endpoints["models"][0]["replicas"]} == ALL


async def test_a_peer_that_left_while_the_agent_was_dead_leaves_the_gateway(
    world_of_planes: World,
) -> None:
    world = world_of_planes
    world.facts.desired = dataclasses.replace(world.facts.desired, peers=PEERS[:1])
    await world.publish(*all_ready())
    assert world.peers() == {"eu": "10.0.0.1"}
    world.facts.desired = dataclasses.replace(world.facts.desired, peers=())
    world.restart_agent()
    more = live("demo-r1-d", READY)
    await world.publish(*all_ready(), more)
    assert (world.peers(), world.feed.fault) == ({}, "")
    assert world.routed() == ALL | {"demo-r1-d"}


async def test_a_deployment_that_left_while_the_agent_was_dead_leaves_the_gateway(
    world: World,
) -> None:
    first = world.facts.desired
    both = (*first.assignments, other_assignment())
    world.facts.desired = dataclasses.replace(first, assignments=both)
    await world.publish(*all_ready(), of_other(live("other-r1-a", READY)))
    world.facts.desired = dataclasses.replace(first, assignments=())
    world.facts.living = frozenset()
    world.restart_agent()
    await world.publish()
    assert (world.routed(), world.feed.fault) == (frozenset(), "")


async def test_a_copy_from_before_a_damaged_state_takes_nothing_knowingly_from_the_gateway(
    world: World,
) -> None:
    await world.publish(*all_ready())
    world.facts.desired = dataclasses.replace(world.facts.desired, assignments=())
    world.facts.is_desired_newest = False
    world.restart_agent()
    await world.publish(*all_ready())
    assert world.routed() == ALL
    assert world.feed.fault


async def test_addresses_known_before_are_used_by_an_agent_without_a_name_server(
    world_of_planes: World,
) -> None:
    world, known = world_of_planes, {"eu": "10.9.0.1", "us": "10.9.0.2"}
    world.names = {"eu.example": "10.9.0.1", "us.example": "10.9.0.2"}
    named = tuple(
        dataclasses.replace(peer, peer_address=f"{peer.plane}.example:5") for peer in PEERS
    )
    world.facts.desired = dataclasses.replace(world.facts.desired, peers=named)
    await world.run_until(lambda: world.routed() == ALL and world.peers() == known)
    world.names = {}
    world.gate.clear()
    world.restart_agent()
    more = live("demo-r1-d", READY)
    world.facts.replicas = (*all_ready(), more)
    await world.run_until(lambda: world.routed() == ALL | {"demo-r1-d"})
    assert (world.peers(), world.feed.fault) == (known, "")


def a_status(versions: Mapping[str, str], uptime: int = 100, **rejected: int) -> GatewayStatus:
    return GatewayStatus(
        live=True,
        versions=versions,
        rejected=rejected,
        in_flight={},
        hosts={PICKER_LOG: ()},
        peers={},
        uptime_seconds=uptime,
    )


async def look(world: World, status: GatewayStatus | None) -> tuple[str, ...]:
    """Have the feed see this status of the gateway, and return the faults that it tells."""
    world.feed._status = status
    world.feed._judge()
    await world.feed._settle()
    return world.feed.faults


async def refuse_a_second_deployment(world: World) -> tuple[dict[str, str], GatewayStatus]:
    """Publish a deployment more, whose clusters Envoy refuses; return what should be there."""
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
    return changed, refusing


async def test_what_the_gateway_refuses_is_told_and_put_back_to_what_it_took_up(
    world: World,
) -> None:
    await refuse_a_second_deployment(world)


async def test_what_a_gateway_refused_is_offered_again_to_one_that_was_started_since(
    world: World,
) -> None:
    wanted, refusing = await refuse_a_second_deployment(world)
    await world.publish(*all_ready())
    assert files.published_versions(world.settings.gateway_dir) != wanted, "it would refuse again"
    started = dataclasses.replace(refusing, rejected={}, uptime_seconds=1)
    assert await look(world, started) != (), "it has not got what it should"
    await world.publish(*all_ready())
    assert files.published_versions(world.settings.gateway_dir) == wanted
    assert await look(world, a_status(wanted, uptime=2)) == ()


async def test_what_a_gateway_refused_is_offered_again_in_longer_and_longer_intervals(
    world: World,
) -> None:
    wanted, refusing = await refuse_a_second_deployment(world)
    for round_number in (1, 2, 3):
        pause = AGAIN_SECONDS_MIN * 2 ** (round_number - 1)
        await world.clock.run_for(pause - CONFIRM_SECONDS_MAX)
        await world.publish(*all_ready())
        assert files.published_versions(world.settings.gateway_dir) != wanted
        await world.clock.run_for(CONFIRM_SECONDS_MAX)
        await world.publish(*all_ready())
        assert files.published_versions(world.settings.gateway_dir) == wanted
        refusing = dataclasses.replace(refusing, rejected={CLUSTERS: round_number + 1})
        assert await look(world, refusing) != ()


async def test_a_file_that_was_emptied_or_altered_is_written_again(world: World) -> None:
    await world.publish(*all_ready())
    root = world.settings.gateway_dir
    published = files.published_versions(root)
    for path in published:
        for damaged in ("", '{"version_info": "1", "resources": []}'):
            (root / path).write_text(damaged)
            await world.feed._publish()
            assert files.published_versions(root) == published, path


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


def started_by_an_older_release(world: World) -> GatewayStatus:
    """Leave what a release without a picker left, and return how its Envoy shows itself."""
    empty = empty_topology(world.settings, Hosts(known={"127.0.0.1": "127.0.0.1"}))
    older = dataclasses.replace(empty, picker_directory="", picks=False)
    world.settings.gateway_dir.mkdir(parents=True)
    ensure_initial(older, world.settings.gateway_dir, descriptor_set())
    return dataclasses.replace(a_status({}), hosts={})


async def test_an_envoy_without_a_place_for_the_pickers_log_is_told_of_none_until_it_has_one(
    world: World,
) -> None:
    older = started_by_an_older_release(world)
    await world.publish(*all_ready())
    assert world.routed() == ALL
    assert not is_logged(world.published()), "it could be started again before the next look"
    files.adopt_bootstrap(world.settings.gateway_dir)
    await look(world, older)
    await world.feed._publish()
    assert not is_logged(world.published()), "the one that runs would refuse its listeners"
    await look(world, a_status({}, uptime=1))
    await world.feed._publish()
    assert is_logged(world.published())
    world.restart_agent()
    await world.publish(*all_ready())
    assert is_logged(world.published()), "as the one before told it, until it was looked at"


async def test_a_torn_bootstrap_holds_up_no_publication(world: World) -> None:
    await world.publish(*all_ready()[:1])
    (world.settings.gateway_dir / files.BOOTSTRAP).write_text("{")
    await world.publish(*all_ready())
    assert (world.routed(), world.feed.fault) == (ALL, "")


async def test_the_agents_file_says_whether_the_gateway_must_be_started_again(world: World) -> None:
    await world.publish(*all_ready())
    assert world.feed.describe()["restart_needed"] is False, "nobody knows"
    written = world.clock.now().timestamp() - 100
    os.utime(world.settings.gateway_dir / files.BOOTSTRAP, (written, written))
    for uptime, is_needed in ((50, False), (500, True)):
        faults = await look(world, a_status({}, uptime=uptime))
        assert world.feed.describe()["restart_needed"] is is_needed
        assert any("started again" in fault for fault in faults) is is_needed


async def test_the_agents_file_asks_for_a_restart_into_another_envoy_once_it_would_serve(
    world: World,
) -> None:
    verdict = "it ended at once"

    async def ask() -> Programs:
        return Programs(running="1.40.0", next="1.41.0")

    async def try_start(folder: Path, clock: Clock, bootstrap: str) -> str:
        return verdict

    root = world.settings.gateway_dir
    keeper = BootstrapKeeper(root, world.clock, ask, try_start)
    world.feed._bootstrap = keeper
    await world.publish(*all_ready())
    long_ago = world.clock.now().timestamp() - 100
    os.utime(root / files.BOOTSTRAP, (long_ago, long_ago))
    assert await keeper.keep()
    (fault,) = await look(world, a_status({}, uptime=50))
    assert "do not restart it" in fault
    assert world.feed.describe()["restart_needed"] is False
    verdict = ""
    assert await keeper.keep()
    assert await look(world, a_status({}, uptime=50)) == (), "the one that runs is none"
    assert world.feed.describe()["restart_needed"] is True
