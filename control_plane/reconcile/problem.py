"""A snapshot as a placement problem: which pools count, what is wanted, what runs. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from control_plane.autoscale.targets import demand_of
from control_plane.reconcile.budget import moves_between
from control_plane.reconcile.failback import Counts, adopted, gone_back, kept_out, settling
from control_plane.reconcile.rivals import apart, owners_of
from control_plane.reconcile.snapshot import Demand, Snapshot
from control_plane.reconcile.supply import supply_of
from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.observation import PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.placement import Placement, counts_of
from skerry.fleet.profile import with_measured

Conditions = Mapping[str, PlaneCondition]
Key = tuple[str, str]  # deployment, pool


def placement_problem(
    snapshot: Snapshot, conditions: Conditions, *, empties: bool = True
) -> PlacementProblem:
    """Return the problem the scheduler is to solve for this snapshot.

    Without `empties` what runs where it is drained counts as staying there.
    """
    current = current_placements(snapshot, conditions)
    counts = {(p.deployment, p.pool): p for p in current}
    out = kept_out(counts, snapshot, conditions)
    moves_max = snapshot.policy.moves_max
    if empties:
        moved = gone_back(counts, snapshot, conditions)
        if moves_max is not None:  # to the scheduler they are where they are to go
            moves_max -= sum((_count(moved) - _count(counts)).values())
        current = tuple(moved[key] for key in sorted(moved))
    owners = owners_of(snapshot.demands)
    demands = tuple(
        DemandedDeployment(
            deployment=with_measured(apart(demand.deployment, owners), snapshot.profiles),
            replicas=demand_of(demand.deployment, snapshot.scaled(demand.deployment.name)),
            pools=_allowed(demand, snapshot, out),
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
        current=tuple(p for p in current if p.deployment in wanted),
        bars=supply.bars,
        move_cost_dollars=snapshot.policy.move_cost_dollars,
        moves_max=moves_max,
        reserve_fraction=snapshot.policy.reserve_fraction,
        latencies=snapshot.policy.latencies,
    )


def _count(counts: Counts) -> Counter[Key]:
    return Counter({key: placed.count for key, placed in counts.items()})


def current_placements(snapshot: Snapshot, conditions: Conditions) -> tuple[Placement, ...]:
    """Return what counts as placed: the last decision, and what a plane brought back with it.

    A plane that comes back after being lost still runs what its disk told it; adopting what found
    no other place costs no start, so the scheduler must see it as current.
    """
    known = {pool.name for pool in snapshot.pools}
    counts = {(p.deployment, p.pool): p for p in snapshot.placements if p.pool in known}
    for plane in snapshot.planes:
        condition = conditions.get(plane.name)
        if condition is None or not _brings_something(condition, snapshot):
            continue
        for demand in snapshot.demands:
            for pool in (pool for pool in snapshot.pools if pool.plane.name == plane.name):
                key = demand.deployment.name, pool.name
                stored = counts.pop(key, None)
                running = _running(snapshot, demand, plane.name, pool.name)
                more = max(adopted(demand, running, counts), stored.count if stored else 0)
                if stored is not None:
                    counts[key] = replace(stored, count=more)
                elif more:
                    counts[key] = Placement(deployment=key[0], pool=key[1], count=more)
    return tuple(counts[key] for key in sorted(counts))


def despite_settling(
    plan: PlacementPlan, snapshot: Snapshot, conditions: Conditions
) -> PlacementProblem | None:
    """Return the problem in which planes that are back take what the plan found no place for.

    Nothing else moves: what the plan gave up starts there only as far as moves are left, and of a
    deployment that gave up more nothing does. None when all has a place, or no such plane is
    waited for.
    """
    waited_for = any(settling(condition, snapshot) for condition in conditions.values())
    if not plan.unplaced or not waited_for:
        return None
    at_once = replace(snapshot, policy=replace(snapshot.policy, settle_seconds=0.0, moves_max=0))
    problem = placement_problem(at_once, conditions)
    known = {demanded.deployment.name for demanded in problem.demands}
    placed = Counter(counts_of(p for p in plan.placements if p.deployment in known))
    placed += _given_up(plan, snapshot, conditions)
    current = (Placement(deployment=d, pool=p, count=n) for (d, p), n in sorted(placed.items()))
    return replace(problem, current=tuple(current))


def _given_up(plan: PlacementPlan, snapshot: Snapshot, conditions: Conditions) -> Counter[Key]:
    """Return the healthy replicas that gave way and may not start elsewhere by this plan.

    Counted as current while nothing may move, they end and nothing else of theirs starts.
    """
    if snapshot.policy.moves_max is None:
        return Counter()
    bars = supply_of(snapshot, conditions).bars
    left = snapshot.policy.moves_max - moves_between(snapshot.placements, plan.placements, bars)
    shed = Counter[str]()
    for one in plan.shed:
        shed[one.deployment] += one.replicas
    held = set()
    for name in reversed(shed):  # the lowest class is given up first
        if shed[name] > left:
            held.add(name)
        else:
            left -= shed[name]
    return Counter({(s.deployment, s.pool): s.replicas for s in plan.shed if s.deployment in held})


def _brings_something(condition: PlaneCondition, snapshot: Snapshot) -> bool:
    return condition.state is PlaneState.RECOVERING or settling(condition, snapshot)


def _allowed(
    demand: Demand, snapshot: Snapshot, out: Mapping[str, set[str]]
) -> tuple[str, ...] | None:
    closed = out.get(demand.deployment.name)
    if not closed:
        return None
    return tuple(pool.name for pool in snapshot.pools if pool.name not in closed)


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
