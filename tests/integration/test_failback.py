"""What moves when planes are lost, come back, come and go, or lose a part; and what waits."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from control_plane.reconcile.loop import RETRY_SECONDS
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.store import deployments, pools, tables
from control_plane.store.changes import list_changes
from control_plane.store.verdicts import VERDICTS_KEPT, list_verdicts
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import keep_what_is, solve
from skerry.fleet.deployment import Deployment, FailBack, PlacementPolicy
from skerry.fleet.observation import PeerVerdict, PlaneState
from skerry.fleet.pool import PoolTerms
from tests.builders import a_deployment, a_report
from tests.integration.loop_world import AUTOMATIC, PRICES, Fleet

pytestmark = pytest.mark.integration

SETTLED = 10  # turns in which everything that may move has moved
LOST = 12  # turns after which a plane is lost and replaced
SETTLE = round(AUTOMATIC.settle_seconds)


async def a_fleet(
    directory: Path, deployment: Deployment, policy: ReconcilePolicy = AUTOMATIC
) -> Fleet:
    """Return a fleet that runs the deployment where it is cheapest: all of it on `fra`."""
    fleet = Fleet(directory, policy)
    await fleet.price()
    await fleet.database.run(deployments.apply_deployment, fleet.write(), deployment, "", "")
    await fleet.turns(SETTLED)
    return fleet


def demo(fail_back: FailBack | None = None, replicas: int = 2) -> Deployment:
    return a_deployment(replicas=replicas, policy=PlacementPolicy(fail_back=fail_back))


def back(fleet: Fleet, plane: str) -> None:
    """Have a plane that was lost come back, still running what it ran."""
    fleet.alive.add(plane)
    fleet.sees.clear()


async def test_nothing_goes_back_before_the_plane_has_settled(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    assert await fleet.counts() == {"fra": 2}
    fleet.lose("fra")
    await fleet.turns(LOST)
    assert await fleet.counts() == {"gcp": 2}
    back(fleet, "fra")
    await fleet.turns(SETTLE - 1)
    assert await fleet.counts() == {"gcp": 2}
    await fleet.turns(SETTLED)
    assert await fleet.counts() == {"fra": 2}, "it is the cheapest, and nothing else was said"


async def test_a_plane_that_comes_and_goes_costs_one_move_each_way(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    before = await decisions(fleet)
    for _ in range(5):
        fleet.lose("fra")
        await fleet.turns(10)
        back(fleet, "fra")
        await fleet.turns(10)
    assert await decisions(fleet) == before + 1, "away"
    await fleet.turns(SETTLE + SETTLED)
    assert await decisions(fleet) == before + 2, "and back"
    assert await fleet.counts() == {"fra": 2}


async def test_replacements_that_are_to_be_kept_stay(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(FailBack.KEEP_REPLACEMENT))
    fleet.lose("fra")
    await fleet.turns(LOST)
    back(fleet, "fra")
    await fleet.turns(SETTLE + SETTLED)
    assert await fleet.counts() == {"gcp": 2}
    more = demo(FailBack.KEEP_REPLACEMENT, replicas=5)
    await fleet.database.run(deployments.apply_deployment, fleet.write(), more, "", "")
    await fleet.turns(SETTLED)
    assert sum((await fleet.counts()).values()) == 5
    assert "fra" in await fleet.counts(), "what is lacking goes where there is room"


async def test_what_is_to_be_where_it_was_goes_back_though_that_is_dearer(tmp_path: Path) -> None:
    policy = ReconcilePolicy(move_cost_dollars=100.0)  # by score nothing would ever go back
    fleet = await a_fleet(tmp_path, demo(FailBack.KEEP_ORIGINAL), policy)
    fleet.lose("fra")
    await fleet.turns(LOST)
    assert await fleet.counts() == {"gcp": 2}
    back(fleet, "fra")
    await fleet.turns(SETTLE - 1)
    assert await fleet.counts() == {"gcp": 2}
    await fleet.turns(SETTLED)
    assert await fleet.counts() == {"fra": 2}


async def test_by_score_nothing_goes_back_that_does_not_pay(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(), ReconcilePolicy(move_cost_dollars=100.0))
    fleet.lose("fra")
    await fleet.turns(LOST)
    back(fleet, "fra")
    await fleet.turns(SETTLE + SETTLED)
    assert await fleet.counts() == {"gcp": 2}


async def test_a_plane_that_is_back_takes_at_once_what_has_no_other_place(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(replicas=12))  # every accelerator there is
    assert await fleet.counts() == {"aws": 4, "fra": 4, "gcp": 4}
    fleet.lose("fra")
    await fleet.turns(LOST)
    assert await fleet.counts() == {"aws": 4, "gcp": 4}
    back(fleet, "fra")
    await fleet.turns(SETTLED)
    assert await fleet.counts() == {"aws": 4, "fra": 4, "gcp": 4}


async def test_moves_are_spread_over_minutes_also_by_the_next_leader(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(replicas=4), ReconcilePolicy(moves_per_minute_max=1))
    assert await fleet.counts() == {"fra": 4}
    await fleet.price({"fra": 9.0})
    await fleet.turns(5)
    assert await fleet.counts() == {"fra": 3, "gcp": 1}
    assert any("moves_per_minute_max" in told for told in fleet.loop.held_back)
    fleet.start()
    await fleet.turns(30)
    assert await fleet.counts() == {"fra": 3, "gcp": 1}, "the minute is the fleet's, not a leader's"
    await fleet.turns(40)
    assert await fleet.counts() == {"fra": 2, "gcp": 2}
    await fleet.turns(130)
    assert await fleet.counts() == {"gcp": 4}


async def test_a_loss_is_replaced_whatever_is_left_of_the_minute(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(replicas=4), ReconcilePolicy(moves_per_minute_max=0))
    fleet.lose("fra")
    await fleet.turns(LOST)
    assert await fleet.counts() == {"gcp": 4}


class LateOnce:
    """A solver whose answer is late when it matters, so that what runs is kept, and then is not."""

    def __init__(self) -> None:
        self.is_late = False

    async def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return the plan, or what is left of the last one."""
        if self.is_late:
            self.is_late = False
            return keep_what_is(problem, "solver: no answer within 20 s")
        return solve(problem)


