"""An engine of several processes: workers first, all of them or none, and no orphan."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import ProcessRecord, children, is_alive, kill_group, record_of
from tests.integration.replica_process import CLOCK, a_spec, an_engine, until
from workload_plane.engines.port import Dialect, DrainRule, EngineLaunch, EngineProcess
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.engine_group import EngineGroup
from workload_plane.replica_host.engine_keeper import EngineKeeper
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec, write_spec
from workload_plane.replica_host.state import read_record

pytestmark = pytest.mark.integration

# Listens after a moment, as a worker that loads its weights does, and answers every GET.
SERVER = """
import http.server as web, sys, time
time.sleep(float(sys.argv[2]))
address = ("127.0.0.1", int(sys.argv[1]))
web.ThreadingHTTPServer(address, web.SimpleHTTPRequestHandler).serve_forever()
"""


def _argv(port: int, seconds: float, server: str = SERVER) -> tuple[str, ...]:
    return (sys.executable, "-c", server, str(port), str(seconds))


@dataclass
class Group:
    spec: ReplicaSpec
    launch: EngineLaunch
    engine: EngineGroup
    host: ReplicaHost
    keeping: asyncio.Task[str]

    def processes(self) -> dict[int, ProcessRecord]:
        """Return the processes by the port that they were told to listen on."""
        found = {}
        for process in children(record_of(os.getpid())):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if len(words) > 3 and words[2].endswith(SERVER.encode()):
                found[int(words[3])] = process
        return found

    async def ready(self) -> dict[int, ProcessRecord]:
        await until(lambda: self.host.health.state is HostState.READY or self.keeping.done(), 20)
        assert not self.keeping.done(), self.keeping.result()
        return self.processes()


@asynccontextmanager
async def a_group(
    directory: Path, worker_seconds: float = 0.5, server: str = SERVER
) -> AsyncIterator[Group]:
    spec = a_spec(directory, an_engine(EngineName.SIMULATED), engine_restarts_max=1)
    spec.log_dir.mkdir(parents=True)
    ports = {"context-0": free_port("127.0.0.1"), "generation-0": free_port("127.0.0.1")}
    launch = EngineLaunch(
        argv=_argv(spec.http_port, 0, server),
        dialect=Dialect.OPENAI,
        startup_seconds_max=30,
        drain=DrainRule(kill_after_seconds=2),
        health_path="/",
        workers=tuple(
            EngineProcess(name=name, argv=_argv(port, worker_seconds, server), port=port)
            for name, port in ports.items()
        ),
    )
    async with EngineClient(f"http://127.0.0.1:{spec.http_port}", launch) as client:
        host = ReplicaHost(spec, launch, client, CLOCK)
        engine = EngineGroup(spec, launch)
        engine.start()
        host.record_with(engine.first)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(EngineKeeper(host, engine).keep())
            try:
                yield Group(spec, launch, engine, host, keeping)
            finally:
                keeping.cancel()
                await engine.end(CLOCK)


async def test_the_one_that_answers_is_started_once_all_workers_listen(tmp_path: Path) -> None:
    async with a_group(tmp_path) as group:
        workers = {worker.port for worker in group.launch.workers}
        await until(lambda: set(group.processes()) == workers, 5)
        seen = await group.ready()
        assert set(seen) == {*workers, group.spec.http_port}
        assert read_record(group.spec.state_file).engine == group.engine.first
        assert group.engine.first.pid == seen[group.spec.http_port].pid
        logs = {path.stem for path in group.spec.log_dir.glob("*.log")}
        assert logs == {one.name for one in group.launch.processes(group.spec.http_port)}


async def test_a_worker_that_dies_takes_all_with_it_and_all_come_back(tmp_path: Path) -> None:
    async with a_group(tmp_path) as group:
        before = await group.ready()
        worker = group.launch.workers[1]
        kill_group(before[worker.port])
        await until(lambda: group.host.restarts == 1, 20)
        assert "the engine's generation-0 ended by itself by signal 9" in group.host.message
        after = await group.ready()
        assert set(after) == set(before)
        assert not any(is_alive(process) for process in before.values())
        kill_group(after[worker.port])
        assert "2 times in a row" in await group.keeping


async def test_a_stranger_on_a_dead_workers_port_is_not_the_worker(tmp_path: Path) -> None:
    async with a_group(tmp_path, worker_seconds=60) as group:
        await until(lambda: len(group.processes()) == 2, 5)
        group.keeping.cancel()
        gone, loading = (worker.port for worker in group.launch.workers)
        kill_group(group.processes()[gone])
        address = "127.0.0.1"
        with socket.create_server((address, gone)), socket.create_server((address, loading)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(group.engine.complete(CLOCK), 1.0)
        assert group.spec.http_port not in group.processes()


# An engine whose child has a session of its own and outlives it; the host of such an engine.
LEAVES_ONE = "import subprocess, sys; subprocess.Popen(['sleep', '300'], start_new_session=True)"
KEEPS = """
import asyncio, sys
from pathlib import Path
from skerry.plumbing import processes
from skerry.plumbing.clock import SystemClock
from workload_plane.engines.port import Dialect, DrainRule, EngineLaunch
from workload_plane.replica_host.engine_group import EngineGroup
from workload_plane.replica_host.spec import read_spec
processes.adopt_orphans()
launch = EngineLaunch(
    argv=(sys.executable, "-c", sys.argv[2]),
    dialect=Dialect.OPENAI,
    startup_seconds_max=30,
    drain=DrainRule(kill_after_seconds=2),
)
engine = EngineGroup(read_spec(Path(sys.argv[1])), launch, owns_children=True)
engine.start()
async def main():
    await engine.wait_for_an_end()
    me = processes.record_of(processes.os.getpid())
    print([child.name for child in processes.children(me)])
    await engine.confirm_gone(SystemClock())
    print([child.name for child in processes.children(me)])
    print(processes.reap_orphans(()))
asyncio.run(main())
"""


async def test_what_a_dead_engine_left_in_sessions_of_its_own_is_gone_before_the_next_start(
    tmp_path: Path,
) -> None:
    spec = a_spec(tmp_path, an_engine(EngineName.SIMULATED))
    spec.log_dir.mkdir(parents=True)
    write_spec(tmp_path / "spec.json", spec)
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KEEPS, str(tmp_path / "spec.json"), LEAVES_ONE),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(host.communicate(), 30)
    assert output.decode().splitlines() == ["['sleep']", "[]", "0"]


async def test_no_process_of_an_ended_group_is_left(tmp_path: Path) -> None:
    async with a_group(tmp_path) as group:
        seen = await group.ready()
    assert not any(is_alive(process) for process in seen.values())
    for port in seen:
        assert not await is_listening("127.0.0.1", port)


async def test_a_worker_that_is_still_loading_is_ended_too(tmp_path: Path) -> None:
    async with a_group(tmp_path, worker_seconds=60) as group:
        await until(lambda: len(group.processes()) == 2, 5)
        seen = group.processes()
    assert not any(is_alive(process) for process in seen.values())


# Listens, and takes no notice of SIGTERM.
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVER}"


async def test_workers_that_do_not_end_are_waited_for_side_by_side(tmp_path: Path) -> None:
    grace_seconds = 2
    async with a_group(tmp_path, server=STUBBORN) as group:
        seen = await group.ready()
        group.keeping.cancel()
        began = CLOCK.monotonic()
        await group.engine.end(CLOCK)
        took = CLOCK.monotonic() - began
    assert not any(is_alive(process) for process in seen.values())
    assert 2 * grace_seconds <= took < 3 * grace_seconds  # the proxy, then both workers
