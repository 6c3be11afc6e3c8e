"""Keeps one engine running: one that ended by itself is started again, until it is a crash loop.

Called by `serving`. Nobody but the host touches its engine, so the old one is confirmed gone, with
all it started and its ports, before the next one gets its accelerators. One that hangs is taken for
ended as well, where no agent has replaced it before.
"""

import asyncio

from skerry.plumbing import logs
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.processes import reap_orphans
from skerry.plumbing.tasks import first_of
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.engine_group import EngineGroup
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.instruments import RESTARTS
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.restarts import ends_that_count, next_restart
from workload_plane.replica_host.stuck import until_stuck

_log = logs.get_logger(__name__)

_LOG_LOOK_SECONDS = 2.0
# The agent's rule (`converge.condition`) in the same words, and later than it can act: a replica
# that hangs is the agent's to replace, elsewhere if need be. This frees what waits, within 10 s of
# the engine's last word, while the agent is dead.
HUNG_SECONDS_MAX = 7.7
_HUNG_LOOK_SECONDS = 0.2
_LATE_LOOKS = 8


class EngineKeeper:
    """Watches one engine, and starts it again."""

    def __init__(self, host: ReplicaHost, engine: EngineGroup) -> None:
        """Keep that engine, which was started just now."""
        self._host = host
        self._ends: tuple[float, ...] = ()
        self._engine = engine

    async def keep(self) -> str:
        """Keep an engine running for ever; return only when that is given up, with the reason."""
        while True:
            failure, is_late = await self._until_failure()
            # What never came up will not the next time: the plane tries it elsewhere.
            if is_late or not self._host.was_ready:
                return failure
            self._host.engine_lost(failure)
            self._ends = ends_that_count(self._ends, self._host.clock.monotonic())
            restart = next_restart(self._ends, self._host.spec.engine_restarts_max)
            if restart is None:
                times = len(self._ends)
                return f"{failure}, {times} times in a row" if times > 1 else failure
            last = engine_process.last_words(self._host.spec, self._engine.ended)
            _log.warning("engine.ended", reason=failure, restart=restart.number, last=last)
            most = self._host.spec.engine_restarts_max
            what = f"{failure}; restart {restart.number} of {most}"
            self._host.become(restart.state, f"{what}{_ending(last)}")
            try:
                await self._engine.confirm_gone(self._host.clock)
                await self._host.clock.sleep(restart.pause_seconds)
                self._engine.start()
            except (SkerryError, OSError) as error:
                return f"{failure} and cannot be started again: {error}"
            self._host.record_with(self._engine.first, is_restart=True)
            RESTARTS.inc()
            _log.info("engine.started", pid=self._engine.first.pid, restart=restart.number)

    async def keep_log_small(self) -> None:
        """Cut the logs of host and engine for ever, whenever one has grown too large."""
        spec = self._host.spec
        paths = [engine_process.log_path(spec, name) for name in self._engine.log_names]
        while True:
            await self._host.clock.sleep(_LOG_LOOK_SECONDS)
            for path in (engine_process.host_log_path(spec), *paths):
                await engine_process.trim_log(path)

    async def reap_orphans(self) -> None:
        """Reap for ever what processes of the engine left to this one when they ended."""
        while True:
            await self._host.clock.sleep(_LOG_LOOK_SECONDS)
            reap_orphans(self._engine.pids)

    async def _until_failure(self) -> tuple[str, bool]:
        """Return why the engine is no more, and whether it lives but did not come up in time."""
        failures: list[tuple[str, bool]] = []

        async def ends() -> None:
            # Of the processes that there are; a look again when one more was started.
            code = await self._engine.wait_for_an_end()
            failures.append((f"{self._engine.who_ended} ended by itself{_code_text(code)}", False))

        async def is_late() -> None:
            await self._host.probe_until_too_late()
            seconds = self._host.launch.startup_seconds_max
            failures.append((f"the engine was not up after {seconds:g} s", True))

        async def hangs() -> None:
            seconds = await self._until_hung()
            why = f"it was ready and has not been healthy for {seconds:.0f} s"
            failures.append((why, False))

        async def is_stuck() -> None:
            seconds = await until_stuck(self._host)
            why = f"it says that it is healthy and has ended nothing for {seconds:.0f} s"
            failures.append((why, False))

        async def completes() -> None:
            try:
                if await self._engine.complete(self._host.clock):
                    self._host.record_with(self._engine.first)
                    return
            except (SkerryError, OSError) as error:
                failures.append((f"the engine cannot be started: {error}", True))
                return
            await asyncio.Event().wait()  # nothing to complete: the others tell

        while not failures:
            await first_of(ends(), is_late(), hangs(), is_stuck(), completes())
        return failures[0]

    async def _until_hung(self) -> float:
        """Return once the engine was ready and is silent for too long: for how many seconds."""
        clock, since = self._host.clock, None
        looked_at = clock.monotonic()
        while True:
            now = clock.monotonic()
            # A look that comes late was stopped itself, and has not asked the engine meanwhile.
            was_stopped = now - looked_at > _LATE_LOOKS * _HUNG_LOOK_SECONDS
            looked_at = now
            if self._host.health.state is not HostState.UNHEALTHY:
                since = None
            elif since is None or was_stopped:
                since = now
            elif now - since > HUNG_SECONDS_MAX:
                return now - since
            await clock.sleep(_HUNG_LOOK_SECONDS)


def _ending(last: str) -> str:
    return f"; its log ends: {last}" if last else ""


def _code_text(code: int | None) -> str:
    if code is None:
        return ""
    return f" by signal {-code}" if code < 0 else f" with exit code {code}"
