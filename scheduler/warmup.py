"""Has every compiled loop made and cached before anybody waits for it.

`make setup` runs `python -m scheduler.warmup`, and the solver's process calls `warm_up` before its
first large problem: a minute where nothing is cached, else the second that loading takes anyway.
"""

from datetime import UTC, datetime

from scheduler.problem import DemandedDeployment, PlacementProblem
from scheduler.session import Session
from scheduler.solve import SolveLimits
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Spread,
    Tolerate,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.pool import CapacityClass, PlaneIdentity, Pool, PoolShape, PoolTerms

# However small a problem is, the arrays are used.
ARRAYS = SolveLimits(pairs_max=0)
PLAIN = SolveLimits(pairs_max=0, searches=False)
_GIB = 2**30
_PLANES = 4
_KINDS = ("small", "large")


def warm_up() -> None:
    """Plan a tiny fleet that needs every loop: cold, again, after a loss, and by greedy."""
    problem = _problem()
    session = Session(ARRAYS)
    session.solve(problem)
    session.refine()
    plan = session.solve(problem)
    plan = session.repair(plan, (problem.pools[0].name,))
    Session(PLAIN).solve(problem)


def _problem() -> PlacementProblem:
    """Return more than fits on a few pools, with every kind of promise in it."""
    pools = tuple(_pool(number, kind) for number in range(_PLANES) for kind in range(2))
    demands = tuple(
        DemandedDeployment(deployment=_deployment(number), replicas=3 + number)
        for number in range(10)
    )
    return PlacementProblem(
        now=datetime(2026, 1, 1, tzinfo=UTC), pools=pools, demands=demands, moves_max=20
    )


def _pool(number: int, kind: int) -> Pool:
    market = tuple(CapacityClass)[number % len(CapacityClass)]
    return Pool(
        plane=PlaneIdentity(name=f"plane-{number}", cloud=f"cloud-{number % 2}", region="here"),
        shape=PoolShape(
            name=_KINDS[kind],
            accelerator=_KINDS[kind],
            accelerator_memory_bytes=0,
            nodes=4,
            accelerators_per_node=8,
            host_memory_bytes=64 * _GIB,
        ),
        terms=PoolTerms(capacity_class=market, price_per_accelerator_hour=1.0 + number + kind),
    )


def _deployment(number: int) -> Deployment:
    name, share = f"demo-{number}", (None, 0.0, 0.5)[number % 3]
    sizes = ((1, 2), (3, 3), (4, 16), (2, 5))[number % 4]
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=tuple(
                ResourceShape(
                    accelerator=kind,
                    accelerators=size,
                    host_memory_bytes=(2 + 9 * (number % 3)) * _GIB,
                    throughput_tokens_per_second=100.0 * (size + number % 2),
                )
                for kind, size in zip(_KINDS, sizes, strict=True)
            ),
        ),
        scaling=Scaling(min_replicas=0, max_replicas=30),
        policy=PlacementPolicy(
            priority=number % 4,
            tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5) if number % 2 else None,
            spread=Spread(domain=FailureDomain.PLANE, domains_min=2) if number == 4 else None,
            spot_share_max=share,
            cost_per_hour_max=200.0 if number == 5 else None,
            anti_affinity=("demo-0",) if number == 3 else (),
        ),
    )


if __name__ == "__main__":
    warm_up()
