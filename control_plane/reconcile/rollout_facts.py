"""What planes show of one deployment's revisions: the facts that a rollout is decided by. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from control_plane.reconcile.failover import is_frozen, is_held
from control_plane.reconcile.snapshot import Demand, PlaneView, Snapshot
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.desired import ROLLOUTS, Assignment, DesiredState
from skerry.fleet.observation import ObservedReplica, PlaneCondition, PlaneState, ReplicaState

Conditions = Mapping[str, PlaneCondition]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFacts:
    """One plane's part in a deployment: what it is to hold (`targets`, by pool) and what it shows.

    `told` is the revision it was last told, 0 when it was told of no replica. `settled`: it holds
    what it was last told; `refused` is why it took that up not, as it said. `free` accelerators are
    those of each pool that no replica holds. It is in its state `since` then.
    """

    name: str
    state: PlaneState
    since: datetime
    understands: bool
    settled: bool
    told: int
    targets: Mapping[str, int]
    replicas: tuple[ObservedReplica, ...]
    free: Mapping[str, int]
    refused: str = ""

    @property
    def is_connected(self) -> bool:
        """Say whether what it shows is of now."""
        return self.state is PlaneState.CONNECTED

    @property
    def is_away(self) -> bool:
        """Say whether it may well serve while nobody here knows what it does."""
        return self.state not in (PlaneState.CONNECTED, PlaneState.LOST)

    @property
    def target(self) -> int:
        """Return how many replicas it is to hold."""
        return sum(self.targets.values())

    def of(self, revision: int, *states: ReplicaState) -> tuple[ObservedReplica, ...]:
        """Return its replicas of a revision, in these states or in any."""
        return tuple(
            one
            for one in self.replicas
            if one.revision == revision and (not states or one.state in states)
        )

    def ready(self, revision: int | None = None) -> int:
        """Return how many are READY, of a revision or of any."""
        return sum(
            one.state is ReplicaState.READY and revision in (None, one.revision)
            for one in self.replicas
        )

    def failures(self, revision: int) -> int:
        """Return how often a replica of the revision that does not serve failed in a row."""
        return max(
            (
                _in_a_row(one) + (one.state is ReplicaState.FAILED)
                for one in self.of(revision, ReplicaState.FAILED, ReplicaState.STARTING)
            ),
            default=0,
        )

    def fault(self, revision: int) -> str:
        """Return what a replica of the revision that failed says, empty where none does."""
        told = (one.message for one in self.of(revision) if one.state is not ReplicaState.READY)
        return next((text for text in told if text), "")

    def is_whole(self, revision: int) -> bool:
        """Say whether it runs all it is to hold at the revision, and nothing else any more."""
        others = (
            one.revision != revision and one.state in (ReplicaState.READY, ReplicaState.STARTING)
            for one in self.replicas
        )
        return self.settled and self.ready(revision) >= self.target and not any(others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A deployment's newest revision, the planes that have a part in it, and what is known.

    `asked` is the number of the revision that operators want, `known` the revisions by number.
    """

    now: datetime
    deployment: Deployment
    asked: int
    known: Mapping[int, Revision]
    planes: tuple[PlaneFacts, ...]
    kinds: Mapping[str, str]  # accelerator by pool
    # Silence says nothing of planes: we were away, or so many are silent that moves are frozen.
    silence_is_ours: bool = False

    def plane(self, name: str) -> PlaneFacts | None:
        """Return a plane's part, None where it has none."""
        return next((one for one in self.planes if one.name == name), None)

    def runs_on(self, revision: int, pool: str) -> bool:
        """Say whether a replica of the revision can run on the pool."""
        known = self.known.get(revision)
        return known is not None and known.shape_on(self.kinds.get(pool, "")) is not None

    def ready(self, revision: int) -> int:
        """Return how many replicas are READY at the revision on planes that are heard."""
        return sum(one.ready(revision) for one in self.planes)


def _in_a_row(one: ObservedReplica) -> int:
    """Return the failures in a row before its present start.

    A plane of a release before tells only all there ever were: better a rollout waits for nothing.
    """
    return one.restarts if one.failures is None else one.failures


