"""A database that is lost or an older backup: fifty planes go on, and all they hold is known again.

The control plane's inside is the product's, over a real store; planes judge what they are told with
the product's own rules and count every replica that a push would end.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
from sqlalchemy import select

from control_plane.link.convert import decode_desired, encode_desired, message_of
from control_plane.link.registry import Registry
from control_plane.reconcile.doors import Doors
from control_plane.reconcile.loop import ReconcileLoop
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.sight import Sight
from control_plane.recovery.assess import Resolution
from control_plane.recovery.run import Recovery
from control_plane.store import deployments, leadership, placements, pools, tables
from control_plane.store.audit import verify_changes
from control_plane.store.backup import Restoring, restore_backup, write_backup
from control_plane.store.catalogue import REGIONS, create_entry
from control_plane.store.engine import Database, open_database
from control_plane.store.fencing import WriteContext
from control_plane.store.requests import Asked
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import solve
from skerry.fleet.catalogue import Region
from skerry.fleet.deployment import Deployment, LatencyLimit, PlacementPolicy
from skerry.fleet.desired import FEATURES, FEATURES_NEEDED, TELLS_HELD
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import ObservedReplica
from skerry.fleet.pool import CapacityClass, GatewayAddresses, PoolTerms
from skerry.fleet.rollout import RolloutPolicy
from skerry.plumbing.errors import Conflict, StaleGeneration
from tests.builders import a_deployment, a_replica, a_report
from tests.fakes.clock import FakeClock
from workload_plane.desired_state.accept import Held, Refuse, decide
from workload_plane.desired_state.format import parse

READY_SECONDS_MAX = 60
PRICED = PoolTerms(price_per_accelerator_hour=0.1)
Grant = tuple[str, str]


class Plane:
    """A plane as its disk and its processes are: it outlives every control plane."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.payload = b""
        self.held: Held = Held(plane=name, state=None, seen=NEVER)
        self.running: dict[str, ObservedReplica] = {}
        self.stopped: list[str] = []
        self.refused: list[str] = []
        self.newest_epoch = 0
        self.features: tuple[str, ...] = FEATURES
        self._serial = 0

    def offer(self, payload: bytes) -> None:
        offered = parse(payload).state
        grants = frozenset((r.deployment, r.pool) for r in self.running.values())
        if offered.version.epoch < self.newest_epoch:
            self.refused.append(f"epoch {offered.version} is over")
            return
        verdict = decide(offered, replace(self.held, running=grants), self.features)
        if isinstance(verdict, Refuse):
            self.refused.append(verdict.reason)
            return
        self.payload = payload
        self.held = replace(self.held, state=offered, seen=offered.version)
        self._converge()

    def _converge(self) -> None:
        assert self.held.state is not None
        for assignment in self.held.state.assignments:
            if assignment.tombstone:
                for replica in tuple(self.running.values()):
                    if replica.deployment == assignment.deployment.name:
                        self._run(replica.deployment, replica.pool, {})
                continue
            for envelope in assignment.envelopes:
                target, newer = envelope.target, assignment.candidate
                candidates = dict(newer.replicas).get(envelope.pool, 0) if newer else 0
                wanted = {assignment.deployment.revision.number: target - candidates}
                if newer is not None:
                    wanted[newer.revision.number] = candidates
                self._run(assignment.deployment.name, envelope.pool, wanted)

    def _run(self, deployment: str, pool: str, wanted: dict[int, int]) -> None:
        """Run just so many replicas of each revision; all others end."""
        place = (deployment, pool)
        there = [r for r in self.running.values() if (r.deployment, r.pool) == place]
        for revision in {r.revision for r in there} | wanted.keys():
            same = [r for r in there if r.revision == revision]
            for replica in same[wanted.get(revision, 0) :]:
                self.stopped.append(replica.name)
                del self.running[replica.name]
            for _ in range(wanted.get(revision, 0) - len(same)):
                self._serial += 1
                name = f"{deployment}-{self.name}-{self._serial}"
                replica = a_replica(deployment, pool, name=name, revision=revision)
                self.running[name] = replica

    @property
    def version(self) -> Version:
        return self.held.state.version if self.held.state else NEVER


