"""Safety sentences about placement, on small random fleets: the exact path."""

from dataclasses import replace
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from scheduler.check import violations
from scheduler.exact import build_model, improve, solve_levels
from scheduler.greedy import solve_greedy
from scheduler.grid import Counts, Grid, build_grid
from scheduler.levels import PROOF_LEVELS, SURVIVAL, evaluate
from scheduler.plan import PlacementPlan, diff
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from scheduler.solve import solve
from scheduler.whatif import Lose, domains_of, what_if
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.placement import Placement
from tests.properties.scheduler_problems import (
    EXACT,
    GREEDY,
    MODEST,
    Case,
    applied,
    larger,
    level,
    on_cases,
    planned,
    problems,
    unmet_of,
)


@on_cases
def test_no_plan_breaks_a_rule_of_the_independent_checker(case: Case) -> None:
    problem = case.problem
    for limits in (EXACT, GREEDY):
        assert violations(planned(problem, limits), problem) == ()
    assert planned(problem).solver == "cp-sat"


@on_cases
def test_never_more_replicas_on_a_pool_than_it_has_accelerators(case: Case) -> None:
    problem = case.problem
    shapes = {d.deployment.name: d.deployment.revision for d in problem.demands}
    plan = planned(problem)
    for pool in problem.pools:
        taken = 0
        for envelope in plan.envelopes:
            if envelope.pool == pool.name:
                shape = shapes[envelope.deployment].shape_on(pool.shape.accelerator)
                assert shape is not None
                taken += envelope.ceiling * shape.accelerators
        assert taken <= pool.shape.accelerators


@on_cases
def test_residency_holds_for_every_placement(case: Case) -> None:
    problem = case.problem
    zones = {pool.name: set(pool.plane.residency_zones) for pool in problem.pools}
    policies_by_name = {d.deployment.name: d.deployment.policy for d in problem.demands}
    for placement in planned(problem).placements:
        wanted = policies_by_name[placement.deployment].residency_zones
        assert not wanted or set(wanted) & zones[placement.pool]


@on_cases
def test_the_plan_depends_on_nothing_but_the_problem_not_on_its_order(case: Case) -> None:
    assert planned(case.problem) == solve(case.problem) == solve(case.shuffled())


@on_cases
def test_a_plan_applied_and_solved_again_changes_nothing(case: Case) -> None:
    problem = case.problem
    plan = planned(problem)
    again = solve(applied(problem, plan))
    assert diff(again, plan.placements).is_empty
    assert again.envelopes == plan.envelopes


@on_cases
def test_more_capacity_never_leaves_more_of_class_0_unmet(case: Case) -> None:
    before = planned(case.problem)
    after = solve(larger(case.problem, case.one_of(case.problem.pools)))
    assert level(after, "unmet-class-0") <= level(before, "unmet-class-0")


@on_cases
def test_exact_is_never_worse_than_greedy_level_by_level(case: Case) -> None:
    problem = case.problem
    grid = build_grid(problem)
    start = solve_greedy(grid)
    answer = improve(grid, start, (2.0, 1.0))
    assert answer is not None
    values = evaluate(grid, answer.counts)
    assert values <= evaluate(grid, start)
    assert all(bound <= value for bound, value in zip(answer.bounds, values, strict=True))


@MODEST
@given(problems(simple=True), st.data())
def test_losing_a_plane_moves_no_healthy_replica_unless_lost_ones_need_its_room(
    problem: PlacementProblem, data: st.DataObject
) -> None:
    problem = replace(problem, current=(), bars=(), move_cost_dollars=10_000.0)
    running = solve(problem).placements
    lost = data.draw(st.sampled_from(sorted({pool.plane.name for pool in problem.pools})))
    gone = {pool.name for pool in problem.pools if pool.plane.name == lost}
    bars = tuple(PoolBar(pool=name, reason="lost", keeps_current=False) for name in sorted(gone))
    after = replace(problem, current=running, bars=bars)
    plan = solve(after)
    healthy = {(p.deployment, p.pool): p.count for p in running if p.pool not in gone}
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    if any(placed.get(key, 0) < count for key, count in healthy.items()):
        counts = counts_of(after, placed)
        held = best_counts_around(after, healthy)
        unmet = evaluate(build_grid(after), counts)[:SURVIVAL]
        assert unmet < evaluate(build_grid(after), held)[:SURVIVAL]


def counts_of(problem: PlacementProblem, placed: dict[tuple[str, str], int]) -> Counts:
    columns = build_grid(problem).columns
    return tuple(placed.get((column.deployment, column.pool), 0) for column in columns)


def best_counts_around(problem: PlacementProblem, held: dict[tuple[str, str], int]) -> Counts:
    """Return the best counts among those that leave every held replica where it is."""
    model = build_model(build_grid(problem))
    start = counts_of(problem, held)
    for variable, count in zip(model.count, start, strict=True):
        model.cp.add(variable >= count)
    return solve_levels(model, start, (2.0, 1.0)).counts


@on_cases
def test_what_is_unplaced_is_said_with_a_reason(case: Case) -> None:
    problem = case.problem
    plan = planned(problem)
    short = sum(item.value for item in plan.levels if item.level.startswith("unmet")) > 0
    assert short == bool(plan.unplaced)
    assert all(item.reason.startswith("needs ") for item in plan.unplaced)


@on_cases
def test_a_bigger_fleet_never_serves_less_of_a_higher_class(case: Case) -> None:
    assert unmet_of(solve(larger(case.problem))) <= unmet_of(planned(case.problem))


