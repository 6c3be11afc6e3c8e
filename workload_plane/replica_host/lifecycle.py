"""A replica's life as its host sees it: states, what may follow what, and health from probes.

Pure; the host feeds it probe results and writes the state file at every change.
"""

from dataclasses import dataclass
from enum import StrEnum

# A hung engine is told by two silent probes in a row: one may be a busy machine's.
PROBES_FAILED_MAX = 2


class HostState(StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"  # the engine loads
    READY = "ready"
    UNHEALTHY = "unhealthy"  # the engine lives and does not answer
    RESTARTING = "restarting"  # the engine ended by itself; the next one comes up
    CRASH_LOOPING = "crash-looping"  # the same again and again: the next one waits its time
    DRAINING = "draining"  # asked to end; requests in flight are finished
    STOPPED = "stopped"  # ended as asked
    FAILED = "failed"  # could not start, or the engine ended by itself too often


# The engine is down and the host is about to have another one: not an end of the replica.
RESTARTS = frozenset({HostState.RESTARTING, HostState.CRASH_LOOPING})


class IllegalTransition(Exception):
    """Two states that do not follow one another: a mistake of ours."""


_S = HostState
_ALLOWED: dict[HostState, frozenset[HostState]] = {
    _S.STARTING: frozenset({_S.READY, _S.DRAINING, _S.STOPPED, _S.FAILED}),
    _S.READY: frozenset({_S.UNHEALTHY, _S.RESTARTING, _S.CRASH_LOOPING, _S.DRAINING, _S.FAILED}),
    _S.UNHEALTHY: frozenset({_S.READY, _S.RESTARTING, _S.CRASH_LOOPING, _S.DRAINING, _S.FAILED}),
    _S.RESTARTING: frozenset({_S.READY, _S.CRASH_LOOPING, _S.DRAINING, _S.FAILED}),
    _S.CRASH_LOOPING: frozenset({_S.READY, _S.RESTARTING, _S.DRAINING, _S.FAILED}),
    _S.DRAINING: frozenset({_S.STOPPED, _S.FAILED}),
    _S.STOPPED: frozenset(),
    _S.FAILED: frozenset(),
}


def advance(state: HostState, to: HostState) -> HostState:
    """Return the next state; raises IllegalTransition naming both when it may not follow."""
    if to is state:
        return state
    if to not in _ALLOWED[state]:
        raise IllegalTransition(f"{state} may not become {to}")
    return to


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state with the count of probes that failed in a row."""

    state: HostState = HostState.STARTING
    probes_failed: int = 0

    @property
    def serving(self) -> bool:
        """Return whether new requests may come."""
        return self.state is HostState.READY


_PROBED = frozenset({HostState.STARTING, HostState.READY, HostState.UNHEALTHY}) | RESTARTS


def after_probe(health: Health, *, answered: bool) -> Health:
    """Return the health after one more probe; only a living, wanted engine's moves with it."""
    if health.state not in _PROBED:
        return health
    if answered:
        return Health(state=advance(health.state, HostState.READY))
    failed = health.probes_failed + 1
    state: HostState = health.state
    if state is HostState.READY and failed >= PROBES_FAILED_MAX:
        state = advance(state, HostState.UNHEALTHY)
    return Health(state=state, probes_failed=failed)
