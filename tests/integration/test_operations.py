"""Drains, failovers and moves through the reconcile loop, a real store and the real solver."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.reconcile.draining import DrainProgress, progress_of, running_of
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.relocation import Relocation
from control_plane.store.cordons import set_cordon
from control_plane.store.deployments import apply_deployment
from control_plane.store.planes import declare_lost, list_planes
from control_plane.store.plans import list_plans, settle_plan
from control_plane.store.pools import set_terms
from control_plane.store.requests import Asked
from control_plane.store.values import PlanState
from skerry.fleet.cordon import CordonState, Part, Scope
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.observation import PeerVerdict, PlaneState
from skerry.fleet.pool import PoolTerms
from skerry.plumbing.errors import Conflict, Infeasible, NotFound
from tests.builders import a_deployment
from tests.integration.loop_world import ADVISORY, AUTOMATIC, PLANES, Fleet

NOBODY = Asked(request_id="", kind="failover", body="")
FRA = Part(scope=Scope.PLANE, name="fra")


def progress(fleet: Fleet, part: Part = FRA) -> DrainProgress:
    """Return how far a drain is by what the last turn saw."""
    seen, decided = fleet.loop.seen, fleet.loop.decided
    assert seen is not None
    assert decided is not None
    kept = [(k.deployment, k.pool, k.replicas, k.reason) for k in decided.kept]
    running = running_of(seen.snapshot)
    return progress_of(part, running, seen.snapshot, seen.conditions, kept)


async def cordon(fleet: Fleet, state: CordonState, part: Part = FRA) -> None:
    await fleet.database.run(set_cordon, fleet.write(), part, state, "")


async def states(fleet: Fleet) -> dict[str, PlaneState]:
    stored = await fleet.database.run_read(list_planes)
    return {s.identity.name: s.condition.state for s in stored if s.condition}


async def free_demo(fleet: Fleet, replicas: int = 4) -> None:
    """Let `demo` run anywhere: all of it goes to fra, the cheapest, which has room for four."""
    await fleet.apply_demo()
    demo = a_deployment(replicas=replicas, policy=PlacementPolicy())
    await fleet.database.run(apply_deployment, fleet.write(), demo, "", "")
    await fleet.turns(5)


async def test_a_drained_plane_is_emptied_with_never_fewer_ready_than_wanted(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    assert await fleet.counts() == {"fra": 4}
    await cordon(fleet, CordonState.DRAINING)
    left = []
    for _ in range(6):
        await fleet.turns(1)
        assert sum(len(replicas) for replicas in fleet.running.values()) >= 4
        left.append(progress(fleet).replicas_left)
    assert left[0] == 4
    assert left[-1] == 0
    assert progress(fleet).is_over
    assert await fleet.counts() == {"gcp": 4}
    await fleet.turns(10)
    assert await fleet.counts() == {"gcp": 4}, "drained, it takes nothing new"
    await cordon(fleet, CordonState.OPEN)
    await fleet.turns(3)
    assert (await fleet.counts()).get("fra", 0) > 0, "open again, it is the cheapest"


async def test_what_finds_no_other_place_stays_where_it_is_drained(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet, replicas=10)
    assert await fleet.counts() == {"aws": 2, "fra": 4, "gcp": 4}
    await cordon(fleet, CordonState.DRAINING)
    for _ in range(10):
        await fleet.turns(1)
        assert sum(len(replicas) for replicas in fleet.running.values()) >= 10
    now = progress(fleet)
    assert {p: len(r) for p, r in fleet.running.items()} == {"aws": 4, "fra": 2, "gcp": 4}
    assert not now.is_over
    assert await fleet.counts() == {"aws": 4, "fra": 2, "gcp": 4}, "kept, and placed"
    assert now.left[0].left == 2
    assert "2 replicas of demo find no other place" in now.waits_for[0]
    fewer = a_deployment(replicas=7, policy=PlacementPolicy())
    await fleet.database.run(apply_deployment, fleet.write(), fewer, "", "")
    await fleet.turns(5)
    assert progress(fleet).is_over


async def test_a_drain_of_a_silent_plane_says_that_it_waits_for_it(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    await cordon(fleet, CordonState.DRAINING)
    fleet.lose("fra")
    fleet.sees["fra"] = PeerVerdict.SERVING
    await fleet.turns(5)
    assert any("plane fra is disconnected" in told for told in progress(fleet).waits_for)
    assert not progress(fleet).is_over


@pytest.mark.parametrize(
    "part",
    [
        Part(scope=Scope.POOL, name="fra--cpu"),
        Part(scope=Scope.CLOUD, name="fra"),
        Part(scope=Scope.REGION, name="fra/fra"),
    ],
    ids=lambda part: part.scope.value,
)
async def test_every_part_of_the_fleet_can_be_drained(tmp_path: Path, part: Part) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    await cordon(fleet, CordonState.DRAINING, part)
    await fleet.turns(6)
    assert progress(fleet, part).is_over
    assert await fleet.counts() == {"gcp": 4}


async def test_a_plane_without_witnesses_is_replaced_once_it_is_declared_lost(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    fleet.sees["gcp"] = PeerVerdict.UNKNOWN
    await fleet.turns(30)
    assert (await states(fleet))["gcp"] is PlaneState.SUSPECT
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}
    await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)
    await fleet.turns(2)
    assert await fleet.counts() == {"aws": 1, "fra": 3}
    stored = {s.identity.name: s for s in await fleet.database.run_read(list_planes)}
    condition = stored["gcp"].condition
    assert condition is not None
    assert condition.declared
    assert condition.reason == "declared lost by user:test"
    fleet.alive.add("gcp")
    fleet.sees.clear()
    await fleet.turns(6)
    assert (await states(fleet))["gcp"] is PlaneState.CONNECTED
    await fleet.turns(round(fleet.policy.settle_seconds) + 5)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}


async def test_a_failover_moves_even_where_most_planes_are_silent(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    fleet.lose("aws")
    fleet.sees["aws"] = PeerVerdict.UNKNOWN
    await fleet.turns(30)
    assert await fleet.counts() == {"aws": 1, "fra": 2, "gcp": 1}, "taken as our own fault"
    await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)
    await fleet.turns(3)
    assert await fleet.counts() == {"aws": 1, "fra": 3}
    assert await states(fleet) == {
        "aws": PlaneState.SUSPECT,
        "fra": PlaneState.CONNECTED,
        "gcp": PlaneState.LOST,
    }


async def test_a_plane_that_is_heard_is_not_declared_lost(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(2)
    with pytest.raises(Infeasible, match="drain plane/gcp"):
        await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)
    with pytest.raises(NotFound):
        await fleet.database.run(declare_lost, fleet.write(), ("nowhere",), NOBODY)


async def test_a_judgement_from_before_a_failover_does_not_undo_it(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    fleet.sees["gcp"] = PeerVerdict.UNKNOWN
    await fleet.turns(4)
    fleet.sees["gcp"] = PeerVerdict.SERVING
    fleet.obey()
    look = fleet.sight.look
    stale = await look()
    await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)

    async def look_back() -> object:
        return stale

    fleet.sight.look = look_back  # type: ignore[assignment,method-assign]
    with pytest.raises(Conflict):
        await fleet.loop.turn()
    fleet.sight.look = look  # type: ignore[method-assign]
    assert (await states(fleet))["gcp"] is PlaneState.LOST


async def move(fleet: Fleet, source: str, target: str, replicas: int = 1) -> None:
    asked = Relocation(
        deployment="demo", from_pool=f"{source}--cpu", to_pool=f"{target}--cpu", replicas=replicas
    )
    told = await fleet.loop.propose_move(asked)
    await fleet.loop.put_moved(
        fleet.write(), told, Asked(request_id="", kind="move", body=repr(asked))
    )


async def test_moved_replicas_stay_where_they_were_moved(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    await move(fleet, "fra", "aws", 3)
    for _ in range(6):
        await fleet.turns(1)
        assert sum(len(replicas) for replicas in fleet.running.values()) >= 4
    assert await fleet.counts() == {"aws": 3, "fra": 1}
    assert {p: len(r) for p, r in fleet.running.items() if r} == {"aws": 3, "fra": 1}
    await fleet.turns(20)
    assert await fleet.counts() == {"aws": 3, "fra": 1}


async def test_a_move_that_breaks_a_rule_changes_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()  # spread over all three planes
    await fleet.turns(3)
    before = await fleet.counts()
    with pytest.raises(Infeasible, match="break a promise: survival goes from 0"):
        await move(fleet, "gcp", "fra")
    with pytest.raises(Infeasible, match="1 replicas of demo are placed"):
        await move(fleet, "gcp", "fra", 2)
    with pytest.raises(NotFound):
        await move(fleet, "gcp", "nowhere")
    await cordon(fleet, CordonState.CORDONED, Part(scope=Scope.PLANE, name="aws"))
    with pytest.raises(Infeasible, match="cordoned"):
        await move(fleet, "fra", "aws")
    assert await fleet.counts() == before
    assert set(before) == set(PLANES)


async def test_a_move_made_from_placements_of_before_is_refused(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    asked = Relocation(deployment="demo", from_pool="fra--cpu", to_pool="aws--cpu", replicas=1)
    told = await fleet.loop.propose_move(asked)
    await move(fleet, "fra", "gcp", 2)
    with pytest.raises(Conflict, match="look again"):
        await fleet.loop.put_moved(fleet.write(), told, Asked(request_id="", kind="move", body="x"))
    assert await fleet.counts() == {"fra": 2, "gcp": 2}


def serving(fleet: Fleet) -> int:
    """Return how many replicas of all deployments planes run."""
    return sum(len(replicas) for replicas in fleet.running.values())


async def drained_without_place(tmp_path: Path, policy: ReconcilePolicy = AUTOMATIC) -> Fleet:
    """`demo` runs ten replicas on all three planes, and fra is being drained."""
    fleet = Fleet(tmp_path, policy)
    await free_demo(fleet, replicas=10)
    for plan in await fleet.database.run_read(list_plans):
        if plan.state is PlanState.HELD:
            await fleet.database.run(settle_plan, fleet.write(), plan.number, True, "")
    await fleet.turns(4)
    assert serving(fleet) == 10
    await cordon(fleet, CordonState.DRAINING)
    await fleet.turns(5)
    return fleet


@pytest.mark.parametrize("end", [CordonState.CORDONED, CordonState.OPEN])
async def test_ending_a_drain_ends_nothing_that_serves(tmp_path: Path, end: CordonState) -> None:
    fleet = await drained_without_place(tmp_path)
    await cordon(fleet, end)
    for _ in range(10):
        await fleet.turns(1)
        assert serving(fleet) >= 10


async def test_who_waits_does_not_take_what_was_kept_through_a_drain(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet, replicas=12)  # all there is
    waiting = a_deployment("alpha", replicas=12)  # as much, so that neither is owed more
    await fleet.database.run(apply_deployment, fleet.write(), waiting, "", "")
    await fleet.turns(3)
    await cordon(fleet, CordonState.DRAINING)
    await fleet.turns(5)
    await cordon(fleet, CordonState.OPEN)
    await fleet.turns(10)
    ran = [replica.deployment for replicas in fleet.running.values() for replica in replicas]
    assert ran == ["demo"] * 12


async def test_an_advised_drain_waits_and_so_does_its_end(tmp_path: Path) -> None:
    fleet = await drained_without_place(tmp_path, ADVISORY)
    assert serving(fleet) == 10
    assert await fleet.counts() == {"aws": 2, "fra": 4, "gcp": 4}
    assert any("approval" in told for told in progress(fleet).waits_for)
    await cordon(fleet, CordonState.OPEN)
    await fleet.turns(10)
    assert serving(fleet) == 10


async def test_a_move_to_what_is_drained_meanwhile_is_refused(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    asked = Relocation(deployment="demo", from_pool="fra--cpu", to_pool="aws--cpu", replicas=2)
    told = await fleet.loop.propose_move(asked)
    await cordon(fleet, CordonState.DRAINING, Part(scope=Scope.PLANE, name="aws"))
    await fleet.turns(2)
    with pytest.raises(Conflict, match="repeat"):
        await fleet.loop.put_moved(fleet.write(), told, NOBODY)


async def test_a_late_repeat_of_a_move_does_not_undo_the_next(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    asked = Relocation(deployment="demo", from_pool="fra--cpu", to_pool="aws--cpu", replicas=2)
    call = Asked(request_id="once", kind="move", body=repr(asked))
    first = await fleet.loop.propose_move(asked)
    repeat = await fleet.loop.propose_move(asked)
    assert await fleet.loop.put_moved(fleet.write(), first, call)
    await move(fleet, "aws", "gcp", 2)
    assert not await fleet.loop.put_moved(fleet.write(), repeat, call)
    await fleet.turns(5)
    assert await fleet.counts() == {"fra": 2, "gcp": 2}
    assert {p: len(r) for p, r in fleet.running.items() if r} == {"fra": 2, "gcp": 2}


async def test_what_a_silent_plane_runs_is_not_moved(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await free_demo(fleet)
    await fleet.turns(20)
    fleet.lose("fra")
    fleet.sees["fra"] = PeerVerdict.SERVING
    await fleet.turns(5)
    with pytest.raises(Infeasible, match="failover plane/fra"):
        await move(fleet, "fra", "aws")


async def test_a_loss_that_was_acted_on_does_not_take_the_brake_off(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    await fleet.apply_demo()
    await fleet.turns(20)
    fleet.lose("gcp")
    fleet.sees["gcp"] = PeerVerdict.UNKNOWN
    await fleet.turns(10)
    await fleet.database.run(declare_lost, fleet.write(), ("gcp",), NOBODY)
    await fleet.turns(20)
    assert await fleet.counts() == {"aws": 1, "fra": 3}
    for plane in ("aws", "fra"):
        fleet.lose(plane)
        fleet.sees[plane] = PeerVerdict.UNKNOWN
    terms = PoolTerms(price_per_accelerator_hour=50.0)
    await fleet.database.run(set_terms, fleet.write(), "fra--cpu", terms, "", "")
    await fleet.turns(30)
    assert await fleet.counts() == {"aws": 1, "fra": 3}


parts = st.sampled_from([Part(scope=Scope.PLANE, name=plane) for plane in PLANES])


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(parts, st.sampled_from(CordonState)), min_size=2, max_size=6))
def test_no_order_of_drains_and_cordons_ends_what_serves(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Part, CordonState]]
) -> None:
    async def live() -> None:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"))
        await free_demo(fleet, replicas=10)
        for part, state in steps:
            await cordon(fleet, state, part)
            for _ in range(4):
                await fleet.turns(1)
                assert serving(fleet) >= 10

    asyncio.run(live())
