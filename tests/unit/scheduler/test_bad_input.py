"""Input that is wrong, huge or contradicts itself: a clear refusal, or a plan that explains itself.

On both paths, within seconds, and never an exception from inside a solver. Numbers that no value
can hold are in test_constraints.
"""

from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem
from scheduler.session import Session
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import (
    REPLICAS_MAX,
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Scaling,
    Spread,
    Tolerate,
)
from skerry.fleet.pool import CapacityClass, Pool
from tests.unit.scheduler.fleets import (
    GIB,
    a_deployment,
    a_plane,
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

pytestmark = pytest.mark.timeout(30)
MANY = 100_000
SOLVERS = {"cp-sat": SolveLimits(), "pipeline": SolveLimits(pairs_max=-1)}
BOTH = pytest.mark.parametrize("solver", list(SOLVERS))


def checked(problem: PlacementProblem, solver: str) -> PlacementPlan:
    """Return the plan of this solver, valid, and no fallback after a fault of it."""
    plan = solve(problem, SOLVERS[solver])
    assert violations(plan, problem) == ()
    assert (plan.solver, plan.solver_reason) == (solver, "")
    return plan


def counts(plan: PlacementPlan) -> dict[str, int]:
    return {f"{p.deployment} {p.pool}": p.count for p in plan.placements}


@BOTH
def test_an_empty_fleet_leaves_all_unplaced_and_says_so(solver: str) -> None:
    plan = checked(a_problem((), (wanting(2),)), solver)
    assert [u.replicas for u in plan.unplaced] == [2]
    assert plan.unplaced[0].reason.startswith("needs ")
    assert checked(a_problem((), ()), solver).placements == ()


@BOTH
def test_pools_without_a_node_are_a_fleet_without_room(solver: str) -> None:
    empty = (a_pool("aws", a_shape(nodes=0)), a_pool("fra", a_shape(nodes=0)))
    plan = checked(a_problem(empty, (wanting(2),)), solver)
    assert [u.replicas for u in plan.unplaced] == [2]
    assert {r.reason for r in plan.rejections} == {"pool has no node that is fit for work"}


@BOTH
def test_no_demand_stops_what_runs_and_nothing_else(solver: str) -> None:
    pools = (a_pool("aws"), a_pool("fra"))
    problem = a_problem(pools, (), current=(runs(2, "gone", "fra--cpu"),))
    plan = checked(problem, solver)
    assert (plan.placements, plan.unplaced, plan.shed) == ((), (), ())


@BOTH
@pytest.mark.parametrize("nodes", [10**6, 10**7])
def test_one_pool_of_millions_of_nodes_is_placed_on_at_once(solver: str, nodes: int) -> None:
    odd = ResourceShape(accelerator="cpu", accelerators=3, host_memory_bytes=200 * GIB)
    wide = ResourceShape(accelerator="cpu", accelerators=16)
    vast = a_pool("vast", a_shape(nodes=nodes))
    demands = tuple(
        wanting(REPLICAS_MAX, a_deployment(name, shapes=(shape,), replicas=(0, REPLICAS_MAX)))
        for name, shape in (("odd", odd), ("wide", wide))
    )
    problem = a_problem((vast, a_pool("fra")), demands, reserve_fraction=0.1)
    plan = checked(problem, solver)
    assert counts(plan) == {"odd vast--cpu": REPLICAS_MAX, "wide vast--cpu": REPLICAS_MAX}
    current = replace(problem, current=plan.placements)
    assert counts(checked(current, solver)) == counts(plan)


def test_losing_a_pool_of_millions_of_nodes_is_repaired() -> None:
    pools = (a_pool("vast", a_shape(nodes=10**7)), a_pool("fra", a_shape(nodes=5)))
    session = Session(SOLVERS["pipeline"])
    plan = session.solve(a_problem(pools, (wanting(50, a_deployment(replicas=(0, 50))),)))
    after = session.repair(plan, ["vast--cpu"])
    assert counts(after) == {"demo fra--cpu": 40}
    assert [u.replicas for u in after.unplaced] == [10]


@BOTH
def test_the_largest_numbers_that_are_allowed_do_not_overflow(solver: str) -> None:
    dear = a_pool("dear", a_shape(nodes=10**7, per_node=1024), some_terms(10_000.0))
    big = ResourceShape(accelerator="cpu", accelerators=1024, throughput_tokens_per_second=1e300)
    small = ResourceShape(accelerator="other", throughput_tokens_per_second=1e-300)
    demo = a_deployment(shapes=(big, small), replicas=(0, REPLICAS_MAX))
    problem = a_problem((dear,), (wanting(REPLICAS_MAX, demo),), move_cost_dollars=1e6)
    assert counts(checked(problem, solver)) == {"demo dear--cpu": REPLICAS_MAX}


@BOTH
def test_a_demand_below_what_can_be_counted_is_met_with_one_replica(solver: str) -> None:
    shapes = (ResourceShape(accelerator="cpu", throughput_tokens_per_second=1e300),)
    tiny = DemandedDeployment(deployment=a_deployment(shapes=shapes), tokens_per_second=1e-300)
    plan = checked(a_problem((a_pool("fra"),), (tiny,)), solver)
    assert sum(counts(plan).values()) <= 1
    assert plan.unplaced == ()


@BOTH
def test_a_policy_that_names_a_hundred_thousand_of_everything_is_read_once(solver: str) -> None:
    names = tuple(f"region-{number}" for number in range(MANY))
    policy = PlacementPolicy(
        regions=("region-fra", *names),
        clouds=("cloud-fra", *names),
        residency_zones=("eu", *names),
        anti_affinity=names,
        latency=(LatencyLimit(client_region="eu", seconds_max=1.0),),
    )
    labels = tuple((name, "x") for name in names)
    plane = replace(a_plane("fra", zones=("eu", *names)), labels=labels)
    pool = Pool(plane=plane, shape=a_shape(), terms=some_terms())
    demo = wanting(1, replace(a_deployment(policy=policy), labels=labels))
    problem = a_problem((pool, a_pool("far")), (demo,))
    # How far "eu" is from anywhere is not told.
    assert len(checked(problem, solver).unplaced) == 1
    anywhere = replace(demo.deployment, policy=replace(policy, latency=()))
    near = replace(demo, deployment=anywhere, pools=("fra--cpu", "nowhere--cpu"))
    assert counts(checked(replace(problem, demands=(near,)), solver)) == {"demo fra--cpu": 1}


ON_SPOT = a_pool("spot", terms=some_terms(0.1, kind=CapacityClass.SPOT))
FIRM = a_pool("firm")


@BOTH
@pytest.mark.parametrize(
    ("policy", "placed", "word"),
    [
        (PlacementPolicy(residency_zones=("nowhere",)), 0, "needs 4"),
        (PlacementPolicy(regions=("region-spot",), clouds=("cloud-firm",)), 0, "needs 4"),
        (PlacementPolicy(cost_per_hour_max=0.0), 0, "needs 4"),
        (PlacementPolicy(cost_per_hour_max=0.05), 0, "needs 4"),
        (PlacementPolicy(cost_per_hour_max=0.2), 2, "needs 2"),
        (PlacementPolicy(capacity_classes=("spot",), spot_share_max=0.0), 0, "needs 4"),
        (PlacementPolicy(capacity_classes=("spot",), spot_share_max=0.5), 0, "needs 4"),
    ],
    ids=["residency", "region-and-cloud", "no-money", "too-little", "half", "no-spot", "half-spot"],
)
def test_what_no_pool_can_keep_leaves_an_explained_partial_plan(
    policy: PlacementPolicy, placed: int, word: str, solver: str
) -> None:
    problem = a_problem((ON_SPOT, FIRM), (wanting(4, a_deployment(policy=policy)),))
    plan = checked(problem, solver)
    assert sum(counts(plan).values()) == placed
    assert [u.replicas for u in plan.unplaced] == [4 - placed]
    assert plan.unplaced[0].reason.startswith(word)
    assert sum(unmet(plan)) == pytest.approx((4 - placed) / 4)


def unmet(plan: PlacementPlan) -> tuple[float, ...]:
    return tuple(level.value for level in plan.levels if level.level.startswith("unmet"))


@BOTH
def test_a_maximum_below_what_the_promise_needs_serves_all_and_tells_the_shortfall(
    solver: str,
) -> None:
    policy = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.PLANE, keep=1.0))
    demo = a_deployment(policy=policy, replicas=(4, 4))
    plan = checked(a_problem((ON_SPOT, FIRM), (wanting(4, demo),)), solver)
    assert sum(counts(plan).values()) == 4
    assert plan.unplaced == ()
    assert next(level.value for level in plan.levels if level.level == "survival") == 4.0


