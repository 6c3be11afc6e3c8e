"""What is stored of a decision is all that an operator asks about, and comes back whole."""

from dataclasses import replace

from sqlalchemy.dialects import sqlite

from control_plane.reconcile.decision import decision_of, plan_of, with_origins
from control_plane.store.columns import ValueColumn
from control_plane.store.values import Decision
from scheduler.solve import solve
from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.placement import Placement
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

SHORT = a_problem(
    (a_pool("fra", a_shape(per_node=4)), a_pool("aws", a_shape(per_node=2), some_terms(2.0))),
    (
        wanting(
            5, a_deployment("first", policy=PlacementPolicy(priority=0, clouds=("cloud-fra",)))
        ),
        wanting(3, a_deployment("last", policy=PlacementPolicy(priority=3))),
    ),
    current=(runs(3, "last", "fra--cpu"),),
)


def test_a_plan_comes_back_from_its_decision_whole() -> None:
    plan = solve(SHORT)
    assert plan.unplaced
    assert plan.rejections
    assert plan.shed
    assert plan.prices
    plan = replace(plan, solver_reason="cp-sat: no answer within 20 s")
    assert plan_of(decision_of(plan, 0.5), plan.placements) == replace(plan, envelopes=())


def placed(count: int, reason: str) -> Placement:
    return replace(runs(count, "demo", "fra--cpu"), reason=reason)


def test_what_is_kept_tells_why_it_was_placed_at_first_however_often_it_is_kept() -> None:
    problem = a_problem((a_pool("fra"),), (wanting(2),))
    first = solve(problem)
    cheapest = first.placements[0].reason
    held = first.placements
    for _ in range(3):
        again = with_origins(solve(replace(problem, current=held)), held)
        held = again.placements
        assert held[0].reason == f"kept where it runs; first placed: {cheapest}"


def test_what_is_new_or_grows_tells_its_own_reason() -> None:
    plan = replace(solve(a_problem((a_pool("fra"),), ())), placements=(placed(3, "cheapest"),))
    assert with_origins(plan, ()) == plan
    assert with_origins(plan, (placed(2, "near"),)) == plan
    assert with_origins(plan, (placed(3, "cheapest"),)) == plan
    assert with_origins(plan, (placed(3, ""),)) == plan


def test_a_decision_that_an_older_release_stored_is_read_with_what_it_has() -> None:
    stored = {
        "cost_per_hour": 1.5,
        "solver": "cp-sat",
        "optimal": True,
        "solve_seconds": 0.1,
        "unplaced": [["demo", 2, "no room"]],
        "rejections": [],
    }
    decision = ValueColumn(Decision).process_result_value(stored, sqlite.dialect())
    assert decision is not None
    plan = plan_of(decision, ())
    assert [left.reason for left in plan.unplaced] == ["no room"]
    assert (plan.levels, plan.shed, plan.prices, plan.solver_reason) == ((), (), (), "")
