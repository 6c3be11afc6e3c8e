"""What the plane sees of itself at one moment: the input of `plan`, made by `discover`.

Values only; times are seconds of the agent's monotonic clock.
"""

from dataclasses import dataclass

from skerry.fleet.observation import ReplicaState

# A replica that served for so long was sound: its next start waits for nothing.
SOUND_SECONDS = 10.0
BACKOFF_INITIAL_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 30.0
_DOUBLINGS_MAX = 10  # 0.5 s doubled ten times is past the maximum already


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenReplica:
    """One replica as its record, its processes, its health and the gateway show it.

    `busy`: an action on it is under way. `in_flight` None: nobody could say. `fault`: why it is
    not alive, or what it said last. `known` False: its record cannot be read, so its state is a
    guess, its pool may be "" and the accelerators it holds may be any.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    state: ReplicaState
    accelerators: int = 1
    alive: bool = True
    busy: bool = False
    known: bool = True
    routable: bool = False
    started_at: float = 0.0
    ready_at: float | None = None
    unhealthy_since: float | None = None
    draining_since: float | None = None
    in_flight: int | None = None
    restarts: int = 0
    fault: str = ""

    @property
    def is_serving(self) -> bool:
        """Return whether users' requests reach it and are answered."""
        return self.state is ReplicaState.READY and self.routable and self.unhealthy_since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPool:
    """One pool of this plane: its fleet-wide id, its accelerators' kind and their number."""

    name: str
    accelerator: str
    accelerators: int


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
    """All replicas and pools of the plane, and what is remembered of failed starts."""

    replicas: tuple[SeenReplica, ...] = ()
    pools: tuple[SeenPool, ...] = ()
    backoffs: tuple[StartBackoff, ...] = ()

    def backoff(self, deployment: str, revision: int) -> StartBackoff:
        """Return what is remembered of a revision's failed starts."""
        for known in self.backoffs:
            if (known.deployment, known.revision) == (deployment, revision):
                return known
        return StartBackoff(deployment=deployment, revision=revision)


def after_failure(before: StartBackoff, ready_seconds: float | None, now: float) -> StartBackoff:
    """Return the backoff after a replica of the revision ended.

    `ready_seconds` is for how long it had been ready, None when it never was.
    """
    if ready_seconds is not None and ready_seconds > SOUND_SECONDS:
        failures, delay = 0, 0.0
    else:
        failures = before.failures + 1
        doublings = min(failures - 1, _DOUBLINGS_MAX)
        delay = min(BACKOFF_MAX_SECONDS, BACKOFF_INITIAL_SECONDS * 2.0**doublings)
    return StartBackoff(
        deployment=before.deployment,
        revision=before.revision,
        failures=failures,
        retry_at=now + delay,
    )
