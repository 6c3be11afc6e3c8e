"""Demand as the agent reads it from the picker's file; unknown once the picker is silent."""

import asyncio
from pathlib import Path

from skerry.fleet.observation import UNKNOWN
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Corrupt
from workload_plane.converge.demand import Demand, DeploymentDemand
from workload_plane.picker.demand_file import DEMAND_BYTES_MAX, parse_demand

_log = logs.get_logger(__name__)

# A held request waits for it; a stat costs microseconds.
LOOK_SECONDS = 0.1
# The picker writes every five seconds; three times nothing is no picker.
SILENT_SECONDS_MAX = 15.0


class DemandWatch:
    """Follows the file; `current` is what may be believed of it now."""

    def __init__(self, path: Path, clock: Clock, *, picks: bool) -> None:
        """Read nothing yet; without a picker (`picks` off) nothing is ever asked for."""
        self._path = path
        self._clock = clock
        self._picks = picks
        self._stamp: tuple[int, int] | None = None
        self._fault = ""
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
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            self._known = self._read(status.st_size)
            self._stamp, self._read_at, self._fault = stamp, self._clock.monotonic(), ""
        except FileNotFoundError:
            self._known = None
        except (Corrupt, OSError) as error:
            self._known = None
            if isinstance(error, Corrupt):
                self._stamp = stamp  # anything else is read again at the next look
            if str(error) != self._fault:
                self._fault = str(error)
                _log.warning("demand.unreadable", fault=self._fault)

    def _read(self, size: int) -> dict[str, DeploymentDemand]:
        if size > DEMAND_BYTES_MAX:
            raise Corrupt(f"{self._path} is larger than a demand file can be")
        return parse_demand(self._path.read_bytes())


def _waited_for(known: dict[str, DeploymentDemand] | None) -> frozenset[str]:
    return frozenset(name for name, one in (known or {}).items() if one.waiting)