async def test_what_a_late_solver_left_without_a_place_is_placed_soon_after(
    tmp_path: Path,
) -> None:
    solver = LateOnce()
    fleet = await a_fleet(tmp_path, demo())
    fleet.solver = solver
    fleet.start()
    await fleet.turns(30)
    fleet.lose("fra")
    await fleet.turns(7)
    solver.is_late = True
    await fleet.turns(3)
    assert await fleet.counts() == {}, "the late answer places nothing"
    await fleet.turns(round(RETRY_SECONDS) + 1)
    assert await fleet.counts() == {"gcp": 2}


async def test_the_more_urgent_deployment_has_what_is_left_after_a_loss(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(replicas=4))
    for name, priority in (("urgent", 0), ("patient", 2)):
        one = a_deployment(name, replicas=4, policy=PlacementPolicy(priority=priority))
        await fleet.database.run(deployments.apply_deployment, fleet.write(), one, "", "")
    await fleet.turns(SETTLED)
    by_name = await fleet.by_deployment()
    assert by_name == {"demo": 4, "urgent": 4, "patient": 4}
    fleet.lose("fra")
    await fleet.turns(LOST)
    assert await fleet.by_deployment() == {"demo": 4, "urgent": 4}


async def test_a_pool_that_is_not_reported_any_more_is_replaced_after_a_lease(
    tmp_path: Path,
) -> None:
    fleet = await a_fleet(tmp_path, demo())
    other = replace(a_report("fra").pools[0], name="other")
    terms = PoolTerms(price_per_accelerator_hour=0.1)
    await fleet.database.run(pools.set_terms, fleet.write(), "fra--other", terms, "", "")
    fleet.pools["fra"] = (other,)
    await fleet.turns(6)
    assert await fleet.counts() == {"fra": 2}, "one report without it is no loss"
    fleet.pools.pop("fra")
    await fleet.turns(6)
    fleet.pools["fra"] = (other,)
    await fleet.turns(6)
    assert await fleet.counts() == {"fra": 2}, "it was there in between"
    await fleet.turns(6)
    assert (await fleet.placed_on())["demo"] == {"fra--other": 2}


async def test_an_empty_list_of_pools_is_never_obeyed(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    fleet.pools["fra"] = ()
    await fleet.turns(60)
    assert await fleet.counts() == {"fra": 2}


async def test_replicas_on_accelerators_that_are_gone_are_placed_elsewhere(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo(replicas=4))
    (whole,) = a_report("fra").pools
    fleet.pools["fra"] = (replace(whole, accelerators_per_node=1),)
    await fleet.turns(3)
    assert await fleet.counts() == {"fra": 1, "gcp": 3}


async def test_every_change_of_a_planes_state_is_kept_with_its_evidence(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    fleet.lose("fra")
    await fleet.turns(LOST)
    told = await fleet.database.run_read(list_verdicts, "fra")
    states = [verdict.state for verdict in told]
    assert states == [PlaneState.LOST, PlaneState.SUSPECT, PlaneState.CONNECTED]
    lost = told[0]
    assert lost.before is PlaneState.SUSPECT
    assert lost.silent_seconds > lost.lease_seconds
    assert lost.against == lost.witnesses_needed == 2
    assert {view.verdict for view in lost.witnesses} == {PeerVerdict.UNREACHABLE}


async def test_only_so_many_verdicts_of_a_plane_are_kept(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    for _ in range(VERDICTS_KEPT // 2 + 5):
        fleet.registry._planes["fra"].heard_at_seconds -= 4.0
        await fleet.loop.turn()
        await fleet.turns(1)
    count = select(func.count()).select_from(tables.verdicts)
    mine = count.where(tables.verdicts.c.plane == "fra")
    assert await fleet.database.run_read(lambda s: s.execute(mine).scalar()) == VERDICTS_KEPT


async def test_a_freeze_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    fleet = await a_fleet(tmp_path, demo())
    for plane in ("fra", "gcp"):
        fleet.lose(plane)
    await fleet.turns(30)
    assert await fleet.counts() == {"fra": 2}
    assert "2 of 3 planes fell silent at once" in fleet.loop.held_back[0]
    for plane in ("fra", "gcp"):
        back(fleet, plane)
    await fleet.turns(5)
    assert fleet.loop.held_back == ()
    changes = await fleet.database.run_read(list_changes, 0, 1_000)
    kinds = [change.kind for change in changes if change.kind.startswith("fleet.")]
    assert kinds == ["fleet.frozen", "fleet.thawed"]
    assert await fleet.counts() == {"fra": 2}


async def decisions(fleet: Fleet) -> int:
    """Return how often placements were changed."""
    changes = await fleet.database.run_read(list_changes, 0, 10_000)
    return sum(change.kind == "placements.decided" for change in changes)


def test_the_fleet_of_these_tests_is_cheapest_where_they_take_it_to_be() -> None:
    assert sorted(PRICES, key=PRICES.__getitem__) == ["fra", "gcp", "aws"]
    assert timedelta(seconds=SETTLE) == timedelta(minutes=1)
