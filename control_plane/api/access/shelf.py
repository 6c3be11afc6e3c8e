"""The service tokens of the store, held for a second: a call costs no look into the database.

A token that is made or revoked here counts at once, through another control plane within a second.
"""

import asyncio

from control_plane.store.engine import Database
from control_plane.store.service_tokens import StoredToken, list_service_tokens
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError

FRESH_SECONDS = 1.0
# While the database does not answer: most calls need it anyway, and say so better themselves.
STALE_SECONDS_MAX = 60.0


class TokenShelf:
    """What the store last said of every token."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Read at the first call."""
        self._database = database
        self._clock = clock
        self._held: dict[str, StoredToken] = {}
        self._read_at: float | None = None
        self._is_expired = True
        self._lock = asyncio.Lock()

    def expire(self) -> None:
        """Have the next call look into the store: something was written."""
        self._is_expired = True

    async def find(self, name: str) -> StoredToken | None:
        """Return the token of that name; Unavailable when the store has not answered for long."""
        if self._age() >= FRESH_SECONDS or self._is_expired:
            async with self._lock:
                if self._age() >= FRESH_SECONDS or self._is_expired:
                    await self._read()
        return self._held.get(name)

    async def _read(self) -> None:
        was_expired, self._is_expired = self._is_expired, False
        at = self._clock.monotonic()
        try:
            found = await self._database.run_read(list_service_tokens)
        except SkerryError:
            self._is_expired = was_expired
            # What was revoked here is never let in again for want of an answer.
            if was_expired or self._age() > STALE_SECONDS_MAX:
                raise
            return
        self._held = {stored.token.name: stored for stored in found}
        self._read_at = at

    def _age(self) -> float:
        return float("inf") if self._read_at is None else self._clock.monotonic() - self._read_at
