"""Serves a started engine until it ends or a signal asks to.

Called by `main` once the engine's process runs: what is imported here is 40 MB and half a second,
which the engine uses to load.
"""

import asyncio

from skerry.plumbing import logs, processes, tasks
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.port import EngineLaunch
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.grpc_server import HealthAnnouncer, start_grpc
from workload_plane.replica_host.health_http import start_health_http
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec

_log = logs.get_logger(__name__)

# After the drain nothing is under way; this is for answers whose last bytes are being sent.
_GRPC_STOP_SECONDS = 0.5


async def serve(
    spec: ReplicaSpec, launch: EngineLaunch, engine: ProcessRecord, clock: Clock
) -> int:
    """Serve the started engine until it ends or a signal asks to; return the exit code."""
    stop = asyncio.Event()
    tasks.stop_on_signals(stop)
    base_url = f"http://{spec.host}:{spec.http_port}"
    async with EngineClient(base_url, launch) as client:
        host = ReplicaHost(spec, launch, client, clock)
        host.record_with(engine)
        announcer = HealthAnnouncer()
        changed = asyncio.Event()
        host.on_change(lambda _: changed.set())
        site = await start_health_http(host)
        server = await start_grpc(host, SystemIds(clock), announcer)

        async def keep_announcing() -> None:
            while True:
                await changed.wait()
                changed.clear()
                await announcer.announce(serving=host.health.serving)

        ending = Ending(host, engine, stop)
        try:
            await tasks.first_of(ending.wait(), keep_announcing())
            await server.stop(_GRPC_STOP_SECONDS)
        finally:
            await processes.terminate(engine, clock, launch.drain.kill_after_seconds)
            await site.cleanup()
        return ending.finish()


class Ending:
    """Waits for what ends a replica, and says afterwards which it was."""

    def __init__(self, host: ReplicaHost, engine: ProcessRecord, stop: asyncio.Event) -> None:
        """Watch that host's engine and that signal."""
        self._host = host
        self._engine = engine
        self._stop = stop
        self._failure = ""

    async def wait(self) -> None:
        """Return when the engine ended, never came up, or the host was asked to end and drained."""
        await tasks.first_of(self._engine_ends(), self._probe(), self._stop.wait())
        if self._failure:
            return
        self._stop.clear()
        self._host.become(HostState.DRAINING, "asked to end")
        limit = self._host.clock.sleep(self._host.spec.drain_seconds_max)
        # A second signal ends the wait for requests in flight.
        await tasks.first_of(
            self._host.wait_drained(), self._engine_ends(), self._stop.wait(), limit
        )

    def finish(self) -> int:
        """Write down how it ended and return the exit code."""
        if not self._failure:
            self._host.become(HostState.STOPPED)
            return 0
        tail = engine_process.tail(self._host.spec)
        log_path = engine_process.log_path(self._host.spec)
        _log.error("engine.ended", reason=self._failure, log=log_path, tail=tail)
        last = tail.rpartition("\n")[2]
        message = f"{self._failure}; its log is {log_path}, which ends: {last}"
        self._host.become(HostState.FAILED, message)
        return 1

    async def _engine_ends(self) -> None:
        code = await processes.wait_until_gone(self._engine)
        if self._host.health.state is not HostState.DRAINING:
            self._failure = f"the engine ended by itself{_code_text(code)}"

    async def _probe(self) -> None:
        await self._host.probe_until_too_late()
        seconds = self._host.launch.startup_seconds_max
        self._failure = f"the engine was not up after {seconds:g} s"


def _code_text(code: int | None) -> str:
    if code is None:
        return ""
    return f" by signal {-code}" if code < 0 else f" with exit code {code}"
