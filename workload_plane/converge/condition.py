"""What a replica is to the plan at one moment, by an ordered table: PURE, with all its times.

`plan` sorts replicas by it before it decides anything.
"""

from enum import Enum, auto

from skerry.fleet.observation import ReplicaState
from workload_plane.converge.seen import SeenReplica

# A gateway learns of a drain within one push and one health check; before that, new requests
# still come although nothing is in flight at this moment.
DRAIN_SECONDS_MIN = 2.0
# The longest answer (2,000 tokens at 80 ms) takes 160 s; what is longer is cut and counted.
DRAIN_SECONDS_MAX = 180.0
# Ready once and silent for so long after the first look that it did not answer: it hangs. Its host
# notices within 1.5 s, a look takes a second then and comes a second after the last: what waits on
# it is freed within 10 s of its last word.
HUNG_SECONDS_MAX = 4.5
# A host gives its engine up by itself, the slowest after an hour, and says so: this is for a host
# that hangs and says nothing.
START_SECONDS_MAX = 7_200.0


class Condition(Enum):
    """What a replica is to the plan."""

    BUSY = auto()  # an action on it is under way, or its record cannot be read
    FAILED = auto()  # fenced; only its record is left
    ENDED = auto()  # a process of it is gone, or it hangs: to be fenced
    DRAINED = auto()  # out of rotation with nothing left to answer
    DRAINING = auto()
    LIVE = auto()  # starting or ready


def classify(replica: SeenReplica, now: float) -> Condition:
    """Return what the replica is to the plan; the first that fits wins."""
    if replica.busy or not replica.known:
        return Condition.BUSY
    if replica.state is ReplicaState.FAILED:
        return Condition.FAILED
    if replica.state is ReplicaState.DRAINING:
        is_over = not replica.alive or _is_drained(replica, now)
        return Condition.DRAINED if is_over else Condition.DRAINING
    return Condition.ENDED if why_ended(replica, now) else Condition.LIVE


def why_ended(replica: SeenReplica, now: float) -> str:
    """Return why the replica is to be fenced, empty when it is not."""
    if not replica.alive:
        return replica.fault or "its process is gone"
    if replica.unhealthy_since is not None and replica.ready_at is not None:
        silent = now - replica.unhealthy_since
        if silent > HUNG_SECONDS_MAX:
            return f"it was ready and has not been healthy for {silent:.0f} s"
    if replica.state is ReplicaState.STARTING and now - replica.started_at > START_SECONDS_MAX:
        return f"it was not ready within {START_SECONDS_MAX:.0f} s"
    return ""


def why_drained(replica: SeenReplica) -> str:
    """Return why a replica that is taken for drained is."""
    if not replica.alive:
        return "it ended while draining"
    if replica.in_flight == 0:
        return "drained"
    return f"not drained within {DRAIN_SECONDS_MAX:.0f} s"


def _is_drained(replica: SeenReplica, now: float) -> bool:
    if replica.draining_since is None:
        return False
    age = now - replica.draining_since
    return age > DRAIN_SECONDS_MAX or (age > DRAIN_SECONDS_MIN and replica.in_flight == 0)
