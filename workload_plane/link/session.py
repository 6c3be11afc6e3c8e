"""One connection to a control plane as a transition table, and whether both directions live.

PURE: the link's client feeds in events and times of its monotonic clock. gRPC's own keepalive
took 61 s to notice a stopped peer; heartbeats judged here take seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

# What a Welcome may set; anything outside is a mistake of the sender and is cut to it.
PERIOD_SECONDS_MIN, PERIOD_SECONDS_MAX = 0.05, 30.0
# After that another control plane is tried. One under a herd of returning planes answers late, and
# who does not wait for it makes the herd larger: in large fleets `welcome_seconds` adds to this.
WELCOME_SECONDS_MAX = 5.0
# Unanswered for one timeout: pushes are refused. For so many: the connection is of no use.
UNANSWERED_TIMEOUTS_MAX = 2


class SessionState(Enum):
    """How far a connection has come."""

    IDLE = auto()
    GREETING = auto()  # Hello is sent, no Welcome yet
    LINKED = auto()  # both directions live
    MUTED = auto()  # our heartbeats are not answered: pushes are not accepted


class SessionEvent(Enum):
    """What happens to a connection."""

    DIALLED = auto()
    WELCOMED = auto()
    UNANSWERED = auto()
    ANSWERED = auto()
    LOST = auto()


class IllegalTransition(RuntimeError):
    """An event that cannot happen in that state: a mistake of ours or of the peer's."""


_ALLOWED: Mapping[tuple[SessionState, SessionEvent], SessionState] = MappingProxyType(
    {
        (SessionState.IDLE, SessionEvent.DIALLED): SessionState.GREETING,
        (SessionState.GREETING, SessionEvent.WELCOMED): SessionState.LINKED,
        (SessionState.LINKED, SessionEvent.UNANSWERED): SessionState.MUTED,
        (SessionState.LINKED, SessionEvent.ANSWERED): SessionState.LINKED,
        (SessionState.MUTED, SessionEvent.UNANSWERED): SessionState.MUTED,
        (SessionState.MUTED, SessionEvent.ANSWERED): SessionState.LINKED,
        (SessionState.GREETING, SessionEvent.LOST): SessionState.IDLE,
        (SessionState.LINKED, SessionEvent.LOST): SessionState.IDLE,
        (SessionState.MUTED, SessionEvent.LOST): SessionState.IDLE,
    }
)


def advance(state: SessionState, event: SessionEvent) -> SessionState:
    """Return the state after the event; raises IllegalTransition naming both."""
    try:
        return _ALLOWED[(state, event)]
    except KeyError:
        raise IllegalTransition(f"{event.name} cannot happen to a {state.name} session") from None


def accepts_pushes(state: SessionState) -> bool:
    """Return whether a desired state that arrives now may be considered."""
    return state is SessionState.LINKED


def targets_hold(state: SessionState, told_current: bool | None) -> bool:
    """Return whether the targets that the control plane set are to be followed now.

    `told_current` is what its last heartbeat said of them; None: nothing, as one of an earlier
    release does. They are followed then, for that is what it goes by: a fleet that is upgraded
    planes first would else lose the global loop, though nothing is wrong with it.
    """
    return accepts_pushes(state) and told_current is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Heartbeat period and timeout in seconds, as the control plane's Welcome set them."""

    period_seconds: float = 1.0
    timeout_seconds: float = 3.0


def terms_of(heartbeat_period_ms: int, heartbeat_timeout_ms: int) -> Terms:
    """Return a Welcome's terms, cut to what is sane; zero means the default."""
    default = Terms()
    period = heartbeat_period_ms / 1000 or default.period_seconds
    period = min(max(period, PERIOD_SECONDS_MIN), PERIOD_SECONDS_MAX)
    timeout = heartbeat_timeout_ms / 1000 or default.timeout_seconds
    # Less than two periods would take one late heartbeat for a death.
    return Terms(period_seconds=period, timeout_seconds=max(timeout, 2 * period))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The heartbeats of one connection: the peer's silence, and our number last echoed.

    The control plane's heartbeat carries the number of the newest one it had from us.
    `unanswered_since` is when the oldest of ours without an echo was sent.
    """

    heard_at: float
    sent: int = 0
    echoed: int = 0
    unanswered_since: float | None = None


def heartbeat_sent(pulse: Pulse, now: float) -> Pulse:
    """Return the pulse after our next heartbeat was sent; its number is `sent`."""
    since = now if pulse.unanswered_since is None else pulse.unanswered_since
    # Not by `dataclasses.replace`, which takes several times as long: it is made twice an exchange.
    return Pulse(
        heard_at=pulse.heard_at, sent=pulse.sent + 1, echoed=pulse.echoed, unanswered_since=since
    )


def heard(pulse: Pulse, now: float, echoed: int | None = None) -> Pulse:
    """Return the pulse after any message of the peer's; `echoed` when it was a heartbeat."""
    if echoed is None or echoed <= pulse.echoed:
        return Pulse(
            heard_at=now,
            sent=pulse.sent,
            echoed=pulse.echoed,
            unanswered_since=pulse.unanswered_since,
        )
    # What was sent after the echoed one waits from now at the earliest: one late echo is no
    # silence, and a silent direction echoes nothing at all.
    waiting = now if echoed < pulse.sent else None
    return Pulse(
        heard_at=now,
        sent=pulse.sent,
        echoed=min(echoed, pulse.sent),
        unanswered_since=waiting,
    )


