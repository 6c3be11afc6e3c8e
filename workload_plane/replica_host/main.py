"""`skerry-replica`: starts one engine, serves it, and ends with it.

Composition root of the replica host. Exit codes: 0 ended as asked, 1 the engine could not start or
ended by itself, 2 the spec's file is missing or wrong.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from skerry.plumbing import logs, processes, tasks
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.port import EngineLaunch
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.host import ReplicaHost, record_of
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec, read_spec
from workload_plane.replica_host.state import write_record

_log = logs.get_logger(__name__)

# After the drain nothing is under way; this is for answers whose last bytes are being sent.
_GRPC_STOP_SECONDS = 0.5


def main(argv: list[str] | None = None) -> int:
    """Run one replica until it ends and return the exit code."""
    parser = argparse.ArgumentParser(prog="skerry-replica", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="the replica's JSON file")
    arguments = parser.parse_args(argv)
    logs.configure()
    try:
        spec = read_spec(arguments.spec)
    except SkerryError as error:
        print(f"skerry-replica: {error}", file=sys.stderr, flush=True)
        return 2
    logs.bind(replica=spec.name, deployment=spec.deployment)
    try:
        launch = engine_process.prepare(spec, sys.executable)
        # Before gRPC's threads: the kernel ties the engine's life to the thread that starts it.
        engine = engine_process.start(spec, launch)
    except (SkerryError, OSError) as error:
        _log.error("replica.not_started", error=error)
        spec.state_file.parent.mkdir(parents=True, exist_ok=True)
        write_record(spec.state_file, record_of(spec, HostState.FAILED, None, str(error)))
        return 1
    return asyncio.run(serve(spec, launch, engine, SystemClock()))


async def serve(
    spec: ReplicaSpec, launch: EngineLaunch, engine: ProcessRecord, clock: Clock
) -> int:
    """Serve the started engine until it ends or a signal asks to; return the exit code."""
    # 30 MB that a replica which cannot start does without.
    from workload_plane.replica_host.grpc_server import HealthAnnouncer, start_grpc
    from workload_plane.replica_host.health_http import start_health_http

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


if __name__ == "__main__":
    sys.exit(main())
