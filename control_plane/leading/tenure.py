"""What this process knows of leadership: its own term, if it has one, and who leads otherwise.

In memory only. The candidacy and the keeper write; the ports, the loop's doors and health read.
"""

from control_plane.leading.term import Term, is_acting
from control_plane.store.leadership import Addresses, Leadership
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import NotLeading

# A standby takes over within seconds; clients know the other control planes and try those too.
RETRY_SECONDS = 1.0


class Tenure:
    """Holds the term of one control plane, and what callers of a standby are told."""

    def __init__(self, clock: Clock, name: str) -> None:
        """Begin without a term, as the control plane of that name."""
        self._clock = clock
        self._name = name
        self._leader: Leadership | None = None
        self.term: Term | None = None

    @property
    def epoch(self) -> int:
        """Return the epoch of the term, 0 without one."""
        return 0 if self.term is None else self.term.epoch

    @property
    def is_acting(self) -> bool:
        """Say whether decisions and pushes are ours to make at this moment."""
        return is_acting(self.term, self._clock.monotonic())

    def note_leader(self, leader: Leadership) -> None:
        """Remember who leads by the database."""
        self._leader = leader

    def refuse_operator(self) -> NotLeading:
        """Return what an operator's write is told here: where to send it."""
        leader = self._known()
        return self._refusal(leader, leader.operator if leader else "", "the call")

    def refuse_plane(self) -> NotLeading:
        """Return what a plane is told that calls a standby: whom to call."""
        leader = self._known()
        return self._refusal(leader, leader.link if leader else "", "the link")

    def _known(self) -> Addresses | None:
        leader = self._leader
        # A term that is over names nobody: that one is dead, or about to find out.
        is_gone = leader is None or leader.seconds_left is None or leader.seconds_left <= 0
        return None if is_gone or leader is None else leader.addresses

    def _refusal(self, leader: Addresses | None, address: str, what: str) -> NotLeading:
        if leader is None or self._leader is None or not address:
            return NotLeading(
                f"control plane {self._name!r} stands by and nobody leads at present; one will"
                f" within seconds: send {what} again",
                retry_after_seconds=RETRY_SECONDS,
            )
        name = self._leader.holder
        return NotLeading(
            f"control plane {self._name!r} stands by; {name!r} at {address} leads: send {what}"
            " there",
            retry_after_seconds=RETRY_SECONDS,
            hints={"leader": address, "leader_name": name, "leader_http": leader.http},
        )