class Judgement(Enum):
    """What the pulse says of the connection."""

    ALIVE = auto()
    UNANSWERED = auto()  # we hear the peer, it does not hear us
    LOST = auto()


def judge(pulse: Pulse, terms: Terms, now: float) -> Judgement:
    """Return whether both directions live at `now`."""
    if now - pulse.heard_at > terms.timeout_seconds:
        return Judgement.LOST
    if pulse.unanswered_since is None:
        return Judgement.ALIVE
    unanswered = now - pulse.unanswered_since
    if unanswered > terms.timeout_seconds * UNANSWERED_TIMEOUTS_MAX:
        return Judgement.LOST
    return Judgement.UNANSWERED if unanswered > terms.timeout_seconds else Judgement.ALIVE


def quiet_until(pulse: Pulse, terms: Terms, now: float) -> float:
    """Return the next moment at which silence alone would change the judgement of `now`."""
    moments = [pulse.heard_at + terms.timeout_seconds]
    if pulse.unanswered_since is not None:
        moments += [
            pulse.unanswered_since + terms.timeout_seconds,
            pulse.unanswered_since + terms.timeout_seconds * UNANSWERED_TIMEOUTS_MAX,
        ]
    to_come = [moment for moment in moments if moment >= now]
    return min(to_come, default=now)


QUICK_TRIES = 3
QUICK_SECONDS_MIN, QUICK_SECONDS_MAX = 0.2, 1.0
# One control plane takes back 150 planes a second without hurting the rest; small fleets return
# at once, and nobody waits for longer than the maximum.
RETURNS_PER_SECOND = 150
RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX = 2.0, 30.0
_DOUBLINGS_MAX = 6
# Sent away with a time, we come then and a little later; an hour would be a mistake of the sender.
TOLD_JITTER = 0.1
TOLD_SECONDS_MAX = 60.0


def reconnect_delay(attempt: int, random: float, planes: int = 1) -> float:
    """Return the pause in seconds before try `attempt` (0 = first), `random` in [0, 1).

    Full jitter over what a fleet of `planes` needs to come back, from the first try on: thousands
    of planes lose the same control plane in the same second. In small fleets the first tries are
    quick, a restarted control plane is back in a second; then they back off.
    """
    needed = min(RECONNECT_SECONDS_MAX, planes / RETURNS_PER_SECOND)
    if attempt < QUICK_TRIES:
        if needed <= QUICK_SECONDS_MAX:
            return QUICK_SECONDS_MIN + random * (QUICK_SECONDS_MAX - QUICK_SECONDS_MIN)
        return max(QUICK_SECONDS_MIN, random * needed)
    grown = QUICK_SECONDS_MAX * 2.0 ** min(attempt - QUICK_TRIES + 1, _DOUBLINGS_MAX)
    bound = max(needed, min(RECONNECT_SECONDS_MIN, grown))
    return max(QUICK_SECONDS_MIN, random * bound)


def welcome_seconds(planes: int, in_vain: int = 0) -> float:
    """Return how long a plane of a fleet of so many waits for a Welcome.

    `in_vain` is how often it waited so long before: there is somebody, who has no time for it.
    """
    usual = WELCOME_SECONDS_MAX + min(RECONNECT_SECONDS_MAX, planes / RETURNS_PER_SECOND) / 2
    return min(usual * 2.0 ** min(in_vain, _DOUBLINGS_MAX), max(usual, RECONNECT_SECONDS_MAX))


def overload_delay(in_vain: int, random: float) -> float:
    """Return the pause in seconds after a Welcome did not come in time, `in_vain` times in a row.

    A plane that was never told how large its fleet is may be one of thousands.
    """
    bound = RECONNECT_SECONDS_MIN * 2.0 ** min(in_vain, _DOUBLINGS_MAX)
    return max(QUICK_SECONDS_MIN, random * min(bound, RECONNECT_SECONDS_MAX))


def told_delay(seconds: float, random: float) -> float:
    """Return the pause in seconds for a plane that was told to come back in `seconds`."""
    wait = min(max(seconds, QUICK_SECONDS_MIN), TOLD_SECONDS_MAX)
    return wait * (1.0 + TOLD_JITTER * random)