class Fleet:
    """Fifty planes, and one control plane after the other over one database after the other."""

    def __init__(self, url: str, planes: int, migrated: Path) -> None:
        self.migrated = migrated
        self.clock = FakeClock()
        self.planes = {name: Plane(name) for name in (f"p{n:02d}" for n in range(planes))}
        self.away: set[str] = set()
        self.url = url
        self.databases: list[Database] = []
        self.start(url)

    def start(self, url: str) -> None:
        """Start a control plane over a database; the one before it is dead."""
        self.url = url
        path = Path(url.removeprefix("sqlite:///"))
        if not path.exists():
            shutil.copyfile(self.migrated, path)
        self.database = open_database(url)
        self.databases.append(self.database)
        self.lead()

    def lead(self) -> None:
        """Begin the next epoch over the same database."""
        self.pushed: dict[str, Version] = {}
        with self.database.write() as session:
            self.epoch = leadership.take_leadership(session, "cp", self.clock.now())
        self.registry = Registry(self.clock, lambda: None)
        sight = Sight(self.database, self.registry, self.clock, ReconcilePolicy(), decode_desired)
        self.recovery = Recovery(self.database, self.registry.held, self.clock)
        doors = Doors(
            encode=encode_desired,
            push=self._push,
            judged=self.registry.judged,
            solver=self,
            recovery=self.recovery,
        )
        self.loop = ReconcileLoop(self.database, sight, doors, self.clock, epoch=self.epoch)

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        return solve(problem)

    def _push(self, plane: str, version: Version, payload: bytes) -> None:
        assert not self.recovery.is_under_way, "nothing is pushed while it recovers"
        if version <= self.pushed.get(plane, NEVER):
            return  # as the link's outbox has it
        self.pushed[plane] = version
        if plane not in self.away:
            self.planes[plane].offer(message_of(payload, version).SerializeToString())

    def _speak(self, plane: Plane) -> None:
        """Have a plane connect or report, and tell what it holds if it is asked."""
        view = self.registry.view(plane.name)
        report = replace(
            a_report(plane.name, held=plane.version, replicas=tuple(plane.running.values())),
            gateway=GatewayAddresses(http="a:1", grpc="a:1", peer=f"{plane.name}:2"),
            features=plane.features,
            newest_epoch=plane.newest_epoch,
        )
        if view.connected:
            self.registry.hear(plane.name)
            self.registry.observe(report)
        else:
            self.registry.open(report, "agent", 3.0, stream_number=1)
            plane.newest_epoch = max(plane.newest_epoch, self.epoch)
        if self.registry.held.takes_turn(plane.name):
            held = message_of(plane.payload, plane.version)
            self.registry.held.take(plane.name, held)

    async def turn(self) -> None:
        self.clock.advance(1.0)
        for name, plane in self.planes.items():
            if name not in self.away:
                self._speak(plane)
        try:
            await self.loop.turn()
        except StaleGeneration:
            assert self.recovery.has_ended_epoch
            self.lead()

    async def until(self, done: Callable[[], bool], seconds_max: int = READY_SECONDS_MAX) -> int:
        for seconds in range(seconds_max + 1):
            if done():
                return seconds
            await self.turn()
        raise AssertionError(f"not within {seconds_max} s: {self.recovery.status()}")

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await self.turn()

    def is_ready(self) -> bool:
        return self.loop.has_decided and not self.recovery.is_under_way

    async def price(self, terms: PoolTerms = PRICED) -> None:
        """Say the terms of every pool: operators' own facts, which no plane holds."""
        for name in self.planes:
            pool = f"{name}--cpu"
            await self.database.run(pools.set_terms, self.write(), pool, terms, "", "")

    def write(self) -> WriteContext:
        """An operator's right to write now."""
        return WriteContext(epoch=self.epoch, actor="user:test", now=self.clock.now())

    async def apply(self, *wanted: Deployment) -> None:
        for one in wanted:
            await self.database.run(deployments.apply_deployment, self.write(), one, "", "")

    async def specs(self) -> dict[str, Deployment]:
        found = await self.database.run_read(deployments.list_deployments)
        return {one.deployment.name: one.deployment for one in found}

    async def counts(self) -> dict[Grant, int]:
        placed = await self.database.run_read(placements.list_placements)
        return {(p.deployment, p.pool): p.count for p in placed if p.count}

    def revisions(self, deployment: str) -> set[int]:
        every = (r for plane in self.planes.values() for r in plane.running.values())
        return {r.revision for r in every if r.deployment == deployment}

    def running(self) -> set[str]:
        return {name for plane in self.planes.values() for name in plane.running}

    def stopped(self) -> list[str]:
        return [name for plane in self.planes.values() for name in plane.stopped]

    def versions(self) -> dict[str, Version]:
        return {name: plane.version for name, plane in self.planes.items()}

    def forgive(self) -> None:
        for plane in self.planes.values():
            plane.refused.clear()
            plane.stopped.clear()


