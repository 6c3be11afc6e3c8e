"""What the agent remembers of each replica between two looks: PURE.

Records on disk hold states, not moments: since when a replica is ready, silent or draining is
counted on this agent's monotonic clock, anew after its restart.
"""

from dataclasses import dataclass, replace

from skerry.fleet.observation import ReplicaState

# Looks come each second, and one takes two at most where nobody answers. What is longer was this
# agent's own pause: stopped, starved or its machine asleep. Nobody was asked then.
UNWATCHED_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaMemory:
    """Moments of one replica in monotonic seconds; None for what did not happen.

    `is_adopted`: an agent before this one started it, so `started_at` is but its first sight.
    `answered_at`: when it last answered, or was last found not to.
    """

    started_at: float
    is_adopted: bool = True
    answered_at: float | None = None
    ready_at: float | None = None
    unhealthy_since: float | None = None
    draining_since: float | None = None


def first_sight(state: ReplicaState, now: float) -> ReplicaMemory:
    """Return the memory of a replica seen for the first time, also one that is adopted."""
    return ReplicaMemory(
        started_at=now,
        ready_at=now if state is ReplicaState.READY else None,
        draining_since=now if state is ReplicaState.DRAINING else None,
    )


def after_look(
    before: ReplicaMemory, state: ReplicaState, healthy: bool | None, now: float
) -> ReplicaMemory:
    """Return the memory after one more look; `healthy` None when the replica was not asked.

    `now` is when the answers were there. An own pause is nobody's silence: of a longer one no more
    than `UNWATCHED_SECONDS` is counted.
    """
    memory = before
    if state is ReplicaState.DRAINING and memory.draining_since is None:
        memory = replace(memory, draining_since=now)
    if state is not ReplicaState.DRAINING and memory.draining_since is not None:
        memory = replace(memory, draining_since=None)  # it was revived
    if healthy is None:
        return memory
    unwatched = _unwatched(memory, now)
    memory = replace(memory, answered_at=now)
    if healthy:
        ready_at = now if memory.ready_at is None else memory.ready_at
        return replace(memory, ready_at=ready_at, unhealthy_since=None)
    if memory.ready_at is None:
        return memory
    since = now if memory.unhealthy_since is None else memory.unhealthy_since + unwatched
    return replace(memory, unhealthy_since=since)


def _unwatched(memory: ReplicaMemory, now: float) -> float:
    """Return for how many seconds before `now` nobody asked the replica."""
    if memory.answered_at is None:
        return 0.0
    return max(0.0, now - memory.answered_at - UNWATCHED_SECONDS)


def started(now: float) -> ReplicaMemory:
    """Return the memory of a replica that this agent starts now."""
    return ReplicaMemory(started_at=now, is_adopted=False)


def restarted(now: float) -> ReplicaMemory:
    """Return the memory of a replica whose host starts its engine again; how long is not kept."""
    return ReplicaMemory(started_at=now)


def start_seconds(memory: ReplicaMemory, now: float) -> float | None:
    """Return how long a replica took that answers for the first time; None when not known."""
    return None if memory.is_adopted else max(0.0, now - memory.started_at)


def next_state(state: ReplicaState, healthy: bool | None) -> ReplicaState:
    """Return the record's state after a look: STARTING becomes READY, nothing else by itself."""
    if state is ReplicaState.STARTING and healthy:
        return ReplicaState.READY
    return state
