"""Safety sentences about placement, on small random fleets: the pipeline for large fleets.

The same promises as of the exact path, which here is the judge of what is best.
"""

from collections.abc import Sequence
from dataclasses import replace

from scheduler.arrays import arrays_of
from scheduler.check import Touched, violations
from scheduler.envelopes import reserve_accelerators
from scheduler.grid import Column, Grid, Want, build_grid, packs, ratio
from scheduler.levels import COST, PROOF_LEVELS, as_values, evaluate
from scheduler.plan import LevelValue, PlacementPlan, diff
from scheduler.problem import PlacementProblem
from scheduler.session import Session, without
from scheduler.solve import solve
from skerry.fleet.placement import Placement
from skerry.fleet.pool import CapacityClass
from tests.properties.scheduler_problems import (
    ARRAYS,
    GREEDY_ARRAYS,
    Case,
    applied,
    larger,
    level,
    on_cases,
    planned,
    unmet_of,
)

# Floats of the arrays against whole numbers of the exact path.
NEAR = 1e-5


def by_arrays(problem: PlacementProblem) -> PlacementPlan:
    return planned(problem, ARRAYS)


def values_of(plan: PlacementPlan) -> tuple[float, ...]:
    return tuple(item.value for item in plan.levels[:PROOF_LEVELS])


