"""The independent checker: a valid plan broken in each way, and each way is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.plan import LevelValue, PlacementPlan, Shed, Unplaced
from scheduler.problem import PlacementProblem, PoolBar
from scheduler.solve import solve
from skerry.fleet.deployment import LatencyLimit, PlacementPolicy, ResourceShape, Scaling
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import CapacityClass, PlaneIdentity, PoolTerms
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

POLICY = PlacementPolicy(
    residency_zones=("eu",),
    clouds=("cloud-aws",),
    regions=("region-aws",),
    capacity_classes=("on_demand",),
    cost_per_hour_max=6.0,
)
SHAPES = (ResourceShape(accelerator="cpu", accelerators=2, host_memory_bytes=100 * GIB),)
Case = tuple[PlacementPlan, PlacementProblem]


def a_case() -> Case:
    """Return a valid plan: 2 replicas of 2 accelerators on 2 nodes of 8, up to 4 allowed."""
    pool = a_pool(a_plane("aws", zones=("eu",)), a_shape(nodes=2), some_terms(0.5))
    demo = a_deployment(shapes=SHAPES, replicas=(1, 4), policy=POLICY)
    problem = a_problem((pool,), (wanting(2, demo),), reserve_fraction=0.1)
    return solve(problem), problem


def with_count(case: Case, count: int) -> Case:
    plan, problem = case
    placements = tuple(replace(p, count=count) for p in plan.placements)
    envelopes = tuple(
        replace(e, floor=count, target=count, ceiling=max(count, e.ceiling)) for e in plan.envelopes
    )
    return replace(plan, placements=placements, envelopes=envelopes), problem


def with_envelope(case: Case, **change: int) -> Case:
    plan, problem = case
    envelopes = tuple(
        replace(e, **change)  # type: ignore[arg-type]
        for e in plan.envelopes
    )
    return replace(plan, envelopes=envelopes), problem


def with_terms(case: Case, **change: object) -> Case:
    plan, problem = case
    terms = PoolTerms(**{"price_per_accelerator_hour": 0.5, **change})  # type: ignore[arg-type]
    return plan, replace(problem, pools=(replace(problem.pools[0], terms=terms),))


def with_plane(case: Case, **change: object) -> Case:
    plan, problem = case
    plane: PlaneIdentity = replace(problem.pools[0].plane, **change)  # type: ignore[arg-type]
    return plan, replace(problem, pools=(replace(problem.pools[0], plane=plane),))


def with_shape(case: Case, **change: int) -> Case:
    plan, problem = case
    shape = replace(problem.pools[0].shape, **change)  # type: ignore[arg-type]
    return plan, replace(problem, pools=(replace(problem.pools[0], shape=shape),))


def with_bar(case: Case, *, keeps: bool, runs_already: int = 0) -> Case:
    plan, problem = case
    bar = PoolBar(pool="aws--cpu", reason="cordoned", keeps_current=keeps)
    current = (runs(runs_already, "demo", "aws--cpu"),)
    return plan, replace(problem, bars=(bar,), current=current)


def with_kind(case: Case, shape: ResourceShape) -> Case:
    plan, problem = case
    deployment = problem.demands[0].deployment
    other = replace(deployment, revision=replace(deployment.revision, shapes=(shape,)))
    return plan, replace(problem, demands=(wanting(2, other),))


def with_max(case: Case, most: int) -> Case:
    plan, problem = case
    scaling = Scaling(min_replicas=1, max_replicas=most)
    other = replace(problem.demands[0].deployment, scaling=scaling)
    return plan, replace(problem, demands=(wanting(2, other),))


def with_policy(case: Case, **change: object) -> Case:
    """Change what was asked after the plan was made."""
    plan, problem = case
    deployment = problem.demands[0].deployment
    policy = replace(deployment.policy, **change)  # type: ignore[arg-type]
    return plan, replace(problem, demands=(wanting(2, replace(deployment, policy=policy)),))


def with_spot(case: Case, share: float) -> Case:
    plan, problem = with_terms(case, capacity_class=CapacityClass.SPOT)
    return with_policy((plan, problem), spot_share_max=share, capacity_classes=())


def with_neighbour(case: Case) -> Case:
    """Put a deployment on the same pool, from which the first keeps apart."""
    plan, problem = with_policy(case, anti_affinity=("other",))
    other = replace(problem.demands[0].deployment, name="other", policy=PlacementPolicy())
    placements = (replace(plan.placements[0], deployment="other"), *plan.placements)
    envelopes = (replace(plan.envelopes[0], deployment="other"), *plan.envelopes)
    changed = replace(plan, placements=placements, envelopes=envelopes)
    return changed, replace(problem, demands=(*problem.demands, wanting(2, other)))


def with_budget(case: Case, moves: int) -> Case:
    """Let what runs be on another pool, from which the plan moves it."""
    plan, problem = case
    elsewhere = a_pool(a_plane("aws2", cloud="cloud-aws", region="region-aws", zones=("eu",)))
    return plan, replace(
        problem,
        pools=(*problem.pools, elsewhere),
        current=(runs(2, "demo", elsewhere.name),),
        moves_max=moves,
    )


def with_victims(case: Case) -> Case:
    """Let three run and two be wanted more than there are, and nobody say who is shed."""
    plan, problem = with_count(case, 1)
    unplaced = (Unplaced(deployment="demo", replicas=1, reason="full"),)
    running = (runs(3, "demo", "aws--cpu"),)
    return replace(plan, unplaced=unplaced), replace(problem, current=running)


def with_named_pools(case: Case, *pools: str) -> Case:
    plan, problem = case
    return plan, replace(problem, demands=(replace(problem.demands[0], pools=pools),))


def with_plan(case: Case, **change: object) -> Case:
    return replace(case[0], **change), case[1]  # type: ignore[arg-type]


STRAY = Envelope(deployment="demo", pool="gone--cpu", floor=0, target=0, ceiling=1)

PLANTED: tuple[tuple[str, Callable[[Case], Case]], ...] = (
    ("capacity", lambda case: with_count(case, 9)),
    ("capacity", lambda case: with_shape(case, accelerators_per_node=1)),
    ("ceilings", lambda case: with_envelope(case, ceiling=8)),
    ("nodes", lambda case: with_shape(case, host_memory_bytes=150 * GIB)),
    ("nodes", lambda case: with_shape(case, nodes=3, accelerators_per_node=3)),
    ("node", lambda case: with_shape(case, host_memory_bytes=50 * GIB)),
    ("node", lambda case: with_kind(case, ResourceShape(accelerator="cpu", accelerators=12))),
    (
        "nodes",
        lambda case: with_plane(
            with_kind(case, ResourceShape(accelerator="cpu", accelerators=16)),
            labels=(("skerry.io/runtime", "local"),),
        ),
    ),
    ("kind", lambda case: with_kind(case, ResourceShape(accelerator="H100-80G"))),
    ("residency", lambda case: with_plane(case, residency_zones=())),
    ("residency", lambda case: with_plane(case, residency_zones=("us",))),
    ("cloud", lambda case: with_plane(case, cloud="other")),
    ("region", lambda case: with_plane(case, region="other")),
    ("capacity-class", lambda case: with_terms(case, capacity_class=CapacityClass.SPOT)),
    ("bar", lambda case: with_terms(case, cordoned=True)),
    ("bar", lambda case: with_terms(case, price_per_accelerator_hour=None)),
    ("bar", lambda case: with_bar(case, keeps=True, runs_already=1)),
    ("bar", lambda case: with_bar(case, keeps=True, runs_already=2)),
    ("bar", lambda case: with_bar(case, keeps=False, runs_already=2)),
    ("max-replicas", lambda case: with_count(case, 5)),
    ("max-replicas", lambda case: with_envelope(case, ceiling=5)),
    ("max-replicas", lambda case: with_max(case, 1)),
    ("cost-ceiling", lambda case: with_envelope(case, ceiling=7)),
    ("envelope", lambda case: with_envelope(case, floor=1)),
    ("envelope", lambda case: with_envelope(case, target=3)),
    ("envelope", lambda case: with_plan(case, envelopes=())),
    ("demand", lambda case: with_count(case, 1)),
    ("demand", lambda case: with_plan(case, placements=(), envelopes=())),
    (
        "demand",
        lambda case: with_plan(
            case, unplaced=(Unplaced(deployment="demo", replicas=1, reason="none"),)
        ),
    ),
    (
        "demand",
        lambda case: with_plan(
            case, unplaced=(Unplaced(deployment="nobody", replicas=1, reason="none"),)
        ),
    ),
    ("cost", lambda case: with_plan(case, cost_per_hour=case[0].cost_per_hour + 0.01)),
    ("cost", lambda case: with_terms(case, price_per_accelerator_hour=0.6)),
    (
        "levels",
        lambda case: with_plan(
            case, levels=(LevelValue(level="cost", value=1.0, bound=2.0, unit="USD/h"),)
        ),
    ),
    ("spot-share", lambda case: with_spot(case, 0.9)),
    ("anti-affinity", with_neighbour),
    (
        "latency",
        lambda case: with_policy(
            case, latency=(LatencyLimit(client_region="eu", seconds_max=1.0),)
        ),
    ),
    ("moves", lambda case: with_budget(case, 1)),
    ("shed", with_victims),
    (
        "shed",
        lambda case: with_plan(
            case,
            shed=(Shed(deployment="demo", pool="aws--cpu", replicas=1, taken_by=(), reason="?"),),
        ),
    ),
    ("pools", lambda case: with_named_pools(case, "gcp--cpu")),
    ("names", lambda case: with_count(case, 0)),
    ("names", lambda case: with_plan(case, placements=case[0].placements * 2)),
    ("names", lambda case: with_plan(case, envelopes=case[0].envelopes * 2)),
    ("names", lambda case: with_plan(case, envelopes=(*case[0].envelopes, STRAY))),
    (
        "names",
        lambda case: with_plan(
            case, placements=tuple(replace(p, pool="gone--cpu") for p in case[0].placements)
        ),
    ),
    (
        "names",
        lambda case: with_plan(
            case, placements=tuple(replace(p, reason="") for p in case[0].placements)
        ),
    ),
)


def test_the_case_before_anything_is_planted_is_valid() -> None:
    plan, problem = a_case()
    assert violations(plan, problem) == ()
    assert [(e.floor, e.ceiling) for e in plan.envelopes] == [(2, 4)]


@pytest.mark.parametrize(("rule", "plant"), PLANTED)
def test_every_planted_violation_is_found(rule: str, plant: Callable[[Case], Case]) -> None:
    plan, problem = plant(a_case())
    assert rule in {violation.rule for violation in violations(plan, problem)}
