"""What the plane sees of itself at one moment: the input of `plan`, made by `discover`.

Values only; times are seconds of the agent's monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.fleet.observation import ReplicaState
from workload_plane.converge.demand import Demand

# A replica that served for so long was sound: its next start waits for nothing. Longer than a
# replica host's window (`replica_host.restarts`): within that an engine that serves may be failing.
SOUND_SECONDS = 660.0
# One that served for so long and was not given up by its host ended of something else, as a rule:
# the first such end waits for nothing, and those that end together count once.
SERVED_SECONDS = 10.0
TOGETHER_SECONDS = 1.0
BACKOFF_INITIAL_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 30.0
_DOUBLINGS_MAX = 10  # 0.5 s doubled ten times is past the maximum already


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenReplica:
    """One replica as its record, its processes, its health and the gateway show it.

    `busy`: an action on it is under way; `begins`: its start is. `in_flight` None: nobody could
    say. `fault`: why it is not alive, or what it said last. `known` False: its record cannot be
    read, so its state is a guess, its pool may be "" and the accelerators it holds may be any.
    `restarts` and `failures`, those in a row, are before its present start. `nodes` are empty where
    they are not known, and in a pool whose nodes are not listed.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    state: ReplicaState
    accelerators: int = 1
    host_memory_bytes: int = 0
    nodes: tuple[str, ...] = ()
    alive: bool = True
    busy: bool = False
    begins: bool = False
    known: bool = True
    routable: bool = False
    started_at: float = 0.0
    ready_at: float | None = None
    unhealthy_since: float | None = None
    draining_since: float | None = None
    in_flight: int | None = None
    restarts: int = 0
    failures: int = 0
    fault: str = ""

    @property
    def failed_in_a_row(self) -> int:
        """Return how often it failed without serving soundly between, also its end."""
        return self.failures + (self.state is ReplicaState.FAILED)

    @property
    def is_serving(self) -> bool:
        """Return whether users' requests reach it and are answered."""
        return self.state is ReplicaState.READY and self.routable and self.unhealthy_since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPool:
    """One pool of this plane: its fleet-wide id, its accelerators' kind and their number.

    `nodes` by the plane's own names, in the order of their devices; without them (a plane of too
    many) replicas are bound to the pool alone. The two after them are of one node. `unfit` nodes
    take nothing new, as all of the pool while it is `stopped`, which says why. Devices are numbered
    through the pool from `first_device` on, or within each node (`numbered_by_node`) where nodes
    come and go.
    """

    name: str
    accelerator: str
    accelerators: int
    nodes: tuple[str, ...] = ()
    accelerators_per_node: int = 0
    host_memory_bytes: int = 0
    unfit: frozenset[str] = frozenset()
    stopped: str = ""
    numbered_by_node: bool = False
    first_device: int = 0

    def __post_init__(self) -> None:
        assert self.accelerators == len(self.nodes) * self.accelerators_per_node or not self.nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBackoff:
    """How often starting one revision failed in a row, and when it may be tried again.

    Kept by revision too: a poison revision must not slow the restart of the good one before it.
    """

    deployment: str
    revision: int
    failures: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All replicas and pools of the plane, and what is remembered of failed starts.

    `model_waits` says of (deployment, revision) why their base model is not here yet; `demand`
    is what the picker says is asked for; `wanted` is how many replicas the plane's own loop wants,
    by deployment and pool: what scales and is not in it is not decided yet. None: nothing here
    scales by itself, and targets are run.
    """

    replicas: tuple[SeenReplica, ...] = ()
    pools: tuple[SeenPool, ...] = ()
    backoffs: tuple[StartBackoff, ...] = ()
    model_waits: Mapping[tuple[str, int], str] = field(default_factory=dict)
    demand: Demand = field(default_factory=dict)
    wanted: Mapping[tuple[str, str], int] | None = None

    def backoff(self, deployment: str, revision: int) -> StartBackoff:
        """Return what is remembered of a revision's failed starts."""
        for known in self.backoffs:
            if (known.deployment, known.revision) == (deployment, revision):
                return known
        return StartBackoff(deployment=deployment, revision=revision)


def after_failure(
    before: StartBackoff, ready_seconds: float | None, now: float, *, given_up: bool = False
) -> StartBackoff:
    """Return the backoff after a replica of the revision ended.

    `ready_seconds` is for how long it had been ready, None when it never was. What its host has
    `given_up` failed whatever that is: short restarts of its engine are not seen from here.
    """
    served = 0.0 if given_up or ready_seconds is None else ready_seconds
    failures = before.failures + 1
    if served > SOUND_SECONDS:
        failures, delay = 0, 0.0
    elif served > SERVED_SECONDS and before.failures == 0:
        delay = 0.0
    elif served > SERVED_SECONDS and now - before.retry_at < TOGETHER_SECONDS:
        return before
    else:
        doublings = min(failures - 1, _DOUBLINGS_MAX)
        delay = min(BACKOFF_MAX_SECONDS, BACKOFF_INITIAL_SECONDS * 2.0**doublings)
    return StartBackoff(
        deployment=before.deployment,
        revision=before.revision,
        failures=failures,
        retry_at=now + delay,
    )
