"""Safety sentences about placement, on small random fleets.

Fleets have odd node sizes, scarce memory, several classes, spread, survival, residency, current
placements and bars, so that every constraint binds in some of them.
"""

import random
from dataclasses import replace
from itertools import product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.check import violations
from scheduler.exact import build_model, improve, solve_levels
from scheduler.greedy import solve_greedy
from scheduler.grid import Counts, Grid, build_grid
from scheduler.levels import PROOF_LEVELS, SURVIVAL, evaluate
from scheduler.plan import PlacementPlan, diff
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar, RegionLatency
from scheduler.solve import SolveLimits, solve
from scheduler.whatif import Lose, domains_of, what_if
from skerry.fleet.deployment import (
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Spread,
    Tolerate,
)
from skerry.fleet.placement import Placement
from skerry.fleet.pool import CapacityClass, Pool
from tests.unit.scheduler.fleets import (
    GIB,
    a_deployment,
    a_plane,
    a_pool,
    a_problem,
    a_shape,
    some_terms,
    wanting,
)

KINDS = ("cpu", "H100")
ZONES = ("eu", "us")
# "east" is near, "west" too far, and how far anything is from "moon" is not told.
NEAR = (LatencyLimit(client_region="sea", seconds_max=0.08),)
LATENCIES = (
    RegionLatency(client_region="sea", plane_region="east", seconds=0.08),
    RegionLatency(client_region="sea", plane_region="west", seconds=0.081),
)
modest = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
GREEDY = SolveLimits(columns_max=0)


@st.composite
def pools(draw: st.DrawFn, *, sizes: tuple[int, ...]) -> tuple[Pool, ...]:
    """Draw up to four planes of two clouds with one or two pools each."""
    found: list[Pool] = []
    for number in range(draw(st.integers(2, 4))):
        plane = a_plane(
            f"plane-{number}",
            cloud=draw(st.sampled_from(("aws", "gcp"))),
            region=draw(st.sampled_from(("east", "west"))),
            zones=draw(st.sampled_from(((), ("eu",), ("us",), ("eu", "us")))),
        )
        for kind in draw(st.sampled_from((KINDS[:1], KINDS, KINDS))):
            shape = a_shape(
                kind=kind,
                nodes=draw(st.sampled_from((0, 1, 2, 2, 3, 3))),
                per_node=draw(st.sampled_from(sizes)),
                memory_gib=draw(st.sampled_from((6, 16, 64, 64))),
            )
            terms = some_terms(
                draw(st.sampled_from((0.5, 1.0, 1.0, 1.0, 1.01, 1.01, 2.0, 2.0, 0.0, None))),
                kind=draw(st.sampled_from(tuple(CapacityClass))),
                cordoned=draw(st.integers(0, 9)) == 0,
            )
            found.append(a_pool(plane, shape, terms))
    return tuple(found)


@st.composite
def policies(draw: st.DrawFn, *, simple: bool) -> PlacementPolicy:
    domain = draw(st.sampled_from(tuple(FailureDomain)))
    spread = Spread(domain=domain, domains_min=draw(st.integers(1, 3)))
    tolerate = Tolerate(domain=domain, keep=draw(st.sampled_from((0.5, 0.9, 1.0))))
    return PlacementPolicy(
        priority=draw(st.integers(0, 3)),
        residency_zones=draw(st.sampled_from(((), (), (), (), ("eu",), ZONES))),
        capacity_classes=draw(st.sampled_from(((), (), (), ("on_demand", "spot")))),
        spread=spread if not simple and draw(st.booleans()) else None,
        tolerate=tolerate if not simple and draw(st.booleans()) else None,
        cost_per_hour_max=draw(st.sampled_from((None, None, None, None, 4.0))),
        # Where firm replicas are lost, healthy spot ones above their share must go too.
        spot_share_max=None if simple else draw(st.sampled_from((None, None, 0.0, 0.34, 0.5))),
        anti_affinity=()
        if simple
        else draw(st.sampled_from(((), (), ("e-0",), ("e-1", "no-one")))),
        latency=() if simple else draw(st.sampled_from(((), (), (), NEAR))),
    )