@on_cases
def test_losing_a_domain_never_breaks_residency(
    case: Case,
) -> None:
    problem = case.problem
    domain = case.one_of(tuple(FailureDomain))
    lost = Lose(domain=domain, name=case.one_of(domains_of(problem, domain)))
    zones = {pool.name: set(pool.plane.residency_zones) for pool in problem.pools}
    wanted = {d.deployment.name: d.deployment.policy.residency_zones for d in problem.demands}
    answer = what_if(problem, lost)
    for placement in answer.plan.placements:
        allowed = wanted[placement.deployment]
        assert not allowed or set(allowed) & zones[placement.pool]


@on_cases
def test_greedy_is_never_lexicographically_better(case: Case) -> None:
    problem = case.problem
    exact, greedy = planned(problem), planned(problem, GREEDY)
    values = [tuple(item.value for item in plan.levels[:PROOF_LEVELS]) for plan in (exact, greedy)]
    assert values[0] <= values[1]


@on_cases
def test_every_bound_is_one_that_the_greedy_plan_does_not_go_below(
    case: Case,
) -> None:
    problem = case.problem
    exact, greedy = planned(problem), planned(problem, GREEDY)
    for ours, theirs in zip(exact.levels[:PROOF_LEVELS], greedy.levels, strict=False):
        assert ours.bound <= theirs.value + 1e-6
        if theirs.value > ours.value:
            break  # a bound counts with the levels before it as they are


@on_cases
def test_renaming_that_keeps_the_order_changes_nothing_but_names(
    case: Case,
) -> None:
    problem = case.problem

    def plane(name: str) -> str:
        return f"x-{name}"

    def pool(name: str) -> str:
        return plane(name)

    def deployment(name: str) -> str:
        return f"{name[0]}-y{name[1:]}"

    def demand(demanded: DemandedDeployment) -> DemandedDeployment:
        old = demanded.deployment
        policy = replace(
            old.policy, anti_affinity=tuple(deployment(n) for n in old.policy.anti_affinity)
        )
        return replace(demanded, deployment=replace(old, name=deployment(old.name), policy=policy))

    renamed = replace(
        problem,
        pools=tuple(
            replace(p, plane=replace(p.plane, name=plane(p.plane.name))) for p in problem.pools
        ),
        demands=tuple(demand(d) for d in problem.demands),
        current=tuple(
            replace(p, deployment=deployment(p.deployment), pool=pool(p.pool))
            for p in problem.current
        ),
        bars=tuple(replace(bar, pool=pool(bar.pool)) for bar in problem.bars),
    )
    ours, theirs = planned(problem), solve(renamed)
    assert {(deployment(p.deployment), pool(p.pool), p.count) for p in ours.placements} == {
        (p.deployment, p.pool, p.count) for p in theirs.placements
    }
    assert ours.levels == theirs.levels


@st.composite
def tiny_problems(draw: st.DrawFn) -> PlacementProblem:
    """Draw a problem of few enough replicas to try every plan there is."""
    problem = draw(problems())
    pools = problem.pools[:3]
    names = {pool.name for pool in pools}
    demands = tuple(
        replace(
            d,
            replicas=min(d.replicas, 3),
            deployment=replace(
                d.deployment, scaling=replace(d.deployment.scaling, min_replicas=0, max_replicas=3)
            ),
        )
        for d in problem.demands[:2]
    )
    kept = {d.deployment.name for d in demands}
    return replace(
        problem,
        pools=pools,
        demands=demands,
        current=tuple(p for p in problem.current if p.pool in names and p.deployment in kept),
        bars=tuple(bar for bar in problem.bars if bar.pool in names),
    )


@MODEST
@given(tiny_problems())
def test_on_tiny_fleets_no_plan_of_all_there_are_is_better(problem: PlacementProblem) -> None:
    grid = build_grid(problem)
    best = min(
        evaluate(grid, counts)[:PROOF_LEVELS]
        for counts in product(*(range(column.count_max + 1) for column in grid.columns))
        if keeps_every_rule(grid, counts)
    )
    plan = solve(problem)
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    assert evaluate(grid, counts_of(problem, placed))[:PROOF_LEVELS] == best
    assert plan.optimal


def keeps_every_rule(grid: Grid, counts: Counts) -> bool:
    """Judge counts as the independent checker does, by the rules that speak of counts."""
    if any(sum(counts[i] for i in want.columns) > want.replicas_max for want in grid.wants):
        return False
    named = [
        Placement(deployment=column.deployment, pool=column.pool, count=count, reason="tried")
        for column, count in zip(grid.columns, counts, strict=True)
        if count
    ]
    tried = PlacementPlan(
        placements=tuple(named),
        envelopes=(),
        unplaced=(),
        rejections=(),
        levels=(),
        cost_per_hour=0.0,
        solver="tried",
        optimal=False,
    )
    # What a whole plan says beside its counts is not there to be judged; ceilings are the counts.
    said = {"envelope", "demand", "cost", "shed"}
    rules = {violation.rule for violation in violations(tried, grid.problem)}
    return not rules - said and not _over_cost(grid, counts)


def _over_cost(grid: Grid, counts: Counts) -> bool:
    return any(
        want.cost_microdollars_max is not None
        and sum(grid.columns[i].price_microdollars * counts[i] for i in want.columns)
        > want.cost_microdollars_max
        for want in grid.wants
    )
