"""When an engine that ended by itself is started again, and when that is given up. Pure.

The host keeps its ports, its record and its gRPC connections meanwhile; what it gives up is the
plane's to replace, on other accelerators if need be.
"""

from dataclasses import dataclass

from workload_plane.replica_host.lifecycle import HostState

# Ends within the window count together: what dies five times in ten minutes will do so again.
WINDOW_SECONDS = 600.0
RESTARTS_MAX_DEFAULT = 4
# The first restart comes at once, as most engines die once; then 1, 2, 4 and 5 s.
_PAUSE_INITIAL_SECONDS = 1.0
PAUSE_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One more start of the engine: after which pause, and as what the replica is seen until it.

    `number` counts from 1 within the window.
    """

    number: int
    pause_seconds: float
    state: HostState


def ends_that_count(ends: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Return the moments of the window, this end the last of them."""
    return (*(end for end in ends if now - end < WINDOW_SECONDS), now)


def is_sound(serving_since: float | None, now: float) -> bool:
    """Say whether an engine has served for so long that its ends before are of the past."""
    return serving_since is not None and now - serving_since >= WINDOW_SECONDS


def next_restart(ends: tuple[float, ...], restarts_max: int) -> Restart | None:
    """Return how to go on after those ends within the window; None when it is to be given up."""
    number = len(ends)
    if number > restarts_max:
        return None
    pause = min(PAUSE_SECONDS_MAX, _PAUSE_INITIAL_SECONDS * 2.0 ** min(number - 2, 10))
    return Restart(
        number=number,
        pause_seconds=0.0 if number == 1 else pause,
        state=HostState.RESTARTING if number == 1 else HostState.CRASH_LOOPING,
    )