@st.composite
def demands(draw: st.DrawFn, *, simple: bool) -> tuple[DemandedDeployment, ...]:
    found: list[DemandedDeployment] = []
    for number in range(draw(st.integers(1, 4))):
        kinds = draw(st.sampled_from((KINDS[:1], KINDS, KINDS)))
        shapes = tuple(
            ResourceShape(
                accelerator=kind,
                accelerators=draw(
                    st.sampled_from((1, 1, 2, 4, 8, 16, *((3,) if not simple else ())))
                ),
                host_memory_bytes=0 if simple else draw(st.sampled_from((0, 1, 3, 5))) * GIB,
                throughput_tokens_per_second=(
                    None if simple else draw(st.sampled_from((None, 100.0, 300.0)))
                ),
            )
            for kind in kinds
        )
        least, policy = draw(st.integers(0, 2)), draw(policies(simple=simple))
        if number % 2:  # only the others keep apart from these
            policy = replace(policy, anti_affinity=())
        deployment = a_deployment(
            f"{'de'[number % 2]}-{number // 2}",
            shapes=shapes,
            replicas=(least, least + draw(st.integers(0, 8))),
            policy=policy,
        )
        found.append(wanting(draw(st.integers(0, 8)), deployment))
    return tuple(found)


@st.composite
def problems(draw: st.DrawFn, *, simple: bool = False) -> PlacementProblem:
    """Draw a problem; what runs is half of the time the plan of another demand.

    A simple one has no promises, and sizes and memory by which a pool's total decides what fits.
    """
    supply = draw(pools(sizes=(1, 2, 4, 8) if simple else (1, 2, 3, 4, 8)))
    wanted = draw(demands(simple=simple))
    problem = a_problem(
        supply,
        wanted,
        reserve_fraction=draw(st.sampled_from((0.0, 0.1, 0.5))),
    )
    problem = replace(
        problem,
        latencies=LATENCIES,
        moves_max=None if simple else draw(st.sampled_from((None, None, 0, 1, 3))),
    )
    if draw(st.booleans()):
        earlier = tuple(replace(d, replicas=draw(st.integers(0, 6))) for d in wanted)
        running = solve(replace(problem, demands=earlier), GREEDY).placements
        problem = replace(problem, current=running)
    if draw(st.integers(0, 3)) == 0:
        bar = PoolBar(
            pool=draw(st.sampled_from([pool.name for pool in supply])),
            reason="barred",
            keeps_current=draw(st.booleans()),
        )
        problem = replace(problem, bars=(bar,))
    return problem


def applied(problem: PlacementProblem, plan: PlacementPlan) -> PlacementProblem:
    return replace(problem, current=plan.placements)


def level(plan: PlacementPlan, name: str) -> float:
    return next(item.value for item in plan.levels if item.level == name)


@modest
@given(problems())
def test_no_plan_breaks_a_rule_of_the_independent_checker(problem: PlacementProblem) -> None:
    for limits in (SolveLimits(), GREEDY):
        plan = solve(problem, limits)
        assert violations(plan, problem) == ()
    assert solve(problem).solver == "cp-sat"


@modest
@given(problems())
def test_never_more_replicas_on_a_pool_than_it_has_accelerators(problem: PlacementProblem) -> None:
    shapes = {d.deployment.name: d.deployment.revision for d in problem.demands}
    plan = solve(problem)
    for pool in problem.pools:
        taken = 0
        for envelope in plan.envelopes:
            if envelope.pool == pool.name:
                shape = shapes[envelope.deployment].shape_on(pool.shape.accelerator)
                assert shape is not None
                taken += envelope.ceiling * shape.accelerators
        assert taken <= pool.shape.accelerators


@modest
@given(problems())
def test_residency_holds_for_every_placement(problem: PlacementProblem) -> None:
    zones = {pool.name: set(pool.plane.residency_zones) for pool in problem.pools}
    policies_by_name = {d.deployment.name: d.deployment.policy for d in problem.demands}
    for placement in solve(problem).placements:
        wanted = policies_by_name[placement.deployment].residency_zones
        assert not wanted or set(wanted) & zones[placement.pool]


@modest
@given(problems(), st.integers(0, 2**16))
def test_the_plan_depends_on_nothing_but_the_problem_not_on_its_order(
    problem: PlacementProblem, seed: int
) -> None:
    shuffled = random.Random(seed)
    other = replace(
        problem,
        pools=tuple(shuffled.sample(problem.pools, len(problem.pools))),
        demands=tuple(shuffled.sample(problem.demands, len(problem.demands))),
        current=tuple(shuffled.sample(problem.current, len(problem.current))),
    )
    assert solve(problem) == solve(problem) == solve(other)


