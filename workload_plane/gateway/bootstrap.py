"""Keeps what the next Envoy starts from a tried thing: its bootstrap, and the program itself.

A loop of the agent beside the feed: a trial takes a second or more and must hold up no publication.
Nothing here restarts a gateway; a trial that fails is told upwards until it is mended.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from workload_plane.gateway import files, trial
from workload_plane.gateway.files import BOOTSTRAP, PROPOSED_BOOTSTRAP
from workload_plane.gateway.program import Programs
from workload_plane.gateway.status import GatewayStatus

_log = logs.get_logger(__name__)

LOOK_SECONDS = 2.0
# A trial that failed may have met a busy machine or a full disk.
RETRY_SECONDS = 60.0
# Envoy tells its age in whole seconds; the file's age has the disk's own grain.
_AGE_SLACK_SECONDS = 3.0

TryStart = Callable[[Path, Clock, str], Awaitable[str]]
AskPrograms = Callable[[], Awaitable[Programs]]


class BootstrapKeeper:
    """Tries what is proposed, and adopts it when an Envoy serves from it; and another program."""

    def __init__(
        self,
        gateway_dir: Path,
        clock: Clock,
        ask_programs: AskPrograms,
        try_start: TryStart = trial.try_start,
    ) -> None:
        """Try nothing yet; `ask_programs` knows nothing while the files are not yet this run's."""
        self._gateway_dir = gateway_dir
        self._clock = clock
        self._ask_programs = ask_programs
        self._try_start = try_start
        self._tried = Programs()
        self._proposal_fault = self._program_fault = ""

    @property
    def fault(self) -> str:
        """Return why no Envoy should be started now; empty when nothing speaks against it."""
        return self._proposal_fault or self._program_fault

    @property
    def has_tried_program(self) -> bool:
        """Say whether a start would be of another Envoy than the running one, and would serve."""
        return self._tried.differ and bool(self._tried.next) and not self.fault

    async def keep_forever(self) -> None:
        """Look for a proposal for ever."""
        while True:
            tried = await self.keep()
            await self._clock.sleep(RETRY_SECONDS if tried and self.fault else LOOK_SECONDS)

    async def keep(self) -> bool:
        """Try what is new, and return whether anything was."""
        if not (self._gateway_dir / PROPOSED_BOOTSTRAP).is_file():
            return await self._keep_program()
        fault = await self._try_start(self._gateway_dir, self._clock, PROPOSED_BOOTSTRAP)
        if fault:
            if fault != self._proposal_fault:
                _log.error("gateway.bootstrap-refused", error=fault)
        elif (self._gateway_dir / PROPOSED_BOOTSTRAP).is_file():
            files.adopt_bootstrap(self._gateway_dir)
            _log.info("gateway.bootstrap-adopted")
        self._proposal_fault = fault
        return True

    async def _keep_program(self) -> bool:
        """Try the Envoy that would be started where another one runs, once, until it serves."""
        self._proposal_fault = ""  # none is proposed any more
        programs = await self._ask_programs()
        if not programs.running:
            return False
        if not programs.differ:
            self._tried = programs  # it serves
        if programs == self._tried:
            self._program_fault = ""
            return False
        fault = await self._try_start(self._gateway_dir, self._clock, BOOTSTRAP)
        if not fault:
            self._tried = programs
            _log.info("gateway.program-tried", running=programs.running, next=programs.next)
        elif fault != self._program_fault:
            _log.error("gateway.program-refused", next=programs.next, error=fault)
        self._program_fault = fault
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
