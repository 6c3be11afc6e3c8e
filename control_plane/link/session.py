"""One plane's connection as a transition table; `service.py` drives it, nothing else knows it."""

from enum import StrEnum


class SessionState(StrEnum):
    """Life of one stream."""

    OPENED = "opened"  # the stream is up, nothing was said
    GREETED = "greeted"  # Hello and Welcome were exchanged
    PUSHED = "pushed"  # a desired state is on its way
    SYNCED = "synced"  # the plane holds what was pushed last
    REFUSED = "refused"  # the plane answered Nack; it keeps what it had
    CLOSED = "closed"


class SessionEvent(StrEnum):
    """What can happen to a stream."""

    HELLO = "hello"
    PUSH = "push"
    ACK = "ack"
    NACK = "nack"
    END = "end"


_OPEN = (
    SessionState.GREETED,
    SessionState.PUSHED,
    SessionState.SYNCED,
    SessionState.REFUSED,
)
_ALLOWED: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.OPENED, SessionEvent.HELLO): SessionState.GREETED,
    (SessionState.OPENED, SessionEvent.END): SessionState.CLOSED,
    **{(state, SessionEvent.PUSH): SessionState.PUSHED for state in _OPEN},
    **{(state, SessionEvent.ACK): SessionState.SYNCED for state in _OPEN},
    **{(state, SessionEvent.NACK): SessionState.REFUSED for state in _OPEN},
    **{(state, SessionEvent.END): SessionState.CLOSED for state in _OPEN},
}


class IllegalTransition(ValueError):
    """A message that makes no sense in the state the session is in."""


def advance(state: SessionState, event: SessionEvent) -> SessionState:
    """Return the next state; raises IllegalTransition naming both."""
    following = _ALLOWED.get((state, event))
    if following is None:
        raise IllegalTransition(f"{event.value} makes no sense on a session that is {state.value}")
    return following


class Session:
    """The state of one stream; every step goes through the table."""

    def __init__(self) -> None:
        self.state = SessionState.OPENED

    def on(self, event: SessionEvent) -> None:
        """Take one step; raises IllegalTransition."""
        self.state = advance(self.state, event)