@modest
@given(problems())
def test_a_plan_applied_and_solved_again_changes_nothing(problem: PlacementProblem) -> None:
    plan = solve(problem)
    again = solve(applied(problem, plan))
    assert diff(again, plan.placements).is_empty
    assert again.envelopes == plan.envelopes


@modest
@given(problems(), st.data())
def test_more_capacity_never_leaves_more_of_class_0_unmet(
    problem: PlacementProblem, data: st.DataObject
) -> None:
    grown = data.draw(st.sampled_from(problem.pools))
    shape = replace(grown.shape, nodes=grown.shape.nodes + 1)
    larger = replace(
        problem,
        pools=tuple(replace(p, shape=shape) if p is grown else p for p in problem.pools),
    )
    before, after = solve(problem), solve(larger)
    assert level(after, "unmet-class-0") <= level(before, "unmet-class-0")


@modest
@given(problems())
def test_exact_is_never_worse_than_greedy_level_by_level(problem: PlacementProblem) -> None:
    grid = build_grid(problem)
    start = solve_greedy(grid)
    answer = improve(grid, start, deterministic_time_max=2.0)
    assert answer is not None
    values = evaluate(grid, answer.counts)
    assert values <= evaluate(grid, start)
    assert all(bound <= value for bound, value in zip(answer.bounds, values, strict=True))


@modest
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
    return solve_levels(model, start, deterministic_time_max=2.0).counts


@modest
@given(problems())
def test_what_is_unplaced_is_said_with_a_reason(problem: PlacementProblem) -> None:
    plan = solve(problem)
    short = sum(item.value for item in plan.levels if item.level.startswith("unmet")) > 0
    assert short == bool(plan.unplaced)
    assert all(item.reason.startswith("needs ") for item in plan.unplaced)


@modest
@given(problems())
def test_a_bigger_fleet_never_serves_less_of_a_higher_class(problem: PlacementProblem) -> None:
    grown = tuple(
        replace(pool, shape=replace(pool.shape, nodes=pool.shape.nodes + 1))
        for pool in problem.pools
    )
    before, after = solve(problem), solve(replace(problem, pools=grown))
    assert unmet_of(after) <= unmet_of(before)


def unmet_of(plan: PlacementPlan) -> tuple[float, ...]:
    return tuple(item.value for item in plan.levels if item.level.startswith("unmet"))


@modest
@given(problems(), st.data())
def test_losing_a_domain_never_breaks_residency(
    problem: PlacementProblem, data: st.DataObject
) -> None:
    domain = data.draw(st.sampled_from(tuple(FailureDomain)))
    lost = Lose(domain=domain, name=data.draw(st.sampled_from(domains_of(problem, domain))))
    zones = {pool.name: set(pool.plane.residency_zones) for pool in problem.pools}
    wanted = {d.deployment.name: d.deployment.policy.residency_zones for d in problem.demands}
    answer = what_if(problem, lost)
    for placement in answer.plan.placements:
        allowed = wanted[placement.deployment]
        assert not allowed or set(allowed) & zones[placement.pool]


@modest
@given(problems())
def test_greedy_is_never_lexicographically_better(problem: PlacementProblem) -> None:
    exact, greedy = solve(problem), solve(problem, GREEDY)
    values = [tuple(item.value for item in plan.levels[:PROOF_LEVELS]) for plan in (exact, greedy)]
    assert values[0] <= values[1]


@modest
@given(problems())
def test_every_bound_is_one_that_the_greedy_plan_does_not_go_below(
    problem: PlacementProblem,
) -> None:
    exact, greedy = solve(problem), solve(problem, GREEDY)
    for ours, theirs in zip(exact.levels[:PROOF_LEVELS], greedy.levels, strict=False):
        assert ours.bound <= theirs.value + 1e-6
        if theirs.value > ours.value:
            break  # a bound counts with the levels before it as they are


@modest
@given(problems())
def test_renaming_that_keeps_the_order_changes_nothing_but_names(
    problem: PlacementProblem,
) -> None:
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
    ours, theirs = solve(problem), solve(renamed)
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


@modest
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
