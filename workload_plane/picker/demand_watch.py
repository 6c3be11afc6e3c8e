"""Demand as the agent reads it from the picker's file; unknown once the picker is silent."""

import asyncio
from pathlib import Path

from skerry.fleet.observation import UNKNOWN
from skerry.plumbing.clock import Clock
from skerry.plumbing.watched_file import Unread, WatchedFile
from workload_plane.converge.demand import Demand, DeploymentDemand
from workload_plane.picker.demand_file import DEMAND_BYTES_MAX, parse_demand

# A held request waits for it.
LOOK_SECONDS = 0.1
# The picker writes every five seconds; three times nothing is no picker.
SILENT_SECONDS_MAX = 15.0


class DemandWatch:
    """Follows the file; `current` is what may be believed of it now."""

    def __init__(self, path: Path, clock: Clock, *, picks: bool) -> None:
        """Read nothing yet; without a picker (`picks` off) nothing is ever asked for."""
        self._file = WatchedFile(path, parse_demand, bytes_max=DEMAND_BYTES_MAX, name="demand")
        self._clock = clock
        self._picks = picks
        self._read_at = clock.monotonic()
        self._known: dict[str, DeploymentDemand] | None = None

    @property
    def current(self) -> Demand:
        """Return what is asked for, UNKNOWN while nobody can say."""
        if not self._picks:
            return {}
        silent = self._clock.monotonic() - self._read_at > SILENT_SECONDS_MAX
        return UNKNOWN if self._known is None or silent else self._known

    async def follow(self, wake: asyncio.Event) -> None:
        """Look for ever; set `wake` when requests begin to wait for something."""
        while True:
            before = _waited_for(self._known)
            self.look()
            if _waited_for(self._known) - before:
                wake.set()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Read the file if it changed; a damaged one is as good as none."""
        found = self._file.look()
        if found is Unread.SAME:
            return
        if isinstance(found, Unread):
            self._known = None
        else:
            self._known, self._read_at = found, self._clock.monotonic()


def _waited_for(known: dict[str, DeploymentDemand] | None) -> frozenset[str]:
    return frozenset(name for name, one in (known or {}).items() if one.waiting)
