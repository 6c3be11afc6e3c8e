"""A snapshot as a placement problem: which pools count, what is wanted, what runs. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from control_plane.reconcile.snapshot import Demand, Snapshot
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from skerry.fleet.observation import PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.placement import Placement

Conditions = Mapping[str, PlaneCondition]


def placement_problem(snapshot: Snapshot, conditions: Conditions) -> PlacementProblem:
    """Return the problem the scheduler is to solve for this snapshot."""
    demands = tuple(
        DemandedDeployment(
            deployment=demand.deployment, replicas=demand.deployment.scaling.min_replicas
        )
        for demand in snapshot.demands
        if not demand.deleting
    )
    wanted = {demand.deployment.name for demand in demands}
    return PlacementProblem(
        now=snapshot.now,
        pools=snapshot.pools,
        demands=demands,
        current=tuple(
            p for p in current_placements(snapshot, conditions) if p.deployment in wanted
        ),
        bars=pool_bars(snapshot, conditions),
        move_cost_dollars=snapshot.policy.move_cost_dollars,
        moves_max=snapshot.policy.moves_max,
        reserve_fraction=snapshot.policy.reserve_fraction,
        latencies=snapshot.policy.latencies,
    )


def pool_bars(snapshot: Snapshot, conditions: Conditions) -> tuple[PoolBar, ...]:
    """Return which pools take nothing new, and which count for nothing because they are lost."""
    bars = []
    for pool in snapshot.pools:
        condition = conditions.get(pool.plane.name)
        if condition is None:
            bars.append(
                PoolBar(pool=pool.name, reason="its plane was never heard", keeps_current=True)
            )
        elif condition.state is PlaneState.LOST:
            bars.append(
                PoolBar(
                    pool=pool.name, reason=f"plane {pool.plane.name} is lost", keeps_current=False
                )
            )
        elif condition.state in (PlaneState.SUSPECT, PlaneState.DISCONNECTED):
            bars.append(
                PoolBar(
                    pool=pool.name,
                    reason=f"plane {pool.plane.name} is {condition.state.value}",
                    keeps_current=True,
                )
            )
        elif pool.terms.cordoned:
            bars.append(PoolBar(pool=pool.name, reason="cordoned", keeps_current=True))
    return tuple(bars)


def current_placements(snapshot: Snapshot, conditions: Conditions) -> tuple[Placement, ...]:
    """Return what counts as placed: the last decision, and what a plane brought back with it.

    A plane that comes back after being lost still runs what its disk told it; adopting that costs
    no start, so the scheduler must see it as current.
    """
    known = {pool.name for pool in snapshot.pools}
    counts = {(p.deployment, p.pool): p for p in snapshot.placements if p.pool in known}
    for plane in snapshot.planes:
        condition = conditions.get(plane.name)
        if condition is None or condition.state is not PlaneState.RECOVERING:
            continue
        for demand in snapshot.demands:
            for pool in (pool for pool in snapshot.pools if pool.plane.name == plane.name):
                running = _running(snapshot, demand, plane.name, pool.name)
                stored = counts.get((demand.deployment.name, pool.name))
                if running > (stored.count if stored else 0):
                    counts[demand.deployment.name, pool.name] = Placement(
                        deployment=demand.deployment.name, pool=pool.name, count=running
                    )
    return tuple(counts[key] for key in sorted(counts))


def with_deployment(snapshot: Snapshot, changed: Demand) -> Snapshot:
    """Return the snapshot as it would be with one deployment applied."""
    others = tuple(
        demand for demand in snapshot.demands if demand.deployment.name != changed.deployment.name
    )
    return replace(snapshot, demands=(*others, changed))


def _running(snapshot: Snapshot, demand: Demand, plane: str, pool: str) -> int:
    view = snapshot.plane(plane)
    if view is None:
        return 0
    return sum(
        1
        for replica in view.replicas(demand.deployment.name, pool)
        if replica.state in (ReplicaState.READY, ReplicaState.STARTING)
    )