def is_worse(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Say whether the first level that differs is higher."""
    pairs = zip(ours, theirs, strict=True)
    return next((a > b for a, b in pairs if abs(a - b) > NEAR), False)


def levels_by_grid(problem: PlacementProblem, plan: PlacementPlan) -> tuple[LevelValue, ...]:
    """Return the levels of a plan's counts as the exact path counts them."""
    grid = build_grid(problem)
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    counts = tuple(placed.get((c.deployment, c.pool), 0) for c in grid.columns)
    values = evaluate(grid, counts)
    return as_values(grid, values, (0,) * len(values))


def assert_told_truly(problem: PlacementProblem, plan: PlacementPlan) -> None:
    for told, counted in zip(plan.levels, levels_by_grid(problem, plan), strict=True):
        assert (told.level, told.unit) == (counted.level, counted.unit)
        assert abs(told.value - counted.value) <= NEAR, told.level


def assert_bounds_hold(plan: PlacementPlan, best: PlacementPlan) -> None:
    """Check each bound against the best there is, as long as that is as good in the levels before.

    The levels after the cost have no bound that says anything.
    """
    for ours, least in zip(plan.levels[:PROOF_LEVELS], best.levels, strict=False):
        assert ours.bound <= ours.value
        assert ours.bound <= least.value + NEAR, ours.level
        if least.value > ours.value + NEAR:
            break


@on_cases
def test_no_plan_of_either_solver_breaks_a_rule_and_none_is_a_fallback(case: Case) -> None:
    for limits, solver in ((ARRAYS, "pipeline"), (GREEDY_ARRAYS, "greedy")):
        plan = planned(case.problem, limits)
        assert violations(plan, case.problem) == ()
        assert (plan.solver, plan.solver_reason) == (solver, "")


@on_cases
def test_levels_are_told_as_the_exact_path_counts_them(case: Case) -> None:
    for limits in (ARRAYS, GREEDY_ARRAYS):
        assert_told_truly(case.problem, planned(case.problem, limits))


@on_cases
def test_no_bound_is_above_the_optimum_and_no_plan_is_better(case: Case) -> None:
    plan, best = by_arrays(case.problem), planned(case.problem)
    assert best.optimal
    assert_bounds_hold(plan, best)
    assert not is_worse(values_of(best), values_of(plan))
    assert not plan.optimal or not is_worse(values_of(plan), values_of(best))


@on_cases
def test_greedy_is_never_lexicographically_better(case: Case) -> None:
    plan, plain = by_arrays(case.problem), planned(case.problem, GREEDY_ARRAYS)
    assert not is_worse(values_of(plan), values_of(plain))


@on_cases
def test_a_plan_applied_and_solved_again_moves_nothing_and_makes_nothing_worse(case: Case) -> None:
    plan = by_arrays(case.problem)
    again = solve(applied(case.problem, plan), ARRAYS)
    change = diff(again, plan.placements)
    assert change.move == ()
    before, after = values_of(plan)[:COST], values_of(again)[:COST]
    assert not is_worse(after, before)
    # A second look may serve more of who was short; where it does not, nothing changes at all.
    assert change.is_empty or is_worse(before, after)
    assert again.envelopes == plan.envelopes or not change.is_empty


@on_cases
def test_the_plan_depends_on_nothing_but_the_problem_not_on_its_order(case: Case) -> None:
    assert by_arrays(case.problem) == solve(case.problem, ARRAYS) == solve(case.shuffled(), ARRAYS)


@on_cases
def test_ceilings_are_packed_beside_one_another_and_leave_the_reserve(case: Case) -> None:
    plan, grid = by_arrays(case.problem), build_grid(case.problem)
    ceilings = {(e.deployment, e.pool): e.ceiling for e in plan.envelopes}
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    assert ceilings.keys() == placed.keys()
    counts = [ceilings.get((c.deployment, c.pool), 0) for c in grid.columns]
    targets = [placed.get((c.deployment, c.pool), 0) for c in grid.columns]
    fraction = case.problem.reserve_fraction
    for name, indices in grid.on_pool.items():
        assert packs(grid, name, counts)
        size = grid.pools[name].shape.accelerators
        taken, held = (
            sum(grid.columns[i].accelerators * granted[i] for i in indices)
            for granted in (counts, targets)
        )
        assert taken == held or taken <= size - reserve_accelerators(size, fraction)


@on_cases
def test_more_capacity_never_leaves_more_of_class_0_unmet(case: Case) -> None:
    before = level(by_arrays(case.problem), "unmet-class-0")
    for grown in ((), (case.one_of(case.problem.pools),)):
        after = solve(larger(case.problem, *grown), ARRAYS)
        assert level(after, "unmet-class-0") <= before + NEAR


@on_cases
def test_what_is_unplaced_is_said_with_a_reason(case: Case) -> None:
    plan = by_arrays(case.problem)
    assert bool(plan.unplaced) == any(unmet_of(plan))
    assert all(item.reason.startswith("needs ") for item in plan.unplaced)


@on_cases
def test_no_policy_is_broken_by_counts(case: Case) -> None:
    """Written again from the policies' words, not with the checker."""
    problem = case.problem
    for plan in (by_arrays(problem), planned(problem, GREEDY_ARRAYS)):
        assert_policies_hold(problem, plan.placements)
        gone = {bar.pool for bar in problem.bars if not bar.keeps_current}
        healthy = [p for p in problem.current if p.pool not in gone]
        moved = sum(move.count for move in diff(plan, healthy).move)
        assert problem.moves_max is None or moved <= problem.moves_max


def assert_policies_hold(problem: PlacementProblem, placed: Sequence[Placement]) -> None:
    pools = {pool.name: pool for pool in problem.pools}
    planes: dict[str, set[str]] = {}
    for p in placed:
        planes.setdefault(p.deployment, set()).add(pools[p.pool].plane.name)
    for demanded in problem.demands:
        name, policy = demanded.deployment.name, demanded.deployment.policy
        mine = [p for p in placed if p.deployment == name]
        dollars = spot = served = 0.0
        for p in mine:
            pool = pools[p.pool]
            shape = demanded.deployment.revision.shape_on(pool.shape.accelerator)
            assert shape is not None
            zones = policy.residency_zones
            assert not zones or set(zones) & set(pool.plane.residency_zones)
            assert not policy.latency or pool.plane.region == "east"
            dollars += p.count * shape.accelerators * (pool.terms.price_per_accelerator_hour or 0.0)
            worth = p.count * ratio(shape, demanded)
            served += worth
            spot += worth * (pool.terms.capacity_class is CapacityClass.SPOT)
        assert policy.cost_per_hour_max is None or dollars <= policy.cost_per_hour_max + NEAR
        share = policy.spot_share_max
        assert share is None or spot <= share * served + 1e-3 * (1.0 + served)
        for other in policy.anti_affinity:
            assert not planes.get(name, set()) & planes.get(other, set())


@on_cases
def test_columns_and_what_a_replica_is_there_are_those_of_the_exact_path(case: Case) -> None:
    grid, arrays = build_grid(case.problem), arrays_of(case.problem)
    columns = arrays.instance.columns
    wanted = {want.name: want for want in grid.wants}
    theirs = {
        (c.deployment, c.pool): (c.accelerators, c.throughput, c.is_spot, c.current, c.count_max)
        for c in grid.columns
        if can_hold_one(grid, c, wanted[c.deployment])
    }
    ours = {
        (
            arrays.demands[columns.deployment[c]].deployment.name,
            arrays.pools[columns.pool[c]].name,
        ): (
            columns.accelerators[c],
            columns.throughput[c],
            columns.spot[c] == 1,
            columns.current[c],
            columns.limit[c],
        )
        for c in range(arrays.instance.size[2])
    }
    assert ours.keys() == theirs.keys()
    for key, (*same, most) in ours.items():
        assert same == list(theirs[key][:-1])
        # Host memory bounds the arrays' counts at once, the exact path's by a constraint.
        assert 1 <= most <= theirs[key][-1]


def can_hold_one(grid: Grid, column: Column, want: Want) -> bool:
    """Say whether the arrays have such a column: one that may hold a replica that is wanted."""
    if not column.count_max or not want.demand or (column.is_spot and want.spot_units_max == 0):
        return False
    return packs(grid, column.pool, [int(other is column) for other in grid.columns])


@on_cases
def test_asking_the_same_session_twice_changes_nothing(case: Case) -> None:
    session = Session(ARRAYS)
    first, second = session.solve(case.problem), session.solve(case.problem)
    assert first == by_arrays(case.problem)
    assert (second.placements, second.envelopes) == (first.placements, first.envelopes)
    third = session.solve(applied(case.problem, second))
    change = diff(third, second.placements)
    assert change.move == ()
    assert change.is_empty or is_worse(values_of(second)[:COST], values_of(third)[:COST])


def repaired(case: Case) -> tuple[PlacementPlan, PlacementPlan, PlacementProblem]:
    """Return a plan, the plan after one plane is lost, and the problem that is."""
    session = Session(ARRAYS)
    before = session.solve(case.problem)
    after = session.repair(before, case.lost())
    return before, after, without(case.problem, before, case.lost())


@on_cases
def test_a_repair_keeps_every_rule_and_uses_nothing_that_is_lost(case: Case) -> None:
    _, after, problem = repaired(case)
    assert (after.solver, after.solver_reason) == ("repair", "")
    assert violations(after, problem) == ()
    assert not {p.pool for p in after.placements} & set(case.lost())
    assert_policies_hold(problem, after.placements)
    assert_told_truly(problem, after)
    assert_bounds_hold(after, planned(problem))


@on_cases
def test_a_repair_moves_nothing_healthy_and_stops_it_only_for_who_comes_first(case: Case) -> None:
    before, after, problem = repaired(case)
    healthy = [p for p in before.placements if p.pool not in case.lost()]
    change = diff(after, healthy)
    assert change.move == ()
    policies = {d.deployment.name: d.deployment.policy for d in problem.demands}
    started = [policies[p.deployment].priority for p in change.place]
    for stopped in change.evict:
        policy = policies[stopped.deployment]
        # What is left of it may be spot above its share; else somebody of a higher class came.
        assert policy.spot_share_max is not None or min(started, default=9) < policy.priority


@on_cases
def test_the_partial_check_of_a_repair_is_as_strict_as_the_whole_one(case: Case) -> None:
    before, after, problem = repaired(case)
    touched = touched_by(problem, before, after)
    assert violations(after, problem, touched) == ()
    for broken in broken_ways(case, after, touched):
        whole = {(v.rule, v.subject) for v in violations(broken, problem) if v.rule != "cost"}
        part = {(v.rule, v.subject) for v in violations(broken, problem, touched)}
        assert part == whole


def touched_by(problem: PlacementProblem, before: PlacementPlan, after: PlacementPlan) -> Touched:
    """Return who and what differs between two plans, with those who keep apart from them."""
    one, other = ({(p.deployment, p.pool, p.count) for p in x.placements} for x in (before, after))
    names = {deployment for deployment, _, _ in one ^ other}
    names |= {
        d.deployment.name for d in problem.demands if names & set(d.deployment.policy.anti_affinity)
    }
    return Touched(
        deployments=frozenset(names), pools=frozenset(pool for _, pool, _ in one ^ other)
    )


def broken_ways(case: Case, plan: PlacementPlan, touched: Touched) -> list[PlacementPlan]:
    """Return plans that differ from a good one in what a repair may have done wrong."""
    mine = [p for p in plan.placements if p.deployment in touched.deployments]
    mine = [p for p in mine if p.pool in touched.pools]
    if not mine:
        return []
    chosen = case.one_of(mine)
    rest = tuple(p for p in plan.placements if p is not chosen)
    others = tuple(
        e for e in plan.envelopes if (e.deployment, e.pool) != (chosen.deployment, chosen.pool)
    )
    envelope = next(e for e in plan.envelopes if e not in others)

    def with_count(count: int, pool: str = chosen.pool, ceiling: int = 0) -> PlacementPlan:
        moved = replace(chosen, count=count, pool=pool)
        granted = replace(
            envelope, pool=pool, floor=count, target=count, ceiling=max(count, ceiling)
        )
        return replace(plan, placements=(*rest, moved), envelopes=(*others, granted))

    free = [
        pool
        for pool in sorted(touched.pools)
        if not any((p.deployment, p.pool) == (chosen.deployment, pool) for p in plan.placements)
    ]
    return [
        replace(plan, placements=rest, envelopes=others),
        with_count(chosen.count + 1),
        with_count(chosen.count + 50),
        with_count(chosen.count, ceiling=chosen.count + 50),
        *(with_count(chosen.count, pool) for pool in free),
    ]
