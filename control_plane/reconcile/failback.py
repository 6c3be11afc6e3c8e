"""What goes back to a plane that was lost and is back, and when. Pure.

Nothing moves there before it was heard for the settle time without a break, so that a plane that
comes and goes moves nothing; then each deployment's `fail_back` decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import Demand, PlaneView, Snapshot
from skerry.fleet.deployment import FailBack, FailureDomain
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import PlaneIdentity

Conditions = Mapping[str, PlaneCondition]
Counts = dict[tuple[str, str], Placement]  # by deployment and pool
Displaced = tuple[tuple[str, str, int], ...]  # deployment, pool, replicas

# Of one plane; what is beyond goes back by score alone.
DISPLACED_MAX = 1_000
# What has not gone back this long after the plane settled has no place there, or waits for nothing.
FAIL_BACK_SECONDS_MAX = 600.0
TURN_SECONDS_MAX = 60.0


def with_return(condition: PlaneCondition, plane: PlaneView, snapshot: Snapshot) -> PlaneCondition:
    """Return a plane's new condition with when it came back, and what had to leave it."""
    before = plane.condition
    if before is None:
        return condition
    heard, was_heard = condition.state in HEARD, before.state in HEARD
    if condition.state is PlaneState.LOST:
        return replace(condition, displaced=_displaced(before, plane, snapshot))
    if before.state is PlaneState.LOST:
        return replace(condition, returned_at=snapshot.now, displaced=before.displaced)
    if before.returned_at is None:
        return condition
    returned_at, displaced = before.returned_at, before.displaced
    settle_seconds = snapshot.policy.settle_seconds
    if heard and not was_heard and (before.since - returned_at).total_seconds() < settle_seconds:
        returned_at = snapshot.now  # it had not settled when it fell silent
    seconds = (snapshot.now - returned_at).total_seconds()
    if heard and seconds > settle_seconds + FAIL_BACK_SECONDS_MAX:
        displaced = _still_replaced(displaced, snapshot)
        if not displaced:
            return condition
    return replace(condition, returned_at=returned_at, displaced=displaced)


def settling(condition: PlaneCondition, snapshot: Snapshot) -> bool:
    """Say whether a plane that is heard came back after a loss and has not settled yet.

    Never where the policy has no settle time.
    """
    settle_seconds = snapshot.policy.settle_seconds
    if condition.returned_at is None or condition.state not in HEARD or not settle_seconds:
        return False
    seconds = (snapshot.now - condition.returned_at).total_seconds()
    return condition.state is PlaneState.RECOVERING or seconds < settle_seconds


def is_timed(condition: PlaneCondition, snapshot: Snapshot) -> bool:
    """Say whether time alone may change what goes back to a plane."""
    if condition.returned_at is None:
        return False
    seconds = (snapshot.now - condition.returned_at).total_seconds()
    # A turn more, in which the end of it is seen.
    over = snapshot.policy.settle_seconds + FAIL_BACK_SECONDS_MAX + TURN_SECONDS_MAX
    return condition.state not in HEARD or seconds <= over


def fail_back_of(demand: Demand, policy: ReconcilePolicy) -> FailBack:
    """Return a deployment's policy, or the fleet's where it has none."""
    return demand.deployment.policy.fail_back or policy.fail_back


def gone_back(counts: Counts, snapshot: Snapshot, conditions: Conditions) -> Counts:
    """Return what counts as placed with the replicas that are to be where they were counted there.

    The scheduler keeps what runs somewhere; so it keeps these, and the move is made new before old.
    """
    result = dict(counts)
    budget = snapshot.policy.moves_max
    for name, pool, replicas in _settled(snapshot, conditions, FailBack.KEEP_ORIGINAL):
        held = result.get((name, pool))
        lacking = replicas - (held.count if held else 0)
        for source in _sources(result, name, pool, snapshot, conditions):
            count = min(lacking, source.count, lacking if budget is None else budget)
            if count <= 0:
                break
            lacking -= count
            budget = None if budget is None else budget - count
            result[name, source.pool] = replace(source, count=source.count - count)
            there = result.get((name, pool)) or Placement(deployment=name, pool=pool, count=0)
            result[name, pool] = replace(there, count=there.count + count)
    return result


