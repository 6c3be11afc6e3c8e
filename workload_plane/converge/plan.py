"""What to do next with the plane's replicas: PURE, from desired and seen to actions.

`loop` calls it on each wake; applying a plan twice is harmless and the plan after the last step
is empty. What the desired state does not name is kept: absence is never an instruction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skerry.fleet.deployment import ResourceShape
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import ReplicaState, Unknown
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    ReviveReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.condition import Condition, classify, why_drained, why_ended
from workload_plane.converge.grants import CANDIDATE_FAILURES_MAX, Grant, grants_of
from workload_plane.converge.nodes import PoolRoom
from workload_plane.converge.seen import Observed, SeenReplica

# After so many failures in a row only one copy at a time is tried: a poison revision must not
# take the whole pool down with it.
PROBING_FAILURES_MIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What the plan would do and cannot yet, and why; `draining` are the nodes it concerns.

    Where it is a base model that is awaited, so many `replicas` of the revision start with it, on
    these `places` as far as there are some.
    """

    deployment: str
    pool: str
    reason: str
    draining: tuple[str, ...] = ()
    revision: int = 0
    replicas: int = 0
    places: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The actions of one turn, and what has to wait."""

    actions: tuple[Action, ...] = ()
    waits: tuple[Wait, ...] = ()


def plan(desired: DesiredState | Unknown, observed: Observed, now: float) -> tuple[Action, ...]:
    """Return the actions that bring the plane nearer to what is desired, fences first.

    With nothing known of what is desired, nothing is done.
    """
    return decide(desired, observed, now).actions


def decide(desired: DesiredState | Unknown, observed: Observed, now: float) -> Decision:
    """Return the actions of `plan`, and what it could not do for want of room."""
    if isinstance(desired, Unknown):
        return Decision()
    fences = [
        FenceReplica(name=replica.name, reason=why_ended(replica, now))
        for replica in observed.replicas
        if classify(replica, now) is Condition.ENDED
    ]
    grants = tuple(grants_of(desired, observed))
    for grant in grants:
        fences += _given_up(grant, observed, now) if grant.is_over else ()
    stops = [
        StopReplica(name=replica.name, reason=why_drained(replica))
        for replica in observed.replicas
        if classify(replica, now) is Condition.DRAINED
    ]
    actions: list[Action] = [*fences, *stops]
    turn = _turn(desired, observed, now)
    named: set[tuple[str, str]] = set()
    for grant, side in _in_turn(grants, turn):
        named.add((grant.deployment, grant.pool.name))
        actions += _plan_grant(grant, side, turn)
    actions += _forget_unnamed(observed, named, now)
    return Decision(actions=tuple(actions), waits=tuple(turn.waits))


def _given_up(grant: Grant, observed: Observed, now: float) -> Iterable[FenceReplica]:
    """Yield what of a candidate that is over goes on starting: its record says so from then on."""
    for one in observed.replicas:
        if (one.deployment, one.pool) != (grant.deployment, grant.pool.name):
            continue
        if grant.ends(one) and classify(one, now) is Condition.LIVE:
            told = f"it failed {one.failed_in_a_row} times in a row: {one.fault}"
            yield FenceReplica(name=one.name, reason=told.removesuffix(": "))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What all grants of one turn share: what is seen, what room is left, and who waits."""

    observed: Observed
    now: float
    rooms: dict[str, PoolRoom]
    draining: frozenset[str]  # nodes to be emptied
    waits: list[Wait] = field(default_factory=list)

    def leaves(self, replica: SeenReplica) -> bool:
        """Say whether the replica is on a node that is to be emptied."""
        return not self.draining.isdisjoint(replica.nodes)

    def leaving(self, pool: str, but: str) -> list[SeenReplica]:
        """Return the replicas of the pool that are about to end, but for one deployment's."""
        return [
            one
            for one in self.observed.replicas
            if one.pool == pool and one.deployment != but and one.state is ReplicaState.DRAINING
        ]