@BOTH
def test_more_domains_than_exist_are_spread_over_as_far_as_they_do(solver: str) -> None:
    policy = PlacementPolicy(spread=Spread(domain=FailureDomain.CLOUD, domains_min=REPLICAS_MAX))
    demo = a_deployment(policy=policy, replicas=(0, 5))
    plan = checked(a_problem((ON_SPOT, FIRM), (wanting(4, demo),)), solver)
    assert set(counts(plan)) == {"demo firm--cpu", "demo spot--cpu"}
    assert next(level.value for level in plan.levels if level.level == "survival") == 3.0


@BOTH
def test_nobody_may_share_a_plane_and_there_is_one(solver: str) -> None:
    names = tuple(f"demo-{n}" for n in range(6))
    demands = tuple(
        wanting(
            1,
            a_deployment(
                name,
                policy=PlacementPolicy(
                    priority=n % 4, anti_affinity=tuple(x for x in names if x != name)
                ),
            ),
        )
        for n, name in enumerate(names)
    )
    plan = checked(a_problem((FIRM,), demands), solver)
    assert set(counts(plan)) <= {"demo-0 firm--cpu", "demo-4 firm--cpu"}
    assert len(plan.unplaced) == 5


@BOTH
def test_no_move_is_allowed_and_what_runs_breaks_the_policy(solver: str) -> None:
    policy = PlacementPolicy(spot_share_max=0.0, residency_zones=("eu",))
    demo = a_deployment(policy=policy, replicas=(2, 4))
    pools = (ON_SPOT, a_pool(a_plane("firm", zones=("eu",))))
    problem = a_problem(pools, (wanting(2, demo),), current=(runs(2, "demo", "spot--cpu"),))
    plan = checked(replace(problem, moves_max=0), solver)
    # What may not stay is no healthy replica, so that replacing it is no move.
    assert counts(plan) == {"demo firm--cpu": 2}


