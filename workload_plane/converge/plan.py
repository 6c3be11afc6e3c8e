"""What to do next with the plane's replicas: PURE, from desired and seen to actions.

`loop` calls it on each wake; applying a plan twice is harmless and the plan after the last step
is empty. What the desired state does not name is kept: absence is never an instruction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from skerry.fleet.deployment import ResourceShape, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.observation import ReplicaState, Unknown
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica

SURGE = 1  # replicas above the target while a revision replaces another
# A gateway learns of a drain within one push and one health check; before that, new requests
# still come although nothing is in flight at this moment.
DRAIN_SECONDS_MIN = 2.0
# The longest answer (2,000 tokens at 80 ms) takes 160 s; what is longer is cut and counted.
DRAIN_SECONDS_MAX = 180.0
# Ready once and silent for so long: it hangs. Envoy cut its requests at the same age.
HUNG_SECONDS_MAX = 10.0
# Weights of hundreds of GiB come from local disks within this; beyond it, it will not come up.
START_SECONDS_MAX = 900.0
# After so many failures in a row only one copy at a time is tried: a poison revision must not
# take the whole pool down with it.
PROBING_FAILURES_MIN = 2


class Condition(Enum):
    """What a replica is to the plan."""

    BUSY = auto()  # an action on it is under way, or its record cannot be read
    FAILED = auto()  # fenced; only its record is left
    ENDED = auto()  # a process of it is gone, or it hangs: to be fenced
    DRAINED = auto()  # out of rotation with nothing left to answer
    DRAINING = auto()
    LIVE = auto()  # starting or ready


def plan(desired: DesiredState | Unknown, observed: Observed, now: float) -> tuple[Action, ...]:
    """Return the actions that bring the plane nearer to what is desired, fences first.

    With nothing known of what is desired, nothing is done.
    """
    if isinstance(desired, Unknown):
        return ()
    fences = [
        FenceReplica(name=replica.name, reason=_why_ended(replica, now))
        for replica in observed.replicas
        if classify(replica, now) is Condition.ENDED
    ]
    stops = [
        StopReplica(name=replica.name, reason=_why_drained(replica))
        for replica in observed.replicas
        if classify(replica, now) is Condition.DRAINED
    ]
    room = _rooms(observed)
    actions: list[Action] = [*fences, *stops]
    named: set[tuple[str, str]] = set()
    for grant in _grants(desired, observed):
        named.add((grant.deployment, grant.pool.name))
        actions += _plan_grant(grant, observed, room, now)
    actions += _forget_unnamed(observed, named, now)
    return tuple(actions)


def classify(replica: SeenReplica, now: float) -> Condition:
    """Return what the replica is to the plan; the first row that fits wins."""
    draining = replica.state is ReplicaState.DRAINING
    rows = (
        (replica.busy or not replica.known, Condition.BUSY),
        (replica.state is ReplicaState.FAILED, Condition.FAILED),
        (draining and (not replica.alive or _is_drained(replica, now)), Condition.DRAINED),
        (draining, Condition.DRAINING),
        (bool(_why_ended(replica, now)), Condition.ENDED),
    )
    return next((condition for holds, condition in rows if holds), Condition.LIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    """One deployment on one pool: how many replicas, of which revision, and what one takes."""

    deployment: str
    revision: Revision
    pool: SeenPool
    shape: ResourceShape
    target: int
    gone: bool  # tombstone


@dataclass(slots=True)
class _Side:
    """The replicas of one grant, sorted into what the rules speak of."""

    new: list[SeenReplica] = field(default_factory=list)
    old: list[SeenReplica] = field(default_factory=list)
    draining: int = 0
    ending: int = 0
    failed: list[SeenReplica] = field(default_factory=list)


def _grants(desired: DesiredState, observed: Observed) -> Iterable[_Grant]:
    pools = {pool.name: pool for pool in observed.pools}
    for assignment in desired.assignments:
        for name, target in _targets(assignment, observed).items():
            pool = pools.get(name)
            revision = assignment.deployment.revision
            shape = pool and revision.shape_on(pool.accelerator)
            if pool is None or (shape is None and not assignment.tombstone):
                continue  # not ours, or it cannot run there: nothing to start, nothing to end
            yield _Grant(
                deployment=assignment.deployment.name,
                revision=revision,
                pool=pool,
                shape=shape or revision.shapes[0],
                target=target,
                gone=assignment.tombstone,
            )


def _targets(assignment: Assignment, observed: Observed) -> dict[str, int]:
    targets = {envelope.pool: envelope.target for envelope in assignment.envelopes}
    if not assignment.tombstone:
        return targets
    name = assignment.deployment.name
    running = {replica.pool for replica in observed.replicas if replica.deployment == name}
    return dict.fromkeys([*targets, *sorted(running - set(targets))], 0)


def _plan_grant(
    grant: _Grant, observed: Observed, room: dict[str, int], now: float
) -> list[Action]:
    side = _sort(grant, observed.replicas, now)
    retired, why = _surplus(grant, side)
    kept_new = [replica for replica in side.new if replica not in retired]
    live = len(side.new) + len(side.old) - len(retired)
    # What is being fenced keeps its place: a replacement beside it would be a second one.
    missing = grant.target - len(kept_new) - side.ending
    wanted = max(0, min(missing, grant.target + SURGE - live))
    if _holds_unknown(observed, grant.pool.name):
        wanted = 0  # what is started could take the accelerators that are held already
    wanted = min(wanted, _allowed_by_backoff(grant, observed, kept_new, now))
    starts = min(wanted, max(0, room[grant.pool.name]) // grant.shape.accelerators)
    room[grant.pool.name] -= starts * grant.shape.accelerators
    actions: list[Action] = [_retire(replica, why) for replica in retired]
    if wanted and not starts:
        actions += _make_room(side, kept_new, retired)
    replaced = side.failed[:starts]
    # While a start has to wait, the failed record stays: it tells people why.
    waiting = max(0, missing - starts)
    spare = side.failed[starts + waiting :]
    actions += [ForgetReplica(name=replica.name) for replica in spare]
    actions += _start(grant, starts, replaced)
    return actions


def _sort(grant: _Grant, replicas: Sequence[SeenReplica], now: float) -> _Side:
    side = _Side()
    for replica in replicas:
        if (replica.deployment, replica.pool) != (grant.deployment, grant.pool.name):
            continue
        condition = classify(replica, now)
        if condition is Condition.FAILED:
            side.failed.append(replica)
        elif condition is Condition.LIVE:
            is_new = replica.revision == grant.revision.number
            (side.new if is_new else side.old).append(replica)
        elif replica.state is ReplicaState.DRAINING:
            side.draining += 1
        else:
            side.ending += 1
    # The most useful first; what is too many is cut from the end.
    side.new.sort(key=_usefulness)
    side.old.sort(key=_usefulness)
    side.failed.sort(key=lambda replica: (replica.started_at, replica.name))
    return side


def _usefulness(replica: SeenReplica) -> tuple[bool, bool, float, str]:
    ready = replica.state is ReplicaState.READY
    return (not replica.is_serving, not ready, replica.started_at, replica.name)


def _surplus(grant: _Grant, side: _Side) -> tuple[list[SeenReplica], str]:
    if grant.gone:
        return [*side.new, *side.old], "the deployment is deleted"
    too_many = side.new[grant.target :]
    serving_new = sum(replica.is_serving for replica in side.new[: grant.target])
    superseded = side.old[grant.target - serving_new :]
    if superseded and grant.target:
        return [*too_many, *superseded], f"revision {grant.revision.number} serves"
    return [*too_many, *superseded], f"the target is {grant.target}"


def _allowed_by_backoff(
    grant: _Grant, observed: Observed, new: Sequence[SeenReplica], now: float
) -> int:
    backoff = observed.backoff(grant.deployment, grant.revision.number)
    if now < backoff.retry_at:
        return 0
    if backoff.failures < PROBING_FAILURES_MIN:
        return grant.target
    starting = any(replica.state is ReplicaState.STARTING for replica in new)
    return 0 if starting else 1


def _make_room(
    side: _Side, new: Sequence[SeenReplica], retired: Sequence[SeenReplica]
) -> list[Action]:
    # A full pool has no place for the surge. One old replica goes first, or the new revision
    # would never come; peers take its requests meanwhile.
    starting = any(replica.state is ReplicaState.STARTING for replica in new)
    kept_old = [replica for replica in side.old if replica not in retired]
    if starting or retired or side.draining or not kept_old:
        return []
    return [_retire(kept_old[-1], "the pool has no place for the new revision beside it")]


def _retire(replica: SeenReplica, reason: str) -> Action:
    if replica.state is ReplicaState.STARTING:
        return StopReplica(name=replica.name, reason=reason)  # no user was ever sent to it
    return DrainReplica(name=replica.name, reason=reason)


def _start(grant: _Grant, count: int, replaced: Sequence[SeenReplica]) -> list[Action]:
    starts: list[Action] = []
    for index in range(count):
        failed = replaced[index] if index < len(replaced) else None
        same = failed is not None and failed.revision == grant.revision.number
        starts.append(
            StartReplica(
                deployment=grant.deployment,
                revision=grant.revision.number,
                pool=grant.pool.name,
                restarts=failed.restarts + 1 if failed is not None and same else 0,
                replaces=failed.name if failed is not None else None,
            )
        )
    return starts


def _forget_unnamed(observed: Observed, named: set[tuple[str, str]], now: float) -> list[Action]:
    return [
        ForgetReplica(name=replica.name)
        for replica in observed.replicas
        if classify(replica, now) is Condition.FAILED
        and (replica.deployment, replica.pool) not in named
    ]


def _holds_unknown(observed: Observed, pool: str) -> bool:
    return any(not replica.known and replica.pool in ("", pool) for replica in observed.replicas)


def _rooms(observed: Observed) -> dict[str, int]:
    room = {pool.name: pool.accelerators for pool in observed.pools}
    for replica in observed.replicas:
        # What is being ended holds its accelerators until it is confirmed gone.
        if replica.state is not ReplicaState.FAILED and replica.pool in room:
            room[replica.pool] -= replica.accelerators
    return room


def _why_ended(replica: SeenReplica, now: float) -> str:
    if not replica.alive:
        return replica.fault or "its process is gone"
    if replica.unhealthy_since is not None and replica.ready_at is not None:
        silent = now - replica.unhealthy_since
        if silent > HUNG_SECONDS_MAX:
            return f"it was ready and has not been healthy for {silent:.0f} s"
    if replica.state is ReplicaState.STARTING and now - replica.started_at > START_SECONDS_MAX:
        return f"it was not ready within {START_SECONDS_MAX:.0f} s"
    return ""


def _is_drained(replica: SeenReplica, now: float) -> bool:
    if replica.draining_since is None:
        return False
    age = now - replica.draining_since
    return age > DRAIN_SECONDS_MAX or (age > DRAIN_SECONDS_MIN and replica.in_flight == 0)


def _why_drained(replica: SeenReplica) -> str:
    if not replica.alive:
        return "it ended while draining"
    if replica.in_flight == 0:
        return "drained"
    return f"not drained within {DRAIN_SECONDS_MAX:.0f} s"
