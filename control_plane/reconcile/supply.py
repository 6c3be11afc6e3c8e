"""What pools can take now: less the nodes that are drained, and what bars them. Pure.

`problem.py` builds the scheduler's supply with it, `memory.py` tells by it whether supply moved.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from control_plane.reconcile.failback import settling
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from scheduler.problem import PoolBar
from skerry.fleet.cordon import Cordons
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import pool_name
from skerry.fleet.node import node_name
from skerry.fleet.observation import (
    HEARD,
    PlaneCondition,
    PlaneReport,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.pool import Pool

Conditions = Mapping[str, PlaneCondition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Pools as the scheduler is to see them, what is barred, and which pools lose replicas.

    `drained` are the pools of which all or a part is being emptied.
    """

    pools: tuple[Pool, ...]
    bars: tuple[PoolBar, ...]
    drained: frozenset[str]


def supply_of(snapshot: Snapshot, conditions: Conditions, *, empties: bool = True) -> Supply:
    """Return what can be placed on: the pools less the nodes that take nothing new.

    Without `empties` what is drained is only cordoned: what runs there counts as staying.

    A cordoned node that still runs something counts as long as it does, for what runs there stays;
    what it has free is taken only when no other node of the pool has anything free. Nodes of a
    plane that is not heard count: nothing new goes there, and nothing there is known to be gone.
    """
    cordons = Cordons(snapshot.cordons)
    planes = {plane.name: plane for plane in snapshot.planes}
    deployments = {demand.deployment.name: demand.deployment for demand in snapshot.demands}
    pools: list[Pool] = []
    bars: list[PoolBar] = []
    drained: set[str] = set()
    for pool in snapshot.pools:
        condition = conditions.get(pool.plane.name)
        plane = planes.get(pool.plane.name)
        bar = _gone(pool, condition, plane, snapshot) or _bar(
            pool, snapshot, conditions, cordons, empties=empties
        )
        if condition is not None and condition.state in HEARD and plane is not None:
            cordon = cordons.of_pool(pool)
            if cordon is not None and cordon.draining:
                drained.add(pool.name)
            seen = _nodes_of(plane, pool, cordons, deployments)
            if seen.draining:
                drained.add(pool.name)
            if less := (seen.draining if empties else 0) + seen.empty:
                nodes = max(0, pool.shape.nodes - less)
                pool = replace(pool, shape=replace(pool.shape, nodes=nodes))
            if bar is None and seen.is_full:
                bar = PoolBar(
                    pool=pool.name, reason="what it has free is cordoned", keeps_current=True
                )
        pools.append(pool)
        if bar is not None:
            bars.append(bar)
    return Supply(pools=tuple(pools), bars=tuple(bars), drained=frozenset(drained))


def _gone(
    pool: Pool, condition: PlaneCondition | None, plane: PlaneView | None, snapshot: Snapshot
) -> PoolBar | None:
    """Return the bar of a pool that a plane which is heard has not reported for a lease's time.

    One report without it says nothing; a plane that has no such pool any more says so for ever.
    """
    if condition is None or condition.state not in HEARD or plane is None:
        return None
    if pool.shape.name not in plane.gone_after(snapshot.policy.lease_seconds):
        return None
    reason = f"plane {plane.name} has not reported it for a lease's time"
    return PoolBar(pool=pool.name, reason=reason, keeps_current=False)


def _bar(
    pool: Pool, snapshot: Snapshot, conditions: Conditions, cordons: Cordons, *, empties: bool
) -> PoolBar | None:
    """Return why a pool takes nothing new; None when it does."""
    plane = pool.plane.name
    condition = conditions.get(plane)
    if condition is None:
        return PoolBar(pool=pool.name, reason="its plane was never heard", keeps_current=True)
    if condition.state is PlaneState.LOST:
        return PoolBar(pool=pool.name, reason=f"plane {plane} is lost", keeps_current=False)
    if condition.state not in HEARD:
        reason = f"plane {plane} is {condition.state.value}"
        return PoolBar(pool=pool.name, reason=reason, keeps_current=True)
    cordon = cordons.of_pool(pool)
    if cordon is not None and cordon.draining:
        told = f"{cordon.part.scope.value} {cordon.part.name} is being drained"
        return PoolBar(pool=pool.name, reason=told, keeps_current=not empties)
    if settling(condition, snapshot):
        told = (
            f"plane {plane} was lost and is back: nothing moves there before it was heard for"
            f" {snapshot.policy.settle_seconds:g} s without a break"
        )
        return PoolBar(pool=pool.name, reason=told, keeps_current=True)
    if pool.terms.cordoned:
        return PoolBar(pool=pool.name, reason="cordoned", keeps_current=True)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Of a pool's fit nodes: how many are drained, how many cordoned ones are empty.

    `is_full`: only cordoned nodes have accelerators that are free.
    """

    draining: int = 0
    empty: int = 0
    is_full: bool = False


def _nodes_of(
    plane: PlaneView, pool: Pool, cordons: Cordons, deployments: Mapping[str, Deployment]
) -> _Seen:
    report = plane.link.report
    if report is None or not report.nodes or not cordons.of_nodes(plane.name):
        return _Seen()
    used = used_by_node(report, deployments)
    draining = empty = 0
    free_open = free_closed = 0
    for node in report.nodes:
        if node.pool != pool.shape.name or not node.ready:
            continue
        cordon = cordons.of_node(node_name(plane.name, node.name))
        taken = used[node.name]
        if cordon is None:
            free_open += node.accelerators - taken
        elif cordon.draining:
            draining += 1
        elif not taken:
            empty += 1
        else:
            free_closed += node.accelerators - taken
    return _Seen(draining=draining, empty=empty, is_full=free_closed > 0 and free_open <= 0)


def used_by_node(report: PlaneReport, deployments: Mapping[str, Deployment]) -> Counter[str]:
    """Return how many accelerators of each node hold replicas, by the plane's names.

    As far as the report says where replicas run, and by what a replica of its deployment takes now;
    one on several nodes takes all of them.
    """
    used: Counter[str] = Counter()
    size = {node.name: node.accelerators for node in report.nodes}
    kind = {
        pool_name(report.identity.name, shape.name): shape.accelerator for shape in report.pools
    }
    for replica in report.replicas:
        if replica.state is ReplicaState.FAILED:
            continue
        deployment = deployments.get(replica.deployment)
        shape = deployment and deployment.revision.shape_on(kind.get(replica.pool, ""))
        alone = shape.accelerators if shape else 1
        for node in replica.nodes:
            used[node] += size.get(node, 0) if len(replica.nodes) > 1 else alone
    return used