@BOTH
def test_more_runs_than_there_is(solver: str) -> None:
    """The plane shrank, and the deployment's maximum fell below what runs."""
    demo = a_deployment(replicas=(1, 20))
    current = (runs(20, "demo", "firm--cpu"),)
    plan = checked(a_problem((FIRM,), (wanting(20, demo),), current=current), solver)
    assert counts(plan) == {"demo firm--cpu": 8}
    small = replace(demo, scaling=Scaling(min_replicas=1, max_replicas=2))
    plan = checked(a_problem((FIRM,), (wanting(20, small),), current=current), solver)
    assert counts(plan) == {"demo firm--cpu": 2}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: ResourceShape(accelerator="cpu", accelerators=0), "at least 1 accelerator"),
        (lambda: ResourceShape(accelerator="cpu", accelerators=-1), "at least 1 accelerator"),
        (lambda: ResourceShape(accelerator="cpu", host_memory_bytes=-1), "host_memory_bytes"),
        (lambda: Scaling(min_replicas=3, max_replicas=2), "min_replicas"),
        (lambda: Scaling(min_replicas=-1, max_replicas=2), "min_replicas"),
        (lambda: Scaling(min_replicas=0, max_replicas=10**9), "max_replicas"),
        (lambda: wanting(-1), "wants -1 replicas"),
        (lambda: wanting(10**9), "wants 1000000000 replicas"),
        (lambda: PlacementPolicy(priority=4), "priority must be 0..3"),
        (lambda: Spread(domain=FailureDomain.PLANE, domains_min=0), "at least 1"),
        (lambda: Tolerate(domain=FailureDomain.PLANE, keep=1.5), "at most 1"),
        (lambda: a_deployment(shapes=()), "at least one accelerator kind"),
        (
            lambda: a_deployment(shapes=(ResourceShape(accelerator="cpu"),) * 2),
            "appears twice under resources",
        ),
        (lambda: a_deployment("No Name!"), "deployment"),
        (lambda: replace(a_problem((), ()), moves_max=-1), "moves_max must not be negative"),
        (
            lambda: DemandedDeployment(deployment=a_deployment(), tokens_per_second=1.0),
            "say replicas instead",
        ),
    ],
)
def test_what_is_no_number_of_anything_is_refused_with_what_is_wrong(
    broken: object, message: str
) -> None:
    assert callable(broken)
    with pytest.raises(ValueError, match=message):
        broken()


@BOTH
def test_a_reason_stays_a_sentence_however_much_a_policy_names(solver: str) -> None:
    policy = PlacementPolicy(regions=tuple(f"region-{number}" for number in range(MANY)))
    plan = checked(a_problem((FIRM,), (wanting(1, a_deployment(policy=policy)),)), solver)
    told = [r.reason for r in plan.rejections] + [u.reason for u in plan.unplaced]
    assert max(len(reason) for reason in told) < 2_000
