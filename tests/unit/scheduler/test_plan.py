"""What a plan changes, in four buckets."""

from dataclasses import replace

from scheduler.plan import Move, PlacementPlan, diff
from skerry.fleet.placement import Placement
from tests.unit.scheduler.fleets import runs

EMPTY = PlacementPlan(
    placements=(),
    envelopes=(),
    unplaced=(),
    rejections=(),
    levels=(),
    cost_per_hour=0.0,
    solver="cp-sat",
    optimal=True,
)


def a_plan(*placements: Placement) -> PlacementPlan:
    return replace(EMPTY, placements=placements)


def test_what_runs_as_planned_is_kept_and_nothing_changes() -> None:
    here = runs(2, "demo", "fra--cpu")
    result = diff(a_plan(here), (here,))
    assert (result.keep, result.is_empty) == ((here,), True)


def test_a_stop_and_a_start_of_one_deployment_are_a_move_and_the_rest_is_placed() -> None:
    result = diff(
        a_plan(runs(1, "demo", "aws--cpu"), runs(3, "demo", "gcp--cpu")),
        (runs(3, "demo", "aws--cpu"),),
    )
    assert result.move == (
        Move(deployment="demo", from_pool="aws--cpu", to_pool="gcp--cpu", count=2),
    )
    assert result.keep == (runs(1, "demo", "aws--cpu"),)
    assert result.place == (runs(1, "demo", "gcp--cpu"),)
    assert result.evict == ()


def test_what_the_plan_does_not_name_is_evicted_and_never_moved_to_another_deployment() -> None:
    result = diff(a_plan(runs(1, "other", "gcp--cpu")), (runs(2, "demo", "aws--cpu"),))
    assert [(p.deployment, p.pool, p.count) for p in result.evict] == [("demo", "aws--cpu", 2)]
    assert result.place == (runs(1, "other", "gcp--cpu"),)
    assert result.move == ()