def _turn(desired: DesiredState, observed: Observed, now: float) -> _Turn:
    here = {node for pool in observed.pools for node in pool.nodes}
    cordons = [cordon for cordon in desired.node_cordons if cordon.node in here]
    closed = frozenset(cordon.node for cordon in cordons)
    there: dict[str, list[SeenReplica]] = {}
    for replica in observed.replicas:
        there.setdefault(replica.pool, []).append(replica)
    return _Turn(
        observed=observed,
        now=now,
        rooms={
            pool.name: PoolRoom(pool, there.get(pool.name, ()), closed | pool.unfit)
            for pool in observed.pools
        },
        draining=frozenset(cordon.node for cordon in cordons if cordon.draining),
    )


@dataclass(slots=True)
class _Side:
    """The replicas of one grant, sorted into what the rules speak of.

    `old` are to be replaced: of another revision, or on a node that is to be emptied.
    """

    new: list[SeenReplica] = field(default_factory=list)
    old: list[SeenReplica] = field(default_factory=list)
    draining: int = 0
    ending: int = 0
    beginning: int = 0  # their starts are under way: among those `ending`, for they are busy too
    failed: list[SeenReplica] = field(default_factory=list)
    revivable: list[SeenReplica] = field(default_factory=list)  # of those draining
    beside: list[SeenReplica] = field(default_factory=list)  # live, of the other grant
    beginning_beside: int = 0


def _in_turn(grants: Iterable[Grant], turn: _Turn) -> list[tuple[Grant, _Side]]:
    """Return the grants in the order in which they may take room.

    Who lacks replicas comes before who only replaces some, and then the largest: what is small
    finds room between them, the other way round may not.
    """
    pairs = [(grant, _sort(grant, turn)) for grant in grants]

    def order(pair: tuple[Grant, _Side]) -> tuple[bool, bool, int]:
        grant, side = pair
        there = len(side.new) + len(side.old) + side.ending
        # The place that one made for a candidate is not for another of those that made it.
        return (there >= grant.starts, not grant.is_candidate, -grant.shape.accelerators)

    return sorted(pairs, key=order)


def _plan_grant(grant: Grant, side: _Side, turn: _Turn) -> list[Action]:
    room = turn.rooms[grant.pool.name]
    retired = _surplus(grant, side)
    kept_new = [replica for replica in side.new if replica not in retired]
    live = len(side.new) + len(side.old) + len(side.beside) - len(retired)
    live += side.beginning + side.beginning_beside
    # What is being fenced keeps its place: a replacement beside it would be a second one.
    missing = grant.starts - len(kept_new) - side.ending
    wanted = max(0, min(missing, grant.whole + grant.surge - live))
    revived = side.revivable[:wanted]
    wanted -= len(revived)
    if wanted and _holds_unknown(turn.observed, grant.pool.name):
        wanted = 0  # what is started could take the accelerators that are held already
        _wait(grant, side, turn, f"which accelerators of {grant.pool.name} are free is not known")
    if wanted and grant.pool.stopped:
        wanted = 0  # nothing starts there, so nobody makes room either
        _wait(grant, side, turn, grant.pool.stopped)
    wanted = min(wanted, _allowed_by_backoff(grant, turn, side, kept_new))
    places = _places(grant.shape, wanted, room)
    actions = [_retire(replica, _why_retired(grant, replica, turn)) for replica in retired]
    actions += [
        ReviveReplica(name=one.name, reason=f"the target is {grant.target}") for one in revived
    ]
    if wanted and (reason := _awaited_model(grant, turn)):
        # The places are kept for them; nothing that serves goes before its successor can start.
        turn.waits.append(_model_wait(grant, reason, wanted, places))
        places = []
    elif wanted and not places:
        made = _make_room(grant, side, retired, turn)
        actions += made
        if not made and not retired and not side.draining:
            _wait(grant, side, turn, _why_no_room(grant, side, room))
    replaced = side.failed[: len(places)]
    # While a start has to wait, the failed record stays: it tells people why.
    waiting = max(0, missing - len(revived) - len(places))
    if grant.is_over:
        waiting = len(side.failed)  # it is what tells that it is over, also the next agent here
        turn.waits.append(_over(grant))
    spare = side.failed[len(places) + waiting :]
    actions += [ForgetReplica(name=replica.name) for replica in spare]
    actions += _start(grant, places, replaced)
    return actions


