"""Keeps the bootstrap that the next Envoy starts from a tried one.

A loop of the agent beside the feed: a trial takes a second or more and must hold up no publication.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from workload_plane.gateway import files, trial
from workload_plane.gateway.files import BOOTSTRAP, PROPOSED_BOOTSTRAP
from workload_plane.gateway.status import GatewayStatus

_log = logs.get_logger(__name__)

LOOK_SECONDS = 2.0
# A trial that failed may have met a busy machine or a full disk.
RETRY_SECONDS = 60.0
# Envoy tells its age in whole seconds; the file's age has the disk's own grain.
_AGE_SLACK_SECONDS = 3.0

TryStart = Callable[[Path, Clock, str], Awaitable[str]]


class BootstrapKeeper:
    """Tries what is proposed, and adopts it when an Envoy serves from it."""

    def __init__(
        self, gateway_dir: Path, clock: Clock, try_start: TryStart = trial.try_start
    ) -> None:
        """Try nothing yet."""
        self._gateway_dir = gateway_dir
        self._clock = clock
        self._try_start = try_start
        self.fault = ""

    async def keep_forever(self) -> None:
        """Look for a proposal for ever."""
        while True:
            tried = await self.keep()
            await self._clock.sleep(RETRY_SECONDS if tried and self.fault else LOOK_SECONDS)

    async def keep(self) -> bool:
        """Try the proposal, if there is one, and return whether there was."""
        if not (self._gateway_dir / PROPOSED_BOOTSTRAP).is_file():
            self.fault = ""
            return False
        fault = await self._try_start(self._gateway_dir, self._clock, PROPOSED_BOOTSTRAP)
        if fault:
            if fault != self.fault:
                _log.error("gateway.bootstrap-refused", error=fault)
        elif (self._gateway_dir / PROPOSED_BOOTSTRAP).is_file():
            files.adopt_bootstrap(self._gateway_dir)
            _log.info("gateway.bootstrap-adopted")
        self.fault = fault
        return True

    def is_newer_than(self, status: GatewayStatus) -> bool:
        """Return whether the running Envoy was started before the bootstrap that is in force."""
        if status.uptime_seconds is None:
            return False
        try:
            written = (self._gateway_dir / BOOTSTRAP).stat().st_mtime
        except FileNotFoundError:
            return False
        started = self._clock.now().timestamp() - status.uptime_seconds
        return written > started + _AGE_SLACK_SECONDS