@pytest.fixture
async def fleet(
    tmp_path: Path, migrated_file: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Fleet]:
    """A settled fleet with a few deployments."""
    planes = getattr(request, "param", 3)
    fleet = Fleet(f"sqlite:///{tmp_path / 'first.db'}", planes, migrated_file)
    await fleet.turn()
    await fleet.price()
    await fleet.apply(
        a_deployment("chat", replicas=planes * 2), a_deployment("code", replicas=planes)
    )
    await fleet.turns(4)
    assert len(fleet.running()) == planes * 3
    fleet.forgive()
    yield fleet
    for database in fleet.databases:
        database.close()


def another(tmp_path: Path, name: str = "another") -> str:
    return f"sqlite:///{tmp_path / f'{name}.db'}"


@pytest.mark.parametrize("fleet", [50], indirect=True)
async def test_without_any_database_fifty_planes_are_known_again_and_nothing_stops(
    fleet: Fleet, tmp_path: Path
) -> None:
    specs, counts, running = await fleet.specs(), await fleet.counts(), fleet.running()
    before, started = fleet.versions(), perf_counter()
    fleet.start(another(tmp_path))
    seconds = await fleet.until(fleet.is_ready)
    assert max(seconds, perf_counter() - started) <= READY_SECONDS_MAX
    assert (await fleet.specs(), await fleet.counts()) == (specs, counts)
    await fleet.turns(3)
    assert (fleet.running(), fleet.stopped()) == (running, [])
    # And the fleet is led again: what operators want reaches every plane.
    await fleet.price()
    await fleet.apply(a_deployment("chat", replicas=101))
    await fleet.turns(3)
    assert len(fleet.running()) == 151
    assert all(fleet.versions()[name] > version for name, version in before.items())
    assert {why for plane in fleet.planes.values() for why in plane.refused} == set()


async def test_planes_that_come_while_the_solver_works_are_asked_before_they_are_told_anything(
    fleet: Fleet, tmp_path: Path
) -> None:
    specs, counts, running = await fleet.specs(), await fleet.counts(), fleet.running()
    fleet.start(another(tmp_path))
    fleet.away |= fleet.planes.keys()

    async def solve_and_hear(problem: PlacementProblem) -> PlacementPlan:
        fleet.away.clear()
        for plane in fleet.planes.values():
            fleet._speak(plane)
        return solve(problem)

    fleet.solve = solve_and_hear  # type: ignore[method-assign]
    await fleet.turn()
    assert fleet.recovery.is_under_way
    await fleet.until(fleet.is_ready)
    assert (await fleet.specs(), await fleet.counts()) == (specs, counts)
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_what_takes_spot_only_or_has_a_latency_limit_stays_without_the_database(
    fleet: Fleet, tmp_path: Path
) -> None:
    spot = PoolTerms(price_per_accelerator_hour=0.1, capacity_class=CapacityClass.SPOT)
    await fleet.price(spot)
    latency = (("eu", 0.02),)
    for name in fleet.planes:  # its cloud and its region
        region = Region(name=f"{name}/{name}", client_latency_seconds=latency)
        await fleet.database.run(create_entry, fleet.write(), REGIONS, region, "")
    limit = LatencyLimit(client_region="eu", seconds_max=0.05)
    policy = PlacementPolicy(capacity_classes=("spot",), latency=(limit,))
    await fleet.apply(a_deployment("near", replicas=2, policy=policy))
    await fleet.turns(4)
    counts, running = await fleet.counts(), fleet.running()
    assert sum(count for key, count in counts.items() if key[0] == "near") == 2
    fleet.forgive()
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    await fleet.turns(5)
    assert await fleet.counts() == counts
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_an_older_backup_takes_in_what_was_done_since(fleet: Fleet, tmp_path: Path) -> None:
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    await fleet.apply(a_deployment("new", replicas=2), a_deployment("chat", replicas=7))
    await fleet.turns(4)
    specs, counts, running = await fleet.specs(), await fleet.counts(), fleet.running()
    fleet.forgive()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    assert (await fleet.specs(), await fleet.counts()) == (specs, counts)
    await fleet.turns(3)
    assert (fleet.running(), fleet.stopped()) == (running, [])
    with fleet.database.read() as session:
        assert not verify_changes(session).fault
        assert session.execute(select(tables.recovery)).all() == []


