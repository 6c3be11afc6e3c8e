"""How far a drain is: what is left in a part of the fleet, and what keeps it there. Pure.

The operations API streams it while reconciliation does the work.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from control_plane.reconcile.failover import is_held
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.cordon import Part, Scope, lies_in, planes_in
from skerry.fleet.desired import NODE_CORDONS
from skerry.fleet.names import SEPARATOR, pool_name
from skerry.fleet.observation import (
    HEARD,
    PlaneCondition,
    PlaneState,
    ReplicaState,
)

Conditions = Mapping[str, PlaneCondition]
KeptRow = tuple[str, str, int, str]  # deployment, pool, replicas, why
ADVISED = "the plan that empties it waits for an operator's approval: `skerry get plans`"
RUNNING = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftHere:
    """A deployment with replicas left in a part that is drained, and how it does elsewhere."""

    deployment: str
    left: int
    wanted: int
    ready_elsewhere: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """What is left of a drain; `waits_for` are sentences, empty while it goes on.

    `granted`: planes may still start replicas there.
    """

    left: tuple[LeftHere, ...]
    waits_for: tuple[str, ...] = ()
    granted: bool = False

    @property
    def replicas_left(self) -> int:
        """Return how many replicas are left in all."""
        return sum(one.left for one in self.left)

    @property
    def is_over(self) -> bool:
        """Say whether the part is known to be empty."""
        return not (self.left or self.waits_for or self.granted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How many replicas of a deployment planes report at one place, and how many are READY."""

    deployment: str
    plane: str
    pool: str
    nodes: tuple[str, ...]
    replicas: int
    ready: int


def running_of(snapshot: Snapshot) -> tuple[Running, ...]:
    """Return what planes report, counted by place: once for every drain that is looked at."""
    counts: Counter[tuple[str, str, str, tuple[str, ...]]] = Counter()
    ready: Counter[tuple[str, str, str, tuple[str, ...]]] = Counter()
    for plane in snapshot.planes:
        for replica in plane.link.report.replicas if plane.link.report else ():
            if replica.state in RUNNING:
                key = (replica.deployment, plane.name, replica.pool, replica.nodes)
                counts[key] += 1
                ready[key] += replica.state is ReplicaState.READY
    return tuple(
        Running(
            deployment=key[0],
            plane=key[1],
            pool=key[2],
            nodes=key[3],
            replicas=count,
            ready=ready[key],
        )
        for key, count in counts.items()
    )


def progress_of(
    part: Part,
    running: Iterable[Running],
    snapshot: Snapshot,
    conditions: Conditions,
    kept: Iterable[KeptRow],
) -> DrainProgress:
    """Return how far the drain of a part is, by what planes report now.

    What a silent plane runs is not known: the drain is not over before it is heard, or is lost.
    """
    planes = planes_in(part, [view.identity for view in snapshot.planes])
    inside: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    nowhere: Counter[str] = Counter()
    own = _node_pool(part, snapshot)
    for one in running:
        if _is_inside(part, planes, one):
            inside[one.deployment] += one.replicas
        elif own is not None and one.pool == own and not one.nodes:
            nowhere[one.deployment] += one.replicas
        elif _state(conditions, one.plane) in HEARD:
            elsewhere[one.deployment] += one.ready
    wanted = {
        demand.deployment.name: 0 if demand.deleting else demand.deployment.scaling.min_replicas
        for demand in snapshot.demands
    }
    left = tuple(
        LeftHere(
            deployment=name,
            left=count,
            wanted=wanted.get(name, 0),
            ready_elsewhere=elsewhere[name],
        )
        for name, count in sorted(inside.items())
    )
    waits = [
        *_silent(planes, conditions),
        *_untold(part, planes, snapshot),
        *_somewhere(own, nowhere),
        *_without_place(part, planes, own, kept),
    ]
    if snapshot.policy.advisory and left and not waits:
        waits.append(ADVISED)
    lost = {name for name in planes if _state(conditions, name) is PlaneState.LOST}
    granted = any(_is_granted(part, snapshot, name) for name in planes if name not in lost)
    return DrainProgress(left=left, waits_for=tuple(waits), granted=granted)


def is_known(part: Part, snapshot: Snapshot) -> bool:
    """Say whether a pool that planes reported lies in a part; of nodes the store knows."""
    return any(lies_in(pool, part) for pool in snapshot.pools)


def _node_pool(part: Part, snapshot: Snapshot) -> str | None:
    """Return the pool of a node, if its plane tells; None for parts that are no node.

    In a pool of one node every replica is on it.
    """
    if part.scope is not Scope.NODE:
        return None
    plane, _, node = part.name.partition(SEPARATOR)
    view = snapshot.plane(plane)
    nodes = view.link.report.nodes if view and view.link.report else ()
    return next((pool_name(plane, known.pool) for known in nodes if known.name == node), None)


def _is_inside(part: Part, planes: Collection[str], one: Running) -> bool:
    if one.plane not in planes:
        return False
    if part.scope is Scope.NODE:
        return part.name.partition(SEPARATOR)[2] in one.nodes
    return part.scope is not Scope.POOL or one.pool == part.name


def _somewhere(pool: str | None, nowhere: Counter[str]) -> Iterator[str]:
    for name, count in sorted(nowhere.items()):
        yield (
            f"{count} replicas of {name} on pool {pool} do not tell their node; they do once they"
            " are replaced"
        )


def _silent(planes: Iterable[str], conditions: Conditions) -> Iterator[str]:
    for name in planes:
        state = _state(conditions, name)
        if state is None or state in (PlaneState.SUSPECT, PlaneState.DISCONNECTED):
            told = state.value if state else "not judged yet"
            yield f"plane {name} is {told}: what runs there now is not known"


def _untold(part: Part, planes: Iterable[str], snapshot: Snapshot) -> Iterator[str]:
    for name in planes if part.scope is Scope.NODE else ():
        view = snapshot.plane(name)
        if view and view.link.report and NODE_CORDONS not in view.link.report.features:
            yield f"plane {name} is of a release that drains no single nodes; upgrade its agent"


def _is_granted(part: Part, snapshot: Snapshot, plane: str) -> bool:
    """Say whether the plane may still start something in the part, by what it was told or holds."""
    view, stored = snapshot.plane(plane), snapshot.desired_of(plane)
    if stored is None:
        return False
    if view is None or view.link.report is None or not is_held(view.link.report, stored):
        return True
    if part.scope is Scope.NODE:
        node = part.name.partition(SEPARATOR)[2]
        return all(told.node != node for told in stored.node_cordons)
    return any(
        envelope.target > 0 and (part.scope is not Scope.POOL or envelope.pool == part.name)
        for assignment in stored.assignments
        for envelope in assignment.envelopes
    )


def _without_place(
    part: Part, planes: Collection[str], own: str | None, kept: Iterable[KeptRow]
) -> Iterator[str]:
    mine = own if part.scope is Scope.NODE else part.name
    for deployment, pool, replicas, why in kept:
        if part.scope in (Scope.NODE, Scope.POOL):
            is_mine = pool == mine
        else:
            is_mine = pool.partition(SEPARATOR)[0] in planes
        if is_mine:
            yield f"{replicas} replicas of {deployment} find no other place: {why}"


def _state(conditions: Conditions, plane: str) -> PlaneState | None:
    condition = conditions.get(plane)
    return condition.state if condition else None
