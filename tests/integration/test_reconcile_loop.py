"""The reconcile loop over a real SQLite store and real solver; planes are reports in memory."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from control_plane.reconcile.snapshot import Snapshot
from control_plane.store import deployments, planes, plans, pools
from control_plane.store.fencing import WriteContext
from control_plane.store.planes import list_planes
from control_plane.store.values import PlanState
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from skerry.fleet.observation import (
    PeerVerdict,
    PlaneReport,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import Conflict, Infeasible, StaleGeneration
from tests.builders import a_deployment, a_report
from tests.integration.loop_world import ADVISORY, AUTOMATIC, Fleet


async def test_replicas_are_spread_and_the_rest_is_cheapest(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(3)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    assert {p: len(r) for p, r in fleet.running.items()} == {"aws": 1, "fra": 2, "gcp": 1}


async def test_a_returning_control_plane_moves_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(3)
    before = (await fleet.counts(), dict(fleet.running))
    held = {plane: version.generation for plane, (version, _) in fleet.pushed.items()}
    fleet.clock.advance(600.0)
    fleet.start()
    await fleet.loop.turn()  # before any plane was heard: nothing may follow from silence
    await fleet.turns(30)
    assert (await fleet.counts(), dict(fleet.running)) == before
    assert {p: v.generation for p, (v, _) in fleet.pushed.items()} == held
    assert {v.epoch for v, _ in fleet.pushed.values()} == {2}


async def test_a_lost_plane_is_replaced_and_reconciled_when_it_returns(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    await fleet.turns(7)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}, "the lease still runs"
    await fleet.turns(4)
    assert await fleet.counts() == {"aws": 1, "fra": 3}
    fleet.alive.add("gcp")
    fleet.sees.clear()
    await fleet.turns(5)
    assert await fleet.counts() == {"aws": 1, "fra": 3}, "it has not settled"
    assert {p: len(r) for p, r in fleet.running.items()} == {"aws": 1, "fra": 3, "gcp": 0}
    await fleet.turns(round(fleet.policy.settle_seconds) + 5)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    assert {p: len(r) for p, r in fleet.running.items()} == {"aws": 1, "fra": 2, "gcp": 1}
    stored = await fleet.database.run_read(list_planes)
    assert {s.condition.state for s in stored if s.condition} == {PlaneState.CONNECTED}


async def test_a_partitioned_plane_that_peers_see_serving_is_left_alone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    fleet.sees["gcp"] = PeerVerdict.SERVING
    await fleet.turns(60)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    stored = await fleet.database.run_read(list_planes)
    states = {s.identity.name: s.condition.state for s in stored if s.condition}
    assert states["gcp"] is PlaneState.DISCONNECTED


async def test_planning_shows_the_change_and_changes_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(3)
    more = a_deployment("more", replicas=2)
    change = await fleet.loop.plan(replace(more))
    assert {p.deployment for p in change.plan.placements} == {"demo", "more"}
    assert sum(p.count for p in change.before) == 4
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    assert ReplicaState.READY in {r.state for rs in fleet.running.values() for r in rs}


async def test_an_advised_plan_waits_and_is_in_force_once_approved(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(5)
    assert await fleet.counts() == {}
    held = await fleet.database.run_read(plans.get_plan, 1)
    assert held.state is PlanState.HELD
    assert sum(p.count for p in held.placements) == 4
    write = WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())
    await fleet.database.run(plans.settle_plan, write, held.number, True, "")
    await fleet.turns(4)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    assert {p: len(r) for p, r in fleet.running.items()} == {"aws": 1, "fra": 2, "gcp": 1}
    assert [p.state for p in await fleet.database.run_read(plans.list_plans)] == [
        PlanState.APPROVED
    ]


async def test_a_rejected_plan_is_not_held_again_until_something_changes(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(2)
    write = WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())
    await fleet.database.run(plans.settle_plan, write, 1, False, "")
    await fleet.turns(5)
    assert [p.state for p in await fleet.database.run_read(plans.list_plans)] == [
        PlanState.REJECTED
    ]
    terms = PoolTerms(price_per_accelerator_hour=9.0)
    await fleet.database.run(pools.set_terms, write, "fra--cpu", terms, "", "")
    await fleet.turns(2)
    states = [p.state for p in await fleet.database.run_read(plans.list_plans)]
    assert states == [PlanState.HELD, PlanState.REJECTED]
    assert await fleet.counts() == {}


async def test_a_plan_that_is_overtaken_cannot_be_approved(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(2)
    write = WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())
    terms = PoolTerms(price_per_accelerator_hour=9.0)
    await fleet.database.run(pools.set_terms, write, "fra--cpu", terms, "", "")
    await fleet.turns(2)
    with pytest.raises(Infeasible, match="superseded"):
        await fleet.database.run(plans.settle_plan, write, 1, True, "")


async def test_the_plan_that_replaces_a_lost_plane_waits_to_be_approved(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(2)
    write = WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())
    await fleet.database.run(plans.settle_plan, write, 1, True, "")
    await fleet.turns(30)
    fleet.lose("aws")
    await fleet.turns(30)
    assert await fleet.counts() == {"fra": 2, "gcp": 1}
    newest = (await fleet.database.run_read(plans.list_plans))[0]
    assert newest.state is PlanState.HELD
    await fleet.database.run(plans.settle_plan, write, newest.number, True, "")
    await fleet.turns(3)
    assert sum((await fleet.counts()).values()) == 4


async def test_an_approval_while_a_plan_is_made_is_not_undone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(2)
    write = WriteContext(epoch=fleet.epoch, actor="user:test", now=fleet.clock.now())
    solver = fleet.loop._doors.solver

    class Approving:
        """Solves while an operator approves what waits."""

        async def solve(self, problem: PlacementProblem) -> PlacementPlan:
            if not await fleet.counts():
                await fleet.database.run(plans.settle_plan, write, 1, True, "")
            return await solver.solve(problem)

    fleet.loop._doors = replace(fleet.loop._doors, solver=Approving())
    terms = PoolTerms(price_per_accelerator_hour=0.11)
    await fleet.database.run(pools.set_terms, write, "fra--cpu", terms, "", "")
    with pytest.raises(StaleGeneration):
        await fleet.turns(1)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    await fleet.turns(3)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}


async def test_a_plan_waits_no_more_once_plans_are_applied_by_themselves(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ADVISORY)
    await fleet.apply_demo()
    await fleet.turns(2)
    fleet.policy = AUTOMATIC
    fleet.start()
    await fleet.turns(30)
    states = {plan.state for plan in await fleet.database.run_read(plans.list_plans)}
    assert states == {PlanState.APPLIED, PlanState.SUPERSEDED}


async def test_every_plan_that_changed_something_is_kept(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(3)
    first = await fleet.database.run_read(plans.list_plans)
    assert [plan.state for plan in first][-1] is PlanState.APPLIED
    await fleet.turns(5)
    assert await fleet.database.run_read(plans.list_plans) == first


async def test_a_plane_that_joins_while_the_solver_works_is_taken_in(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.alive.discard("gcp")
    await fleet.apply_demo()
    fleet.alive.add("gcp")
    looks = 0
    look = fleet.sight.look

    async def look_and_join() -> Snapshot:
        nonlocal looks
        looks += 1
        if looks == 2:
            fleet.obey()
        return await look()

    fleet.sight.look = look_and_join  # type: ignore[method-assign]
    await fleet.loop.turn()
    assert looks == 2
    fleet.sight.look = look  # type: ignore[method-assign]
    await fleet.turns(3)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}


async def test_a_plane_that_is_lost_while_the_solver_works_is_stored_so_before_others_get_its_share(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(4)
    fleet.alive.discard("gcp")
    fleet.sees["gcp"] = PeerVerdict.UNREACHABLE
    await fleet.turns(6)
    await fleet.database.run(
        deployments.apply_deployment, fleet.write(), a_deployment("other"), "", ""
    )
    look, looks = fleet.sight.look, 0

    async def look_later() -> Snapshot:
        nonlocal looks
        looks += 1
        if looks == 2:
            fleet.clock.advance(6.0)
            fleet.obey()
        return await look()

    fleet.sight.look = look_later  # type: ignore[method-assign]
    await fleet.loop.turn()
    assert looks == 2
    stored = await fleet.database.run_read(list_planes)
    states = {one.identity.name: one.condition and one.condition.state for one in stored}
    assert states["gcp"] is PlaneState.LOST


async def test_after_a_start_nothing_is_decided_before_the_known_planes_are_heard(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(3)
    fleet.start()
    await fleet.loop.turn()
    assert not fleet.loop.has_decided
    fleet.alive.discard("gcp")  # it does not come back: after the grace, silence is judged
    await fleet.turns(10)
    assert not fleet.loop.has_decided
    await fleet.turns(10)
    assert fleet.loop.has_decided


async def test_a_plane_that_cannot_be_recorded_does_not_stop_the_others(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    refused = fleet.registry.open(a_report("zzz", pools=()), "agent", 3.0, stream_number=1)
    record = planes.record_report

    def refuse(session: Session, write: WriteContext, report: PlaneReport) -> bool:
        if report.identity.name == "zzz":
            raise Conflict("its pool has the id of another plane's")
        return record(session, write, report)

    planes.record_report = refuse
    try:
        await fleet.turns(3)
    finally:
        planes.record_report = record
        fleet.registry.close("zzz", refused)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