def kept_out(counts: Counts, snapshot: Snapshot, conditions: Conditions) -> dict[str, set[str]]:
    """Return the pools that deployments stay out of, for their replacements are to be kept.

    Not where replicas are lacking, or more domains than they are spread over.
    """
    found: dict[str, set[str]] = {}
    demands = {demand.deployment.name: demand for demand in snapshot.demands}
    planes = {pool.name: pool.plane for pool in snapshot.pools}
    for name, pool, _ in _settled(snapshot, conditions, FailBack.KEEP_REPLACEMENT):
        mine = [placed for (one, _), placed in counts.items() if one == name and placed.count]
        if any(placed.pool == pool for placed in mine):
            continue
        if _is_satisfied(demands[name], mine, planes):
            found.setdefault(name, set()).add(pool)
    return found


def adopted(demand: Demand, running: int, counts: Counts) -> int:
    """Return how many of the replicas that a returned plane still runs are to be counted.

    Those that found no other place: what was replaced elsewhere is not moved back by a return.
    """
    name = demand.deployment.name
    placed = sum(one.count for (held, _), one in counts.items() if held == name)
    return min(running, max(0, demand.deployment.scaling.min_replicas - placed))


def _displaced(before: PlaneCondition, plane: PlaneView, snapshot: Snapshot) -> Displaced:
    mine = {pool.name for pool in snapshot.pools if pool.plane.name == plane.name}
    held = {(name, pool): count for name, pool, count in before.displaced}
    if before.state is not PlaneState.LOST and before.returned_at is None:
        held = {}
    for placed in snapshot.placements:
        if placed.pool in mine and placed.count:
            key = placed.deployment, placed.pool
            held[key] = max(held.get(key, 0), placed.count)
    known = {demand.deployment.name for demand in snapshot.demands if not demand.deleting}
    kept = sorted((*key, count) for key, count in held.items() if key[0] in known)
    return tuple(kept[:DISPLACED_MAX])


def _still_replaced(displaced: Displaced, snapshot: Snapshot) -> Displaced:
    """Return those whose replacements are to be kept: their plane is no home of theirs any more."""
    staying = {
        demand.deployment.name
        for demand in snapshot.demands
        if fail_back_of(demand, snapshot.policy) is FailBack.KEEP_REPLACEMENT
    }
    back = {(placed.deployment, placed.pool) for placed in snapshot.placements if placed.count}
    return tuple(one for one in displaced if one[0] in staying and one[:2] not in back)


def _settled(
    snapshot: Snapshot, conditions: Conditions, wanted: FailBack
) -> Iterator[tuple[str, str, int]]:
    """Yield what had to leave planes that have settled since, of deployments with that policy."""
    policies = {
        demand.deployment.name: fail_back_of(demand, snapshot.policy)
        for demand in snapshot.demands
        if not demand.deleting
    }
    known = {pool.name for pool in snapshot.pools}
    for plane in snapshot.planes:
        condition = conditions.get(plane.name)
        if condition is None or condition.returned_at is None or condition.state not in HEARD:
            continue
        if settling(condition, snapshot):
            continue
        for name, pool, replicas in condition.displaced:
            if policies.get(name) is wanted and pool in known:
                yield name, pool, replicas


def _sources(
    counts: Counts, name: str, pool: str, snapshot: Snapshot, conditions: Conditions
) -> list[Placement]:
    """Return where replicas may be taken from: heard planes, those with most of them first."""
    planes = {one.name: one.plane.name for one in snapshot.pools}
    mine = [
        placed
        for (one, other), placed in counts.items()
        if one == name and other != pool and placed.count and other in planes
    ]
    heard = [p for p in mine if _is_heard(conditions.get(planes[p.pool]))]
    return sorted(heard, key=lambda placed: (-placed.count, placed.pool))


def _is_heard(condition: PlaneCondition | None) -> bool:
    return condition is not None and condition.state in HEARD


def _is_satisfied(
    demand: Demand, placed: list[Placement], planes: Mapping[str, PlaneIdentity]
) -> bool:
    if sum(one.count for one in placed) < demand.deployment.scaling.min_replicas:
        return False
    spread = demand.deployment.policy.spread
    if spread is None:
        return True
    domains = {_domain(planes[one.pool], spread.domain) for one in placed if one.pool in planes}
    return len(domains) >= spread.domains_min


def _domain(plane: PlaneIdentity, domain: FailureDomain) -> str:
    if domain is FailureDomain.CLOUD:
        return plane.cloud
    if domain is FailureDomain.REGION:
        return f"{plane.cloud}/{plane.region}"
    return plane.name