def _sort(grant: Grant, turn: _Turn) -> _Side:
    side = _Side()
    for replica in turn.observed.replicas:
        if (replica.deployment, replica.pool) != (grant.deployment, grant.pool.name):
            continue
        condition = classify(replica, turn.now)
        if condition is Condition.LIVE and grant.ends(replica):
            condition = Condition.ENDED
        if not grant.sees(replica):
            side.beginning_beside += replica.begins
            if condition is Condition.LIVE:
                side.beside.append(replica)
            elif grant.is_candidate:
                side.draining += replica.state is ReplicaState.DRAINING
        elif condition is Condition.FAILED:
            side.failed.append(replica)
        elif condition is Condition.LIVE:
            is_new = replica.revision == grant.revision.number and not turn.leaves(replica)
            (side.new if is_new else side.old).append(replica)
        elif replica.state is ReplicaState.DRAINING:
            side.draining += 1
            if condition is Condition.DRAINING and _may_serve_again(replica, grant, turn):
                side.revivable.append(replica)
        else:
            side.ending += 1
            side.beginning += replica.begins
    # The most useful first; what is too many is cut from the end. Of those that serve alike, the
    # ones on nodes to be emptied go first.
    side.new.sort(key=_usefulness)
    side.old.sort(key=lambda one: (not one.is_serving, turn.leaves(one), *_usefulness(one)))
    side.revivable.sort(key=_usefulness)
    side.failed.sort(key=lambda replica: (replica.started_at, replica.name))
    side.beside.sort(key=lambda one: (not one.is_serving, turn.leaves(one), *_usefulness(one)))
    return side


def _may_serve_again(replica: SeenReplica, grant: Grant, turn: _Turn) -> bool:
    is_new = replica.revision == grant.revision.number and not turn.leaves(replica)
    return is_new and replica.alive and replica.unhealthy_since is None and not grant.gone


def _usefulness(replica: SeenReplica) -> tuple[bool, bool, float, str]:
    ready = replica.state is ReplicaState.READY
    return (not replica.is_serving, not ready, replica.started_at, replica.name)


def _surplus(grant: Grant, side: _Side) -> list[SeenReplica]:
    if grant.gone:
        return [*side.new, *side.old]
    serving_new = sum(replica.is_serving for replica in side.new[: grant.target])
    return [*side.new[grant.target :], *side.old[grant.target - serving_new :]]


def _why_retired(grant: Grant, replica: SeenReplica, turn: _Turn) -> str:
    if grant.gone:
        return "the deployment is deleted"
    if grant.target and replica.revision != grant.revision.number:
        return f"revision {grant.revision.number} serves"
    if grant.target and turn.leaves(replica):
        return f"{_named(turn.draining.intersection(replica.nodes))} is to be emptied"
    return f"the target is {grant.target}"


def _places(shape: ResourceShape, wanted: int, room: PoolRoom) -> list[tuple[str, ...]]:
    places: list[tuple[str, ...]] = []
    while len(places) < wanted and (place := room.take(shape)) is not None:
        places.append(place)
    return places


def _allowed_by_backoff(grant: Grant, turn: _Turn, side: _Side, new: Sequence[SeenReplica]) -> int:
    backoff = turn.observed.backoff(grant.deployment, grant.revision.number)
    if turn.now < backoff.retry_at:
        return 0
    if backoff.failures < PROBING_FAILURES_MIN:
        return grant.target
    starting = side.beginning or any(replica.state is ReplicaState.STARTING for replica in new)
    return 0 if starting else 1


