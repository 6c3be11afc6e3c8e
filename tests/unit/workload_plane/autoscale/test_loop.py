"""The loop asks, decides, tells and wakes; nobody to ask takes nothing away."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, ReplicaState, Unknown
from skerry.fleet.token_budget import KeySpent
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.autoscale.test_scaler import (
    ENGINE,
    an_assignment,
    envelope,
    records,
)
from workload_plane.autoscale.loop import AutoscaleLoop, AutoscaleParts
from workload_plane.autoscale_settings import PERIOD_SECONDS
from workload_plane.converge.seen import SeenPool
from workload_plane.picker.counts import Answers, Arrivals, Counters, DeploymentCounters
from workload_plane.replica_host.load import EngineLoad
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import ReplicaRecord

SPENT = (KeySpent(key="team", period="2030-01", tokens=7),)
POOLS = (SeenPool(name="cpu", accelerator="cpu", accelerators=16),)


class Gateway:
    """A picker with so many requests at the replicas; it may be silent."""

    def __init__(self) -> None:
        self.here = 0
        self.is_silent = False
        self.asked = 0

    async def ask(self) -> Counters | None:
        self.asked += 1
        if self.is_silent:
            return None
        counters = DeploymentCounters(
            users=Arrivals(open=self.here),
            forwarded=Arrivals(),
            answers=Answers(),
            here=self.here,
        )
        return Counters(run=1, deployments={"demo": counters}, spent=SPENT)


class Hosts:
    """Replica hosts whose engines tell nothing but that they are there."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, records: Sequence[ReplicaRecord]) -> Mapping[str, EngineLoad | None]:
        self.asked = [one.name for one in records]
        return {one.name: EngineLoad(running_requests=0) for one in records}


