"""Inputs no faster than a caller is let in: a refusal unread would be no input."""

from control_plane.api.access.rates import CALLS_PER_SECOND
from skerry.plumbing.clock import SystemClock

CLOCK = SystemClock()
PER_SECOND = 0.9 * CALLS_PER_SECOND


class Pace:
    """Turns, each as long after the one before as the rate says."""

    def __init__(self) -> None:
        """Give the first turn at once."""
        self._free_at = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = CLOCK.monotonic()
        begins = max(self._free_at, now)
        self._free_at = begins + 1.0 / PER_SECOND
        await CLOCK.sleep(begins - now)