def _make_room(
    grant: Grant, side: _Side, retired: Sequence[SeenReplica], turn: _Turn
) -> list[Action]:
    # A full pool has no place for the surge. One old replica goes first, or the new revision
    # would never come; peers take its requests meanwhile. For a node that is to be emptied nobody
    # goes: it stays in use until there is room elsewhere.
    starting = sum(
        replica.state is ReplicaState.STARTING for replica in side.new if replica not in retired
    )
    if starting + side.beginning + len(retired) + side.draining >= grant.unavailable:
        return []
    room = turn.rooms[grant.pool.name]
    leaving = turn.leaving(grant.pool.name, but=grant.deployment)
    if room.in_the_way(grant.shape, leaving) is not None:
        return []  # others leave already
    goes = room.in_the_way(grant.shape, _superseded(grant, side))
    if goes is None:
        return []
    there = (*side.new, *side.old, *side.beside)
    if all(one is goes for one in there) and grant.whole > grant.unavailable:
        return []  # the last one there, though it only starts: too many are away already
    # What failed and what is missing is away as well.
    if goes.is_serving and _serving(side, retired) - 1 < grant.whole - grant.unavailable:
        return []
    return [_retire(goes, "the pool has no place for the new revision beside it")]


def _serving(side: _Side, retired: Sequence[SeenReplica] = ()) -> int:
    there = (*side.new, *side.old, *side.beside)
    return sum(one.is_serving for one in there if one not in retired)


def _why_no_room(grant: Grant, side: _Side, room: PoolRoom) -> str:
    reason = room.why_full(grant.shape)
    if grant.unavailable == 0 and (side.old or side.beside):
        return f"{reason}; none that serves goes first: rollout.maxUnavailable is 0"
    if _superseded(grant, side) and (serving := _serving(side)) <= grant.whole - grant.unavailable:
        return f"{reason}; none that serves goes first: {serving} of {grant.whole} serve"
    return reason


def _superseded(grant: Grant, side: _Side) -> list[SeenReplica]:
    """Return who may go first where there is no room."""
    there = (*side.old, *side.beside) if grant.makes_room else ()
    return [one for one in there if one.revision != grant.revision.number]


def _over(grant: Grant) -> Wait:
    reason = (
        f"revision {grant.revision.number} failed {CANDIDATE_FAILURES_MAX} times in a row: its"
        " place is the earlier revision's again, until this plane is told of another candidate"
    )
    return Wait(deployment=grant.deployment, pool=grant.pool.name, reason=reason)


def _awaited_model(grant: Grant, turn: _Turn) -> str:
    return turn.observed.model_waits.get((grant.deployment, grant.revision.number), "")


def _model_wait(grant: Grant, reason: str, wanted: int, places: Sequence[tuple[str, ...]]) -> Wait:
    return Wait(
        deployment=grant.deployment,
        pool=grant.pool.name,
        reason=reason,
        revision=grant.revision.number,
        replicas=wanted,
        places=tuple(places),
    )


def _wait(grant: Grant, side: _Side, turn: _Turn, reason: str) -> None:
    leaving = turn.draining.intersection(node for one in side.old for node in one.nodes)
    if leaving:
        reason = f"{reason}: what serves on {_named(leaving)} stays"
    turn.waits.append(
        Wait(
            deployment=grant.deployment,
            pool=grant.pool.name,
            reason=reason,
            draining=tuple(sorted(leaving)),
        )
    )


def _named(nodes: Iterable[str]) -> str:
    return f"node {', '.join(sorted(nodes))}"


def _retire(replica: SeenReplica, reason: str) -> Action:
    if replica.state is ReplicaState.STARTING:
        return StopReplica(name=replica.name, reason=reason)  # no user was ever sent to it
    return DrainReplica(name=replica.name, reason=reason)


def _start(
    grant: Grant, places: Sequence[tuple[str, ...]], replaced: Sequence[SeenReplica]
) -> list[Action]:
    starts: list[Action] = []
    for index, nodes in enumerate(places):
        failed = replaced[index] if index < len(replaced) else None
        same = failed is not None and failed.revision == grant.revision.number
        starts.append(
            StartReplica(
                deployment=grant.deployment,
                revision=grant.revision.number,
                pool=grant.pool.name,
                nodes=nodes,
                restarts=failed.restarts + 1 if failed is not None and same else 0,
                failures=failed.failed_in_a_row if failed is not None and same else 0,
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