class Busy(Hosts):
    """Replica hosts whose engines take twice as long between tokens as their profile says."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def ask(self, records: Sequence[ReplicaRecord]) -> Mapping[str, EngineLoad | None]:
        self.looks += 1
        load = EngineLoad(
            running_requests=1,
            queued_requests=0,
            generated_tokens=self.looks * 100,
            token_intervals=self.looks * 100,
            token_interval_seconds=self.looks * 5.0,
        )
        return {one.name: load for one in records}


class World:
    def __init__(self, *assignments: Assignment, hosts: Hosts | None = None) -> None:
        self.clock = FakeClock()
        self.gateway, self.hosts = Gateway(), hosts or Hosts()
        self.desired: DesiredState | Unknown = DesiredState(
            plane="here", version=Version(epoch=1, generation=1), assignments=assignments
        )
        self.live: Sequence[LiveReplica] | None = tuple(
            LiveReplica(record=record, alive=True) for record in records(1)
        )
        self.heard = False
        self.wake, self.changed = asyncio.Event(), asyncio.Event()
        parts = AutoscaleParts(
            desired=lambda: self.desired,
            replicas=lambda: self.live,
            pools=lambda: POOLS,
            is_heard=lambda: self.heard,
            picker=self.gateway,
            hosts=self.hosts,
            clock=self.clock,
        )
        self.loop = AutoscaleLoop(parts, self.wake, self.changed)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(PERIOD_SECONDS)
            await self.loop.turn()


async def test_load_is_answered_within_two_rounds_and_the_plane_is_woken() -> None:
    world = World(an_assignment())
    await world.turns(2)
    assert world.loop.wanted == {("demo", "cpu"): 1}
    world.wake.clear()
    world.gateway.here = 200
    await world.turns(14)  # by concurrency, a decision a minute
    assert world.loop.wanted[("demo", "cpu")] > 1
    assert world.wake.is_set()


async def test_nothing_known_changes_nothing() -> None:
    world = World(an_assignment(envelope(1, 3, 9)))
    await world.turns(1)
    wanted, report = world.loop.wanted, world.loop.report
    assert wanted == {("demo", "cpu"): 3}
    world.desired = UNKNOWN
    await world.turns(2)
    world.live = None
    await world.turns(2)
    assert (world.loop.wanted, world.loop.report) == (wanted, report)


async def test_a_silent_picker_is_told_as_missing_and_holds() -> None:
    world = World(an_assignment(envelope(1, 3, 9)))
    await world.turns(3)
    world.gateway.is_silent = True
    await world.turns(100)
    (load,) = world.loop.report.loads
    assert load.reading is None
    assert load.decision is not None
    assert (load.decision.because, load.decision.target) == ("signal_missing", 3)


async def test_what_has_nothing_to_scale_is_left_to_its_envelope() -> None:
    fixed = replace(an_assignment(), scaling=None)
    world = World(fixed)
    await world.turns(2)
    assert (world.loop.wanted, world.loop.report.loads) == ({}, ())


async def test_how_answers_went_is_told_also_of_what_does_not_scale() -> None:
    world = World(replace(an_assignment(), scaling=None), hosts=Busy())
    await world.turns(3)
    (load,) = world.loop.report.loads
    assert (load.reading, load.decision, world.loop.wanted) == (None, None, {})
    assert load.answers is not None
    # 50 ms from token to token, by the mean of an engine without a histogram.
    assert [count for count in load.answers.intervals if count] == [200.0]


async def test_what_keys_used_is_told_also_where_nothing_scales() -> None:
    world = World(replace(an_assignment(), scaling=None))
    assert isinstance(world.desired, DesiredState)
    terms = KeyTerms(deployments=("*",), budget_tokens=10)
    key = ApiKey(name="team", digest=bytes(32), terms=terms)
    world.desired = replace(world.desired, api_keys=(key,))
    await world.turns(1)
    assert world.loop.report == LoadReport(spent=SPENT)
    world.gateway.is_silent = True
    await world.turns(1)
    assert world.loop.report == LoadReport()


async def test_a_deployment_that_goes_is_forgotten() -> None:
    world = World(an_assignment())
    await world.turns(2)
    assert isinstance(world.desired, DesiredState)
    world.desired = replace(world.desired, assignments=(replace(an_assignment(), tombstone=True),))
    await world.turns(1)
    assert world.loop.wanted == {}
    assert world.loop.describe() == {}


async def test_users_of_a_plane_that_runs_nothing_are_counted_for_the_fleet() -> None:
    away = replace(an_assignment(), envelopes=(), scaling=None)
    world = World(away)
    world.live = ()
    world.gateway.here = 7
    await world.turns(2)
    (load,) = world.loop.report.loads
    assert load.reading is not None
    assert load.reading.in_flight == 7.0
    assert load.decision is None
    assert world.loop.wanted == {}


async def test_what_was_learned_of_a_profiled_kind_is_told_once_it_outweighs_the_profile() -> None:
    profiled = replace(an_assignment(), coefficients=(ENGINE.coefficients,))
    world = World(profiled, hosts=Busy())
    told = []
    for _ in range(120):
        await world.turns(1)
        (load,) = world.loop.report.loads
        told.append(load.coefficients)
    assert told[40] == (), "an agent that begins anew does not take the fleet back"
    (learned,) = told[-1]
    assert learned.iteration_seconds > 1.5 * ENGINE.coefficients.iteration_seconds


async def test_what_one_configuration_was_seen_to_cost_is_said_of_no_other() -> None:
    profiled = replace(an_assignment(), coefficients=(ENGINE.coefficients,))
    deployment = profiled.deployment
    revision = deployment.revision
    tuned = replace(revision.engine, options=(("max-num-seqs", "8"),))
    (shape,) = revision.shapes
    revisions = {
        "same": revision,
        "tuned": replace(revision, engine=tuned),
        "wide": replace(revision, shapes=(replace(shape, accelerators=4),)),
    }
    others = (
        replace(profiled, deployment=replace(deployment, name=name, revision=one))
        for name, one in revisions.items()
    )
    world = World(profiled, *others, hosts=Busy())
    await world.turns(120)
    told = {load.deployment: load.coefficients for load in world.loop.report.loads}
    assert told["demo"] != ()
    assert told == {"demo": told["demo"], "same": told["demo"], "tuned": (), "wide": ()}


async def test_a_decision_is_not_told_again_once_its_envelopes_are_gone() -> None:
    world = World(an_assignment(envelope(1, 3, 9)))
    await world.turns(3)
    kept = world.loop.history.after(0)
    assert isinstance(world.desired, DesiredState)
    scaled = world.desired
    (one,) = scaled.assignments
    for scaling in (None, one.scaling):
        world.desired = replace(scaled, assignments=(replace(one, envelopes=(), scaling=scaling),))
        await world.turns(30)
        (load,) = world.loop.report.loads
        assert load.reading is not None, "its users are counted all the same"
        assert load.decision is None
        assert world.loop.history.after(0) == kept
        assert (world.loop.wanted, world.loop.describe()) == ({}, {})
    world.desired = scaled
    await world.turns(1)
    (load,) = world.loop.report.loads
    assert load.decision is not None
    assert load.decision.target == 3, "as after a restart of the agent: nothing is taken away"


async def test_each_other_decision_is_kept_for_whoever_asks_later() -> None:
    world = World(an_assignment())
    await world.turns(3)
    world.gateway.here = 200
    await world.turns(20)
    kept = world.loop.history.after(0)
    targets = [one.decision.target for one in kept]
    assert (targets[0], targets[-1]) == (1, 10)
    assert len(kept) <= 8, "not one a turn"
    assert kept[-1].decision.concurrency is not None, "with what it rests on"
    assert world.loop.history.after(kept[-1].number) == ()


async def test_only_replicas_that_serve_are_asked() -> None:
    world = World(an_assignment())
    there = (*records(1), *records(1, ReplicaState.STARTING), *records(1, ReplicaState.DRAINING))
    world.live = tuple(LiveReplica(record=one, alive=True) for one in there)
    await world.turns(1)
    assert world.hosts.asked == ["demo-ready-0"]


async def test_the_loop_turns_every_period_and_at_once_when_something_changed() -> None:
    world = World(an_assignment())
    task = asyncio.ensure_future(world.loop.run())  # noqa: TID251
    await world.clock.run_for(PERIOD_SECONDS * 4 + 0.1)
    assert world.gateway.asked == 5
    world.changed.set()
    await world.clock.run_for(0.6)
    assert world.gateway.asked == 6
    task.cancel()


async def test_a_turn_that_fails_leaves_what_was_decided(caplog: pytest.LogCaptureFixture) -> None:
    world = World(an_assignment(envelope(1, 3, 9)))
    task = asyncio.ensure_future(world.loop.run())  # noqa: TID251
    await world.clock.run_for(0.1)
    wanted = world.loop.wanted
    world.gateway.ask = None  # type: ignore[assignment, method-assign]
    await world.clock.run_for(30.0)
    assert world.loop.wanted == wanted == {("demo", "cpu"): 3}
    assert not task.done()
    task.cancel()
