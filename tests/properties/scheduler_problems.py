"""Small random fleets and their plans: what the scheduler's properties are tried on.

Fleets have odd node sizes, scarce memory, several classes, spread, survival, residency, current
placements and bars, so that every constraint binds in some of them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar, RegionLatency
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import (
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Spread,
    Tolerate,
)
from skerry.fleet.pool import CapacityClass, Pool
from tests.properties.examples import examples
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

Item = TypeVar("Item")

KINDS = ("cpu", "H100")
ZONES = ("eu", "us")
# "east" is near, "west" too far, and how far anything is from "moon" is not told.
NEAR = (LatencyLimit(client_region="sea", seconds_max=0.08),)
LATENCIES = (
    RegionLatency(client_region="sea", plane_region="east", seconds=0.08),
    RegionLatency(client_region="sea", plane_region="west", seconds=0.081),
)
# A few hundred find what one fleet in a hundred breaks; these few find what most break, in seconds.
MODEST = settings(
    max_examples=examples(15),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
EXACT = SolveLimits()
GREEDY = SolveLimits(searches=False)
# However small, the pipeline for large fleets is asked.
ARRAYS = SolveLimits(pairs_max=-1)
GREEDY_ARRAYS = SolveLimits(pairs_max=-1, searches=False)
SEED = 20_260_101


@cache
def planned(problem: PlacementProblem, limits: SolveLimits = EXACT) -> PlacementPlan:
    """Return the plan of a problem; tests that are tried on the same cases share their solves."""
    return solve(problem, limits)


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
        running = planned(replace(problem, demands=earlier), GREEDY).placements
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A problem, and a number by which a test chooses among what the problem has."""

    problem: PlacementProblem
    number: int

    def one_of(self, items: Sequence[Item]) -> Item:
        return items[self.number % len(items)]

    def shuffled(self) -> PlacementProblem:
        """Return the problem told in another order."""
        problem, chance = self.problem, random.Random(self.number)
        return replace(
            problem,
            pools=tuple(chance.sample(problem.pools, len(problem.pools))),
            demands=tuple(chance.sample(problem.demands, len(problem.demands))),
            current=tuple(chance.sample(problem.current, len(problem.current))),
        )

    def lost(self) -> tuple[str, ...]:
        """Return the pools of one plane."""
        plane = self.one_of(sorted({pool.plane.name for pool in self.problem.pools}))
        return tuple(sorted(p.name for p in self.problem.pools if p.plane.name == plane))


cases = st.builds(Case, problem=problems(), number=st.integers(0, 2**16))


def on_cases(test: Callable[[Case], None]) -> Callable[[], None]:
    """Try a test on the same cases as every other, so that one solve of a problem serves all."""
    return seed(SEED)(MODEST(given(cases)(test)))


def larger(problem: PlacementProblem, *grown: Pool) -> PlacementProblem:
    """Return the problem with one node more in these pools, in all if none is named."""
    return replace(
        problem,
        pools=tuple(
            replace(pool, shape=replace(pool.shape, nodes=pool.shape.nodes + 1))
            if not grown or pool in grown
            else pool
            for pool in problem.pools
        ),
    )


def unmet_of(plan: PlacementPlan) -> tuple[float, ...]:
    return tuple(item.value for item in plan.levels if item.level.startswith("unmet"))
