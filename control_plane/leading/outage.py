"""How long the database has been back: while it was away nobody could take anything down.

Pure but for its memory: the keeper of leadership notes, the reconcile loop reads. Times are of the
monotonic clock.
"""

# Shorter, and no plane noticed: the links stayed, and what was heard is still known.
OUTAGE_SECONDS_MIN = 3.0


class DatabaseSight:
    """Remembers whether the database answers, and since when it does again."""

    def __init__(self) -> None:
        """Begin with a database that was never away."""
        self._failing_since: float | None = None
        self._back_at: float | None = None

    def note_ok(self, now: float) -> None:
        """Note that the database answered."""
        if self._is_away(now):
            self._back_at = now
        self._failing_since = None

    def note_failure(self, now: float) -> None:
        """Note that it did not."""
        if self._failing_since is None:
            self._failing_since = now

    def seconds_since_back(self, now: float) -> float | None:
        """Return how long it has been back; 0 while it is away, None when it never was."""
        if self._is_away(now):
            return 0.0
        return None if self._back_at is None else max(0.0, now - self._back_at)

    def _is_away(self, now: float) -> bool:
        return self._failing_since is not None and now - self._failing_since >= OUTAGE_SECONDS_MIN
