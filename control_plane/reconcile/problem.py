"""A snapshot as a placement problem: which pools count, what is wanted, what runs. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from control_plane.reconcile.snapshot import Demand, Snapshot
from control_plane.reconcile.supply import supply_of
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.observation import PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.placement import Placement
from skerry.fleet.profile import with_measured

Conditions = Mapping[str, PlaneCondition]


def placement_problem(
    snapshot: Snapshot, conditions: Conditions, *, empties: bool = True
) -> PlacementProblem:
    """Return the problem the scheduler is to solve for this snapshot.

    Without `empties` what runs where it is drained counts as staying there.
    """
    demands = tuple(
        DemandedDeployment(
            deployment=with_measured(demand.deployment, snapshot.profiles),
            replicas=demand.deployment.scaling.min_replicas,
        )
        for demand in snapshot.demands
        if not demand.deleting
    )
    wanted = {demand.deployment.name for demand in demands}
    supply = supply_of(snapshot, conditions, empties=empties)
    return PlacementProblem(
        now=snapshot.now,
        pools=supply.pools,
        demands=demands,
        current=tuple(
            p for p in current_placements(snapshot, conditions) if p.deployment in wanted
        ),
        bars=supply.bars,
        move_cost_dollars=snapshot.policy.move_cost_dollars,
        moves_max=snapshot.policy.moves_max,
        reserve_fraction=snapshot.policy.reserve_fraction,
        latencies=snapshot.policy.latencies,
    )


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
