"""How long leadership lasts, and what follows from it: pure, on the monotonic clock of one process.

The database's clock decides when a term is over for others; the leader's own clock decides when it
is over for itself, and that is never later.
"""

from dataclasses import dataclass, replace

# A term outlives two renewals that come late, and is over before anybody waits 5 s for the next.
TERM_SECONDS = 3.0
RENEW_SECONDS = 1.0
# After one that failed: a database that was restarted is noticed at once.
RENEW_AGAIN_SECONDS = 0.25
# How often a standby looks whether the term is over: a part of every takeover, and one small read.
LOOK_SECONDS = 0.5
# With the database away nobody can lead, and planes that keep their links lose nothing. Is it away
# for us alone, then another one leads by now, and the planes must find it.
LINKS_KEPT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """The right to act under an epoch until a moment of our clock; SQLite's ends never."""

    epoch: int
    until: float

    def __post_init__(self) -> None:
        """Refuse an epoch before the first."""
        if self.epoch < 1:
            raise ValueError(f"epoch {self.epoch} is nobody's")

    def renewed(self, asked_at: float) -> "Term":
        """Return the term after a renewal that was asked for at that moment and done since.

        It counts from the question, so that it ends here before it ends in the database.
        """
        return replace(self, until=max(self.until, asked_at + TERM_SECONDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the database says of leadership: who, and how long by its own clock; None: given up."""

    epoch: int
    seconds_left: float | None = None


def term_from(epoch: int, asked_at: float) -> Term:
    """Return the first term of an epoch that was asked for at that moment."""
    return Term(epoch=epoch, until=asked_at + TERM_SECONDS)


def should_acquire(seen: Seen) -> bool:
    """Say whether a standby is to try: nobody leads, or whoever led did not renew in time."""
    return seen.seconds_left is None or seen.seconds_left <= 0.0


def is_acting(term: Term | None, now: float) -> bool:
    """Say whether decisions and pushes are ours to make."""
    return term is not None and now < term.until


def should_step_down(term: Term, leading_epoch: int | None, now: float) -> bool:
    """Say whether the leader's run is over.

    It is when another epoch leads, and when nothing was heard of the database (None) for so long
    that the planes must be free to find another leader.
    """
    if leading_epoch is not None:
        return leading_epoch != term.epoch
    return now >= term.until + LINKS_KEPT_SECONDS
