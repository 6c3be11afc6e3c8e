"""Questions about a large fleet: one deployment is placed anew, all others stay where they are."""

from dataclasses import replace

import pytest

from scheduler.conflicts import conflict
from scheduler.explain import explain
from scheduler.focus import POOLS_TRIED_MAX, beside_others, of_its_kinds, where_it_may_help
from scheduler.grid import build_grid
from scheduler.plan import Unplaced
from scheduler.solve import SolveLimits, solve
from scheduler.survival import survive
from skerry.fleet.deployment import (
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Tolerate,
)
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_plane,
    a_pool,
    a_problem,
    a_shape,
    some_terms,
    wanting,
)

AWS = a_pool(a_plane("aws", zones=("us",)), a_shape(per_node=4), some_terms(1.0))
FRA = a_pool(a_plane("fra", zones=("eu",)), a_shape(per_node=4), some_terms(0.5))
# However small a problem is, it counts as large.
LARGE = SolveLimits(explained_max=0, pairs_max=0)
EU = PlacementPolicy(residency_zones=("eu",))


def test_in_a_large_fleet_the_sentence_says_that_all_others_are_held() -> None:
    problem = a_problem((AWS, FRA), (wanting(3),))
    plan = solve(problem)
    here = explain(problem, plan, "demo", "fra--cpu", LARGE)
    assert here.reasons[1] == "without this pool, all others held on their pools: +$1.5/h"
    there = explain(problem, plan, "demo", "aws--cpu", LARGE)
    assert there.reasons == ("all of it on aws--cpu, all others held on their pools: +$1.5/h",)


def test_others_give_nobody_room_by_moving_when_they_are_held() -> None:
    problem = a_problem(
        (AWS, FRA),
        (wanting(3, a_deployment("bound", policy=EU)), wanting(2, a_deployment("free"))),
    )
    plan = solve(problem)
    held = beside_others(problem, plan, "bound")
    free = next(d for d in held.demands if d.deployment.name == "free")
    assert set(free.pools or ()) == {p.pool for p in plan.placements if p.deployment == "free"}
    assert held.current == plan.placements


def test_what_is_unplaced_has_the_same_conflict_and_ways_out_as_in_a_small_fleet() -> None:
    problem = a_problem(
        (AWS, FRA),
        (wanting(6, a_deployment(policy=EU)), wanting(1, a_deployment("other"))),
    )
    plan = solve(problem)
    small, large = explain(problem, plan, "demo"), explain(problem, plan, "demo", limits=LARGE)
    assert small.ways
    assert large.conflict == small.conflict
    assert large.ways == small.ways
    assert large.reasons == (
        *small.reasons,
        "ways out sought on 2 pools, all others held on their pools",
    )


def test_no_way_out_takes_from_others_whatever_their_class() -> None:
    problem = a_problem(
        (FRA,),
        (
            wanting(4, a_deployment("last", policy=PlacementPolicy(priority=3))),
            wanting(2, a_deployment("first", policy=PlacementPolicy(priority=0))),
        ),
    )
    # A plan in which the lower class holds all there is.
    plan = solve(replace(problem, demands=problem.demands[:1]))
    plan = replace(plan, unplaced=(Unplaced(deployment="first", replicas=2, reason="full"),))
    found = explain(problem, plan, "first", limits=LARGE)
    assert [way.change for way in found.ways] == ["+4 cpu accelerators in fra--cpu (1 more nodes)"]


def test_held_deployments_want_what_they_have_and_no_more() -> None:
    mixed = (
        ResourceShape(accelerator="cpu", throughput_tokens_per_second=10.0),
        ResourceShape(accelerator="gpu", accelerators=2, throughput_tokens_per_second=25.0),
    )
    gpu = a_pool("gpu", a_shape(kind="gpu", per_node=4), some_terms(0.1))
    tolerate = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5))
    tokens = replace(
        wanting(0, a_deployment("mixed", shapes=mixed, policy=tolerate)), tokens_per_second=70.0
    )
    problem = a_problem((AWS, FRA, gpu), (tokens, wanting(2)))
    plan = solve(problem)
    asked = next(d for d in problem.demands if d.deployment.name == "demo")
    grid = build_grid(of_its_kinds(problem, plan, asked))
    assert set(grid.pools) == {"aws--cpu", "fra--cpu"}, "demo has no shape for a gpu"
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    counts = tuple(placed.get((c.deployment, c.pool), 0) for c in grid.columns)
    want = next(w for w in grid.wants if w.name == "demo")
    assert conflict(grid, want, counts) == ()
    whole = build_grid(of_its_kinds(problem, plan, tokens))
    others = [w for w in whole.wants if w.name != "mixed"]
    assert [(w.demand, w.kept_demand, w.priority) for w in others] == [(2, 0, 0)]


def test_ways_out_look_at_few_pools_however_many_there_are() -> None:
    pools = tuple(
        a_pool(f"plane-{number:03d}", terms=some_terms(1.0 + number)) for number in range(60)
    )
    problem = a_problem(pools, (wanting(9),))
    plan = solve(problem, LARGE)
    few = where_it_may_help(problem, plan, problem.demands[0])
    assert len(few.pools) <= 3 * POOLS_TRIED_MAX + len(plan.placements)
    assert {p.pool for p in plan.placements} <= {pool.name for pool in few.pools}


def test_too_many_losses_are_told_by_arithmetic_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.PLANE, keep=1.0))
    problem = a_problem(
        (AWS, FRA), (wanting(4, a_deployment(policy=policy)), wanting(1, a_deployment("other")))
    )
    plan = solve(problem)
    solved = survive(problem, plan)
    monkeypatch.setattr("scheduler.survival.SOLVED_PAIRS_MAX", 3)
    told = survive(problem, plan)
    assert all(loss.solved for loss in solved)
    assert not any(loss.solved or loss.shed for loss in told)
    assert all(s.unmet_after is None for loss in told for s in loss.survivors)
    assert [(loss.domain, loss.name, loss.holds) for loss in told] == [
        (loss.domain, loss.name, loss.holds) for loss in solved
    ]
    for one, other in zip(told, solved, strict=True):
        assert one.survivors == tuple(replace(s, unmet_after=None) for s in other.survivors)