def facts_of(snapshot: Snapshot, conditions: Conditions) -> tuple[Facts, ...]:
    """Return the facts of every deployment that is wanted."""
    wanted: dict[str, dict[str, int]] = {}
    for envelope in snapshot.envelopes:
        wanted.setdefault(envelope.deployment, {})[envelope.pool] = envelope.target
    said = {plane.name: _said(plane, snapshot.desired_of(plane.name)) for plane in snapshot.planes}
    places = _places(said)
    order = {plane.name: number for number, plane in enumerate(snapshot.planes)}
    kinds = {pool.name: pool.shape.accelerator for pool in snapshot.pools}
    homes = {pool.name: pool.plane.name for pool in snapshot.pools}
    free, ours = _free(snapshot), snapshot.in_grace or is_frozen(snapshot)
    found = []
    for demand in snapshot.demands:
        if demand.deleting:
            continue
        name = demand.deployment.name
        targets: dict[str, dict[str, int]] = {}
        for pool, target in wanted.get(name, {}).items():
            targets.setdefault(homes.get(pool, ""), {})[pool] = target
        parts = (
            _part(
                plane,
                name,
                said[plane.name],
                targets.get(plane.name, {}),
                conditions[plane.name],
                free,
            )
            for plane in _ordered(snapshot, order, {*places.get(name, ()), *targets})
        )
        known = dict(snapshot.revisions.get(name, {}))
        known.setdefault(demand.deployment.revision.number, demand.deployment.revision)
        found.append(
            Facts(
                now=snapshot.now,
                deployment=demand.deployment,
                asked=asked_revision(demand),
                known=known,
                planes=tuple(part for part in parts if part is not None),
                kinds=kinds,
                silence_is_ours=ours,
            )
        )
    return tuple(found)


def asked_revision(demand: Demand) -> int:
    """Return the number of the revision that operators want, also where another one serves."""
    return demand.asked_revision or demand.deployment.revision.number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a plane says and what it was told, by deployment."""

    desired: DesiredState | None
    assignments: Mapping[str, Assignment]
    replicas: Mapping[str, tuple[ObservedReplica, ...]]


def _places(said: Mapping[str, _Said]) -> dict[str, set[str]]:
    """Return the planes that have, or were told, anything of a deployment, by its name."""
    found: dict[str, set[str]] = {}
    for plane, one in said.items():
        for deployment in {*one.assignments, *one.replicas}:
            found.setdefault(deployment, set()).add(plane)
    return found


def _ordered(
    snapshot: Snapshot, order: Mapping[str, int], names: Collection[str]
) -> Iterable[PlaneView]:
    known = sorted(order[name] for name in names if name in order)
    return (snapshot.planes[number] for number in known)


def _said(plane: PlaneView, desired: DesiredState | None) -> _Said:
    replicas: dict[str, list[ObservedReplica]] = {}
    for one in plane.link.report.replicas if plane.link.report else ():
        replicas.setdefault(one.deployment, []).append(one)
    told = desired.assignments if desired is not None else ()
    return _Said(
        desired=desired,
        assignments={one.deployment.name: one for one in told},
        replicas={name: tuple(found) for name, found in replicas.items()},
    )


def _part(
    plane: PlaneView,
    deployment: str,
    said: _Said,
    targets: Mapping[str, int],
    condition: PlaneCondition,
    free: Mapping[str, int],
) -> PlaneFacts | None:
    state = condition.state
    report, desired = plane.link.report, said.desired
    replicas = said.replicas.get(deployment, ())
    assigned = said.assignments.get(deployment)
    granted = {e.pool: e.target for e in (assigned.envelopes if assigned else ())}
    held = any(granted.values())
    if not (replicas or held or any(targets.values())):
        return None
    if report is not None:
        understands = ROLLOUTS in report.features
        settled = desired is not None and is_held(report, desired)
    else:  # as far as it was told already
        understands = desired is not None and ROLLOUTS in desired.required_features
        settled = False
    return PlaneFacts(
        name=plane.name,
        state=state,
        since=condition.since,
        understands=understands,
        settled=settled,
        told=assigned.deployment.revision.number if assigned and held else 0,
        # A plane that is lost holds nothing of the plan; it is away with what it was granted.
        targets=dict(granted if state is PlaneState.LOST else targets),
        replicas=replicas if state is not PlaneState.LOST else (),
        free=free,
        refused=plane.link.nack,
    )


def _free(snapshot: Snapshot) -> Mapping[str, int]:
    """Return the accelerators of each pool that no live replica holds."""
    shapes = {d.deployment.name: d.deployment.revision for d in snapshot.demands}
    free = {pool.name: pool.shape.accelerators for pool in snapshot.pools}
    kinds = {pool.name: pool.shape.accelerator for pool in snapshot.pools}
    for one in _live(snapshot.planes):
        revision = shapes.get(one.deployment)
        shape = revision.shape_on(kinds.get(one.pool, "")) if revision else None
        if one.pool in free:
            free[one.pool] -= shape.accelerators if shape else 1
    return free


def _live(planes: Collection[PlaneView]) -> Iterable[ObservedReplica]:
    return (
        replica
        for plane in planes
        if plane.link.report is not None
        for replica in plane.link.report.replicas
        if replica.state is not ReplicaState.FAILED
    )
