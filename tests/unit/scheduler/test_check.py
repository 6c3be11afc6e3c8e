"""The independent checker: a valid plan broken in each way, and each way is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.plan import LevelValue, PlacementPlan, Unplaced
from scheduler.problem import PlacementProblem, PoolBar
from scheduler.solve import solve
from skerry.fleet.deployment import PlacementPolicy, ResourceShape, Scaling
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
