"""How long placement takes and how good it is: `python benchmarks/bench_scheduler.py [--seeds N]`.

Fleets come from a seeded generator (planes x deployments); writes benchmarks/results/scheduler.json.
Cold is a first solve, warm the same demand solved again from the plan, lost one plane's pools gone.
"""

import argparse
import json
import os
import platform
import random
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from scheduler.check import violations
from scheduler.plan import PlacementPlan, diff
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from scheduler.solve import solve
from skerry.fleet.deployment import (
    BaseModel,
    Deployment,
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Revision,
    Scaling,
    Tolerate,
)
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.pool import CapacityClass, PlaneIdentity, Pool, PoolShape, PoolTerms

RESULTS = Path(__file__).parent / "results" / "scheduler.json"
GIB = 2**30
# kind: (price of an accelerator-hour in dollars, tokens/s of one accelerator, GiB of a node)
KINDS = {"L4": (0.8, 1.0, 384), "A100": (2.5, 4.0, 1024), "H100": (4.2, 8.0, 2048)}
CLASS_PRICE = {
    CapacityClass.RESERVED: 0.65,
    CapacityClass.ON_DEMAND: 1.0,
    CapacityClass.SPOT: 0.4,
}
SIZES = ((10, 50), (100, 500))


def a_fleet(planes: int, seed: int) -> tuple[Pool, ...]:
    """Return one to three pools on each plane, over three clouds and eight regions."""
    chance = random.Random(seed)
    pools = []
    for number in range(planes):
        cloud = chance.choice(("aws", "azure", "gcp"))
        region = chance.randrange(8)
        plane = PlaneIdentity(
            name=f"plane-{number}",
            cloud=cloud,
            region=f"region-{region}",
            residency_zones=("eu",) if region < 3 else ("us",),
        )
        for kind in chance.sample(sorted(KINDS), chance.randint(1, 3)):
            price, _, memory = KINDS[kind]
            held = chance.choice(tuple(CapacityClass))
            terms = PoolTerms(
                capacity_class=held,
                price_per_accelerator_hour=round(
                    price * CLASS_PRICE[held] * chance.uniform(0.8, 1.3), 3
                ),
            )
            shape = PoolShape(
                name=f"{kind.lower()}-{held.value.replace('_', '-')}",
                accelerator=kind,
                accelerator_memory_bytes=80 * GIB,
                nodes=chance.randint(2, 12),
                accelerators_per_node=8,
                host_memory_bytes=memory * GIB,
            )
            pools.append(Pool(plane=plane, shape=shape, terms=terms))
    return tuple(pools)


def a_demand(number: int, chance: random.Random) -> DemandedDeployment:
    """Return a deployment on one to three kinds, some resident, some that survive a plane."""
    size = chance.choice((1, 1, 2, 4, 8))
    shapes = []
    for kind in chance.sample(sorted(KINDS), chance.randint(1, 3)):
        accelerators = min(8, size * 2) if kind == "L4" else size
        speed = KINDS[kind][1] * accelerators * chance.uniform(0.8, 1.2)
        shapes.append(
            ResourceShape(
                accelerator=kind,
                accelerators=accelerators,
                host_memory_bytes=chance.randint(10, 40) * accelerators * GIB,
                throughput_tokens_per_second=round(speed * 1000),
            )
        )
    replicas = chance.randint(1, 8)
    tolerate = Tolerate(domain=FailureDomain.PLANE, keep=chance.choice((0.5, 0.9)))
    deployment = Deployment(
        name=f"deployment-{number}",
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=f"model-{number}"),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=tuple(shapes),
        ),
        scaling=Scaling(min_replicas=1, max_replicas=replicas * 4),
        policy=PlacementPolicy(
            priority=chance.randrange(4),
            residency_zones=chance.choice(((), (), ("eu",), ("us",))),
            capacity_classes=chance.choice(((), (), ("reserved", "on_demand"))),
            tolerate=tolerate if chance.random() < 0.4 else None,
        ),
    )
    return DemandedDeployment(deployment=deployment, replicas=replicas)


def a_problem(planes: int, deployments: int, seed: int) -> PlacementProblem:
    """Return the fleet and the demand of a seed."""
    chance = random.Random(seed + 1_000)
    return PlacementProblem(
        now=datetime(2026, 1, 1, tzinfo=UTC),
        pools=a_fleet(planes, seed),
        demands=tuple(a_demand(number, chance) for number in range(deployments)),
        reserve_fraction=0.05,
    )


def timed(solve_it: Callable[[], PlacementPlan]) -> tuple[float, PlacementPlan]:
    """Return seconds and the plan."""
    began = time.perf_counter()
    plan = solve_it()
    return time.perf_counter() - began, plan


def row(planes: int, deployments: int, seed: int) -> dict[str, object]:
    """Return the figures of one fleet."""
    problem = a_problem(planes, deployments, seed)
    cold_seconds, plan = timed(lambda: solve(problem))
    warm = replace(problem, current=plan.placements)
    warm_seconds, again = timed(lambda: solve(warm))
    lost_plane = problem.pools[0].plane.name
    bars = tuple(
        PoolBar(pool=pool.name, reason="plane lost", keeps_current=False)
        for pool in problem.pools
        if pool.plane.name == lost_plane
    )
    lost_seconds, after = timed(lambda: solve(replace(warm, bars=bars)))
    cost = next(level for level in plan.levels if level.level == "cost")
    changes = diff(again, plan.placements)
    gone = {bar.pool for bar in bars}
    healthy_moved = sum(
        m.count for m in diff(after, plan.placements).move if m.from_pool not in gone
    )
    return {
        "size": f"{planes}x{deployments}",
        "seed": seed,
        "solver": plan.solver,
        "cold_seconds": round(cold_seconds, 3),
        "warm_seconds": round(warm_seconds, 3),
        "lost_plane_seconds": round(lost_seconds, 3),
        "lost_plane_healthy_replicas_moved": healthy_moved,
        "replicas": sum(p.count for p in plan.placements),
        "unplaced_replicas": sum(u.replicas for u in plan.unplaced),
        "cost_dollars_per_hour": round(plan.cost_per_hour, 2),
        "cost_gap_to_bound": round(1 - cost.bound / cost.value, 5) if cost.bound else None,
        "optimal": plan.optimal,
        "warm_changes": len(changes.place) + len(changes.move) + len(changes.evict),
        "violations": len(violations(plan, problem)),
        "memory_mib_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Run every size on the seeds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="fleets of each size")
    arguments = parser.parse_args()
    rows = []
    for planes, deployments in SIZES:
        for seed in range(1, arguments.seeds + 1):
            rows.append(row(planes, deployments, seed))
            print(json.dumps(rows[-1]), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