async def test_a_revision_that_reached_planes_after_the_backup_stays_everywhere(
    fleet: Fleet, tmp_path: Path
) -> None:
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    chat = (await fleet.specs())["chat"]
    newer = replace(chat.revision, engine=replace(chat.revision.engine, context_tokens=1536))
    chat = replace(chat, revision=newer, rollout=RolloutPolicy(soak_seconds=0.0))
    await fleet.apply(chat)
    await fleet.until(lambda: {1} == fleet.revisions("code") and {2} == fleet.revisions("chat"))
    await fleet.turns(2)
    running = fleet.running()
    fleet.forgive()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    await fleet.turns(5)
    assert (await fleet.specs())["chat"].revision.number == 2
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_a_revision_that_only_some_replicas_run_is_known_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    chat = (await fleet.specs())["chat"]
    newer = replace(chat.revision, engine=replace(chat.revision.engine, context_tokens=1536))
    chat = replace(chat, revision=newer, rollout=RolloutPolicy(soak_seconds=600.0))
    await fleet.apply(chat)
    await fleet.until(lambda: {1, 2} == fleet.revisions("chat"))
    await fleet.turns(3)
    running = fleet.running()
    fleet.forgive()
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    await fleet.turns(5)
    assert (await fleet.specs())["chat"].revision.number == 2
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_the_newest_backup_is_in_force_once_all_planes_are_heard(
    fleet: Fleet, tmp_path: Path
) -> None:
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    running = fleet.running()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.away = {"p00"}
    fleet.start(another(tmp_path))
    await fleet.turns(20)
    assert fleet.recovery.status().found.waits_for == ("plane p00: it is not heard yet",)
    fleet.away = set()
    await fleet.until(fleet.is_ready)
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_a_person_ends_what_waits_and_a_silent_plane_keeps_its_share(
    fleet: Fleet, tmp_path: Path
) -> None:
    counts, running = await fleet.counts(), fleet.running()
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    await fleet.apply(a_deployment("new", replicas=2))
    await fleet.turns(4)
    there = {name: plane.running.copy() for name, plane in fleet.planes.items()}
    fleet.forgive()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.away = {"p00"}
    fleet.start(another(tmp_path))
    await fleet.turns(5)
    status = fleet.recovery.status()
    assert status.found.is_recovering
    assert not status.found.may_end
    write = fleet.write()
    asked = Asked(request_id="r", kind="approve recovery", body="")
    with pytest.raises(Conflict):
        await fleet.recovery.approve(write, asked, "another")
    await fleet.recovery.approve(write, asked, status.etag)
    await fleet.until(fleet.is_ready)
    found = await fleet.counts()
    assert {key: n for key, n in found.items() if key[1] == "p00--cpu"} == {
        key: n for key, n in counts.items() if key[1] == "p00--cpu"
    }
    # Back, it holds more than the database: that is taken in then, and nothing of it ends.
    fleet.away = set()
    await fleet.turns(1)
    await fleet.until(fleet.is_ready)
    await fleet.turns(3)
    for name, replicas in there.items():
        assert replicas.keys() <= fleet.planes[name].running.keys(), name
    assert running <= fleet.running()


async def test_what_was_removed_since_the_backup_waits_for_a_person(
    fleet: Fleet, tmp_path: Path
) -> None:
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    write = fleet.write()
    await fleet.database.run(deployments.mark_deleting, write, "code", "", "")
    await fleet.turns(5)
    assert "code" not in await fleet.specs()
    running = fleet.running()
    fleet.forgive()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.start(another(tmp_path))
    await fleet.turns(10)
    [conflict] = [d for d in fleet.recovery.status().found.differences if "code" in d.subject]
    assert "removed since" in conflict.message
    assert (fleet.running(), fleet.stopped()) == (running, [])


