"""Serves a started engine until it is given up or a signal asks to end.

Called by `main` once the engine's process runs: what is imported here is 40 MB and half a second,
which the engine uses to load.
"""

import asyncio

from skerry.plumbing import logs, tasks, tracing
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.trace_target import TraceTarget
from workload_plane.engines.port import Dialect, EngineLaunch
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.ending import GRPC_STOP_SECONDS
from workload_plane.replica_host.engine_client import EngineAsked, EngineClient
from workload_plane.replica_host.engine_group import EngineGroup
from workload_plane.replica_host.engine_keeper import EngineKeeper
from workload_plane.replica_host.grpc_server import HealthAnnouncer, services_of, start_grpc
from workload_plane.replica_host.health_http import start_health_http
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.openai_absent import start_openai_absent
from workload_plane.replica_host.openengine_client import OpenEngineClient
from workload_plane.replica_host.spec import ReplicaSpec
from workload_plane.replica_host.trtllm_client import TrtllmClient

_log = logs.get_logger(__name__)

# What a request over gRPC is told that takes longer than an end may wait.
_OUTLIVED = "this replica was asked to end and could not wait any longer; ask another one"


async def serve(
    spec: ReplicaSpec, launch: EngineLaunch, engine: EngineGroup, clock: Clock, note: str
) -> int:
    """Serve the started engine until it is given up or a signal asks to; return the exit code.

    The `note` is what people shall know of it while nothing else is to be told.
    """
    target = TraceTarget(endpoint=spec.trace_endpoint) if spec.trace_endpoint else None
    about = {"plane": spec.plane, "deployment": spec.deployment, "replica": spec.name}
    tracing.start(target, "skerry-replica", **about)
    stop = asyncio.Event()
    tasks.stop_on_signals(stop)
    async with _client_of(spec, launch) as client:
        host = ReplicaHost(spec, launch, client, clock, note)
        host.record_with(engine.first)
        announcer = HealthAnnouncer(services_of(client))
        changed = asyncio.Event()
        host.on_change(lambda _: changed.set())
        sites = [await start_health_http(host)]
        if launch.own_port is not None:
            sites.append(await start_openai_absent(host))
        server = await start_grpc(host, SystemIds(clock), announcer)

        async def keep_announcing() -> None:
            while True:
                await changed.wait()
                changed.clear()
                await announcer.announce(serving=host.health.serving)

        keeper = EngineKeeper(host, engine)
        ending = Ending(host, keeper, engine, stop)
        try:
            await tasks.first_of(
                ending.wait(), keep_announcing(), keeper.keep_log_small(), keeper.reap_orphans()
            )
            await server.stop(GRPC_STOP_SECONDS)
        finally:
            await engine.end(clock)
            for site in sites:
                await site.cleanup()
            await asyncio.to_thread(tracing.stop)
        return ending.finish()


def _client_of(spec: ReplicaSpec, launch: EngineLaunch) -> EngineAsked:
    if launch.own_port is not None and launch.dialect is Dialect.TRTLLM:
        return TrtllmClient(launch.own_port, spec.engine.concurrent_requests)
    if launch.own_port is not None:
        return OpenEngineClient(launch.own_port)
    return EngineClient(f"http://{spec.host}:{spec.http_port}", launch)


class Ending:
    """Waits for what ends a replica, and says afterwards which it was."""

    def __init__(
        self, host: ReplicaHost, keeper: EngineKeeper, engine: EngineGroup, stop: asyncio.Event
    ) -> None:
        """Watch that host's engine and that signal."""
        self._engine = engine
        self._host = host
        self._keeper = keeper
        self._stop = stop
        self._failure = ""

    async def wait(self) -> None:
        """Return when the engine is given up, or the host was asked to end and drained."""
        await tasks.first_of(self._keep(), self._stop.wait())
        if self._failure:
            return
        self._stop.clear()
        self._host.become(HostState.DRAINING, "asked to end")
        limit = self._host.clock.sleep(self._host.spec.drain_seconds_max)
        # A second signal ends the wait for requests in flight.
        await tasks.first_of(
            self._host.wait_drained(), self._engine.wait_for_an_end(), self._stop.wait(), limit
        )
        # Over HTTP they are the engine's own, and end with its connections.
        if cut := self._host.flights.lose_all(_OUTLIVED):
            _log.warning("requests.cut", requests=cut)

    def finish(self) -> int:
        """Write down a wanted end, a failure was already; return the exit code."""
        if self._failure:
            return 1
        self._host.become(HostState.STOPPED)
        return 0

    async def _keep(self) -> None:
        self._failure = await self._keeper.keep()
        # At once, while streams are still being ended: nobody may be sent here any more.
        spec = self._host.spec
        log_path = engine_process.log_path(spec, self._engine.ended)
        tail = engine_process.tail(spec, self._engine.ended)
        _log.error("engine.given-up", reason=self._failure, log=log_path, tail=tail)
        last = engine_process.last_words(spec, self._engine.ended)
        self._host.become(
            HostState.FAILED, f"{self._failure}; its log is {log_path}, which ends: {last}"
        )
