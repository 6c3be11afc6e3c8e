"""What each deployment may have on each pool of the plane, and of which revision: PURE.

`plan` brings the replicas nearer to it. How many they are is the control plane's word, or the
plane's own loop's inside it; until that loop has decided, what runs is held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from skerry.fleet.autoscaling.factors import factors_of
from skerry.fleet.deployment import ResourceShape, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from workload_plane.converge.demand import IDLE_SECONDS_MAX, WOKEN_SECONDS_MIN, woken
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica

SURGE = 1  # replicas above the target while a revision or a node is replaced by another
UNAVAILABLE = 1  # replicas below the target while there is no room above it
# A candidate that failed so often in a row gives its place back to the revision that serves, as the
# control plane would have it (`reconcile.rollout.FAILURES_MAX`): it may be away.
CANDIDATE_FAILURES_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One deployment on one pool: how many replicas, of which revision, and what one takes.

    Where two revisions run, each has a grant of its own and sees nothing of the other but `beside`:
    the replicas that count against the target `whole` of both. `starts` is for how many replicas
    one is started where that is fewer than the target.
    """

    deployment: str
    revision: Revision
    pool: SeenPool
    shape: ResourceShape
    target: int
    gone: bool  # tombstone
    surge: int = SURGE
    unavailable: int = UNAVAILABLE
    whole: int
    starts: int
    other: int = 0  # the revision that has a grant of its own
    is_candidate: bool = False
    is_over: bool = False  # a candidate that failed its breaker: nothing of it is started again

    def sees(self, replica: SeenReplica) -> bool:
        """Say whether a replica of the deployment on the pool is this grant's to keep or to end."""
        if self.is_candidate:
            return replica.revision == self.revision.number
        return replica.revision != self.other

    def ends(self, replica: SeenReplica) -> bool:
        """Say whether a candidate's replica, which starts, is one by which it is over."""
        is_starting = replica.state is ReplicaState.STARTING
        return self.is_over and self.sees(replica) and is_starting and gives_up(replica)

    @property
    def makes_room(self) -> bool:
        """Say whether replicas of another revision may go first where there is no room."""
        return self.is_candidate or not self.other


def grants_of(desired: DesiredState, observed: Observed) -> Iterable[Grant]:
    """Yield a grant for each deployment and pool that the desired state names, by its order.

    Those with a candidate are two: see `Grant`.
    """
    pools = {pool.name: pool for pool in observed.pools}
    for assignment in desired.assignments:
        for name, target in _targets(assignment, observed).items():
            pool = pools.get(name)
            if pool is not None:
                yield from _split(assignment, pool, target, observed)


def gives_up(replica: SeenReplica) -> bool:
    """Say whether a replica that never served failed so often that its revision is given up."""
    is_up = replica.state in (ReplicaState.READY, ReplicaState.DRAINING)
    return not is_up and replica.failed_in_a_row >= CANDIDATE_FAILURES_MAX


def surging(there: Sequence[tuple[int, ReplicaState]], surge: int) -> int:
    """Return how many of a deployment's replicas are there only until they serve.

    Then another goes for each. `there` are revisions and states without what drains, `surge` is the
    rollout's `max_surge`. None that serves is counted: what starts for it may never come up.
    """
    if len({revision for revision, _ in there}) <= 1:
        return 0
    return min(surge, sum(state is not ReplicaState.READY for _, state in there))


def _split(
    assignment: Assignment, pool: SeenPool, target: int, observed: Observed
) -> Iterable[Grant]:
    """Yield the grant of the deployment's revision, and of the candidate's where there is one.

    Where a revision cannot run, nothing of it is to start and nothing to end.
    """
    candidate = assignment.candidate
    count = dict(candidate.replicas).get(pool.name, 0) if candidate is not None else 0
    count = min(count, target)
    if candidate is None or count == 0 or assignment.tombstone:
        yield from _grant(assignment, assignment.deployment.revision, pool, target)
        return
    name, number = assignment.deployment.name, candidate.revision.number
    tried = [
        one
        for one in observed.replicas
        if (one.deployment, one.pool, one.revision) == (name, pool.name, number)
    ]
    is_proven = assignment.deployment.revision.shape_on(pool.accelerator) is not None
    is_over = is_proven and any(map(gives_up, tried))
    if is_over:  # what is READY of it stays for as long as it is
        count = min(count, sum(one.state is ReplicaState.READY for one in tried))
    serving = sum(one.is_serving for one in tried)
    # What serves goes once a candidate does; until then it is not replaced where it ends.
    for grant in _grant(assignment, assignment.deployment.revision, pool, target):
        yield replace(
            grant, target=target - min(serving, count), starts=target - count, other=number
        )
    for grant in _grant(assignment, candidate.revision, pool, target):
        yield replace(grant, target=count, starts=count, is_candidate=True, is_over=is_over)


def _grant(
    assignment: Assignment, revision: Revision, pool: SeenPool, target: int
) -> Iterable[Grant]:
    shape = revision.shape_on(pool.accelerator)
    if shape is None and not assignment.tombstone:
        return
    pace = assignment.deployment.rollout
    yield Grant(
        deployment=assignment.deployment.name,
        revision=revision,
        pool=pool,
        shape=shape or revision.shapes[0],
        target=target,
        gone=assignment.tombstone,
        surge=pace.max_surge,
        unavailable=pace.max_unavailable,
        whole=target,
        starts=target,
    )


def _targets(assignment: Assignment, observed: Observed) -> dict[str, int]:
    name = assignment.deployment.name
    envelopes = [_wanted(one, assignment, observed) for one in assignment.envelopes]
    targets = {envelope.pool: envelope.target for envelope in envelopes}
    running = {replica.pool for replica in observed.replicas if replica.deployment == name}
    if not assignment.tombstone:
        idle = IDLE_SECONDS_MAX
        if assignment.scaling is not None:
            # One that was started for who waits is not ended before it can have answered them.
            delay = factors_of(assignment.deployment.scaling).delay_seconds
            idle = min(idle, max(delay, assignment.scaling.cold_start_seconds, WOKEN_SECONDS_MIN))
        return targets | woken(envelopes, running, observed.demand, idle)
    return dict.fromkeys([*targets, *sorted(running - set(targets))], 0)


def _wanted(envelope: Envelope, assignment: Assignment, observed: Observed) -> Envelope:
    """Return the envelope with what the plane's own loop wants, inside the bounds as they are.

    Until it has decided, as in an agent that has just begun, what the load holds up stays.
    """
    if observed.wanted is None or assignment.scaling is None:
        return envelope
    wanted = observed.wanted.get((envelope.deployment, envelope.pool))
    if wanted is None:
        wanted = _up(envelope, assignment, observed)
    return replace(envelope, target=min(max(wanted, envelope.floor), envelope.ceiling))


def _up(envelope: Envelope, assignment: Assignment, observed: Observed) -> int:
    """Return how many are meant to run, at least the target: those there, less a surge."""
    there = [
        (one.revision, one.state)
        for one in observed.replicas
        if (one.deployment, one.pool) == (envelope.deployment, envelope.pool)
        and one.state is not ReplicaState.DRAINING
    ]
    surge = surging(there, assignment.deployment.rollout.max_surge)
    return max(envelope.target, len(there) - surge)
