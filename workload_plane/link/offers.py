"""Which pushed state is looked at next and whether its answer is told: no I/O, no clock.

`connection.py` and the agents of tests/simulation both go by it: one at a time, the newest alone,
and again later where nothing was wrong with it.
"""

from typing import Generic, TypeVar

from workload_plane.desired_state.accept import Refuse
from workload_plane.link.session import SessionState, accepts_pushes

OFFER_AGAIN_SECONDS = 5.0  # room on a disk is made by people

Push = TypeVar("Push")


def from_deposed(epoch: int, newest: int) -> Refuse | None:
    """Return why a push of `epoch` is refused; None when no leader of a newer one was heard.

    A new leader tells a plane nothing while it holds what is wanted, so what the disk holds may be
    of an older epoch than the newest leader's.
    """
    if epoch >= newest:
        return None
    return Refuse(reason=f"epoch {epoch} is over: a leader of {newest} was heard")


class Offers(Generic[Push]):
    """The pushes of one connection: the one that waits, the one looked at, the one to try again."""

    def __init__(self) -> None:
        """Begin with nothing pushed."""
        self._waiting: Push | None = None
        self._looked_at: Push | None = None
        # The control plane sends it once: a disk that was full then would hold it up for ever.
        self._again: Push | None = None
        self._again_at = 0.0
        self._told: Refuse | None = None  # of the one to try again

    def came(self, push: Push) -> None:
        """Take in a push: only the newest matters, one that was not looked at is superseded.

        One that came while the plane was not heard waits until it is: it is said once.
        """
        self._waiting = push

    def take(self, state: SessionState, now: float) -> Push | None:
        """Return the push to look at now; None while there is none, or another is looked at."""
        if self._looked_at is not None or not accepts_pushes(state):
            return None
        if self._waiting is not None:
            self._looked_at, self._waiting = self._waiting, None
            self._again = self._told = None
        elif self._again is not None and now >= self._again_at:
            self._looked_at = self._again
        return self._looked_at

    def answered(self, refused: Refuse | None, now: float) -> bool:
        """Take what came of the push that was taken; say whether to tell the control plane."""
        told, self._told = self._told, refused
        push, self._looked_at = self._looked_at, None
        self._again = None
        if refused is not None and refused.may_pass:
            self._again, self._again_at = push, now + OFFER_AGAIN_SECONDS
        return refused is None or refused != told  # each reason is told once

    def due_at(self, state: SessionState) -> float | None:
        """Return when there is something to look at with no more news; None for never."""
        if self._looked_at is not None or self._again is None or not accepts_pushes(state):
            return None
        return self._again_at