async def test_a_served_name_that_went_to_another_deployment_does_not_hold_the_recovery_up(
    fleet: Fleet, tmp_path: Path
) -> None:
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    # One plane hears of another change yet, and not of what follows: it is away for all of that.
    await fleet.apply(a_deployment("chat", replicas=7))
    await fleet.turns(3)
    fleet.away = {"p00"}
    await fleet.database.run(deployments.mark_deleting, fleet.write(), "code", "", "")
    await fleet.turns(3)
    await fleet.database.run(deployments.remove_deployment, fleet.write(), "code")
    new = a_deployment("coder", replicas=1)
    model = replace(new.revision.base_model, served_name="code")
    await fleet.apply(replace(new, revision=replace(new.revision, base_model=model)))
    await fleet.turns(4)
    assert any(r.deployment == "coder" for p in fleet.planes.values() for r in p.running.values())
    fleet.forgive()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.away = set()
    fleet.start(another(tmp_path))
    await fleet.turns(5)
    status = fleet.recovery.status()
    [conflict] = [d for d in status.found.differences if d.resolution is Resolution.CONFLICT]
    assert conflict.subject == "deployments/code"
    assert "deleted" in conflict.outcome
    assert "coder" in conflict.outcome
    asked = Asked(request_id="r", kind="approve recovery", body="")
    await fleet.recovery.approve(fleet.write(), asked, status.etag)
    await fleet.until(fleet.is_ready)
    await fleet.turns(6)
    assert set(await fleet.specs()) == {"chat", "coder"}
    assert not any("coder" in name or "chat" in name for name in fleet.stopped())


async def test_replicas_that_nobody_describes_are_kept_and_their_plane_with_them(
    fleet: Fleet, tmp_path: Path
) -> None:
    stray = a_replica("stray", "p01--cpu", name="stray-1", revision=4)
    fleet.planes["p01"].running["stray-1"] = stray
    running = fleet.running()
    fleet.start(another(tmp_path))
    await fleet.turns(5)
    status = fleet.recovery.status()
    assert [(one.plane, one.deployment) for one in status.quarantined] == [("p01", "stray")]
    assert not status.found.may_end
    write = fleet.write()
    asked = Asked(request_id="r", kind="approve recovery", body="")
    await fleet.recovery.approve(write, asked, "")
    await fleet.until(fleet.is_ready)
    await fleet.apply(a_deployment("chat", replicas=7))
    await fleet.turns(4)
    assert running <= fleet.running()
    assert fleet.stopped() == []
    assert fleet.recovery.status().quarantined == status.quarantined
    # Its plane refuses whatever does not name the stray: the one rule that it is told it by.
    assert any("stray" in reason for reason in fleet.planes["p01"].refused)


async def test_planes_of_an_older_release_are_taken_at_what_they_run(
    fleet: Fleet, tmp_path: Path
) -> None:
    for plane in fleet.planes.values():
        plane.features = tuple(name for name in FEATURES if name != TELLS_HELD)
    write_backup(fleet.url, tmp_path / "b", fleet.clock.now())
    await fleet.apply(a_deployment("chat", replicas=7))
    await fleet.turns(4)
    fleet.forgive()
    before = fleet.versions()
    restoring = Restoring(url=another(tmp_path), actor="user:test", now=fleet.clock.now())
    restore_backup(tmp_path / "b", restoring)
    fleet.start(another(tmp_path))
    await fleet.until(fleet.is_ready)
    await fleet.turns(3)
    assert not any(plane.refused for plane in fleet.planes.values())
    assert all(fleet.versions()[name] >= version for name, version in before.items())
    assert set(FEATURES_NEEDED) <= set(fleet.planes["p00"].features)


async def test_who_approves_may_go_away_before_it_is_answered(fleet: Fleet, tmp_path: Path) -> None:
    """What was stored is known all the same: SQLite has no successor that would find out."""
    fleet.planes["p01"].running["stray-1"] = a_replica("stray", "p01--cpu", name="stray-1")
    fleet.start(another(tmp_path))
    await fleet.turns(5)
    assert fleet.recovery.is_under_way
    asked = Asked(request_id="r", kind="approve recovery", body="")
    async with asyncio.TaskGroup() as group:
        approving = group.create_task(fleet.recovery.approve(fleet.write(), asked, ""))
        while not fleet.recovery.has_ended_epoch:  # known before it is stored
            await asyncio.wait({approving}, timeout=0)
        approving.cancel()
    assert approving.cancelled()
    epoch = fleet.epoch
    await fleet.until(fleet.is_ready)
    assert fleet.epoch > epoch
    assert fleet.stopped() == []


async def test_nothing_recovers_in_a_fleet_that_only_got_a_new_leader(fleet: Fleet) -> None:
    running = fleet.running()
    fleet.lead()
    await fleet.turn()
    assert not fleet.recovery.is_under_way
    await fleet.until(fleet.is_ready, 10)
    await fleet.turns(3)
    assert (fleet.running(), fleet.stopped()) == (running, [])
