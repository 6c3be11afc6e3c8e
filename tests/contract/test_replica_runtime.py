"""What every ReplicaRuntime promises, held by `local`, `ray` and by the tests' own.

`local` and `ray` run a stand-in replica host: real processes and ports, no engine.
"""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import ProcessRecord, is_alive
from tests.fakes.replica_runtime import FakeReplicaRuntime
from tests.integration.ray_world import RayWorld, ray_settings, stand_in_command
from tests.integration.replica_process import environment_of_process
from workload_plane.replicas import record_store
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import LiveReplica, ReplicaOrder, ReplicaRuntime
from workload_plane.replicas.ray.runtime import RayRuntime
from workload_plane.replicas.records import ReplicaRecord, record_path, write_record

pytestmark = pytest.mark.asyncio(loop_scope="module")

STAND_IN = Path(__file__).with_name("stand_in_host.py")
WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Bench:
    """A runtime, how a replica crashes or its record tears, and how the agent is restarted."""

    runtime: ReplicaRuntime
    crash: Callable[[LiveReplica], None]
    tear: Callable[[LiveReplica], None]
    restarted: Callable[[], ReplicaRuntime]


def _order(name: str = "demo-r1-aaaaaa", **values: object) -> ReplicaOrder:
    return ReplicaOrder(
        name=name,
        deployment="demo",
        revision=1,
        pool="here--cpu",
        served_name="demo",
        engine=EngineSpec(name=EngineName.SIMULATED),
        **values,  # type: ignore[arg-type]
    )


async def _until(
    runtime: ReplicaRuntime, holds: Callable[[tuple[LiveReplica, ...]], bool]
) -> tuple[LiveReplica, ...]:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds(live := await runtime.list()):
            await SystemClock().sleep(0.02)
        return live


class RayBench:
    """A cluster that is started by the first test that asks, and its runtime."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._world: RayWorld | None = None
        self._runtime: RayRuntime | None = None

    async def runtime(self) -> RayRuntime:
        if self._world is None or self._runtime is None:
            self._world = RayWorld(self.directory, ray_settings(self.directory), stand_in_command)
            self._runtime = self._world.runtime()
        await self._world.open(self._runtime)
        return self._runtime

    def restarted(self) -> RayRuntime:
        """Return the runtime of an agent that has just begun and has not reached Ray yet."""
        assert self._world is not None
        return self._world.runtime_apart()

    async def close(self) -> None:
        if self._world is not None:
            await self._world.close()


def _local(directory: Path) -> LocalRuntime:
    place = LocalPlace(
        plane="here",
        replicas_dir=directory / "replicas",
        logs_dir=directory / "logs",
        command=lambda spec: (sys.executable, str(STAND_IN), "--spec", str(spec)),
    )
    return LocalRuntime(place, SystemClock())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RayBench]:
    """Two Ray nodes and one runtime for all tests that ask: Ray takes 15 s to come up."""
    cluster = RayBench(tmp_path_factory.mktemp("ray"))
    yield cluster
    await cluster.close()


RAY_MARKS = (pytest.mark.ray, pytest.mark.integration, pytest.mark.slow)


@pytest_asyncio.fixture(
    params=[
        "fake",
        pytest.param("local", marks=pytest.mark.integration),
        pytest.param("ray", marks=RAY_MARKS),
    ],
    loop_scope="module",
)
async def bench(
    request: pytest.FixtureRequest,
    cluster: RayBench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bench]:
    if request.param == "fake":
        fake = FakeReplicaRuntime()
        yield Bench(
            fake,
            lambda one: fake.crash(one.record.name),
            lambda one: fake.unreadable.add(one.record.name),
            lambda: fake,
        )
        return
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    if request.param == "ray":
        on_ray = await cluster.runtime()
        yield Bench(
            on_ray,
            lambda one: os.kill(one.record.engine_pid, signal.SIGKILL),
            lambda one: _tear(record_path(cluster.directory / "replicas", one.record.name)),
            cluster.restarted,
        )
        for one in await on_ray.list():
            await on_ray.stop(one.record, 5.0)
        return
    runtime = _local(tmp_path)
    yield Bench(
        runtime,
        lambda one: os.kill(one.record.engine_pid, signal.SIGKILL),
        lambda one: _tear(record_path(tmp_path / "replicas", one.record.name)),
        lambda: _local(tmp_path),
    )
    for one in await runtime.list():
        await runtime.stop(one.record, 5.0)


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


async def _started(bench: Bench, order: ReplicaOrder) -> LiveReplica:
    await bench.runtime.start(order)
    live = await _until(bench.runtime, lambda all_: bool(all_ and all_[0].record.engine_pid))
    return live[0]


async def test_a_started_replica_is_listed_alive_with_its_processes(bench: Bench) -> None:
    one = await _started(bench, _order(restarts=2, failures=1))
    assert one.alive
    assert one.record.state is ReplicaState.STARTING
    assert (one.record.restarts, one.record.failures) == (2, 1)
    assert one.record.pid != one.record.engine_pid
    assert len(set(one.record.ports)) == 3


async def test_its_host_is_not_given_the_credentials_of_base_models_sources(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "skerry-test-secret")
    one = await _started(bench, _order())
    if one.record.boot_id != "fake":
        told = environment_of_process(one.record.pid)
        assert b"PATH=" in told
        assert b"skerry-test-secret" not in told


async def test_a_name_is_used_once(bench: Bench) -> None:
    await _started(bench, _order())
    with pytest.raises(Conflict):
        await bench.runtime.start(_order())


async def test_starts_at_once_share_neither_ports_nor_accelerators(bench: Bench) -> None:
    orders = [_order(f"demo-r1-{i}", pool_devices=(0, 1, 2)) for i in range(3)]
    started = await asyncio.gather(*map(bench.runtime.start, orders))
    assert sorted(one.devices for one in started) == [(0,), (1,), (2,)]
    assert len({port for one in started for port in one.ports}) == 9
    with pytest.raises(Exhausted):
        await bench.runtime.start(_order("demo-r1-x", pool_devices=(0, 1, 2)))


async def test_a_marked_state_is_kept(bench: Bench) -> None:
    await _started(bench, _order())
    await bench.runtime.mark("demo-r1-aaaaaa", ReplicaState.DRAINING, "why")
    (one,) = await bench.runtime.list()
    assert (one.record.state, one.record.message) == (ReplicaState.DRAINING, "why")
    await bench.runtime.mark("nobody", ReplicaState.READY)


async def test_what_a_replica_was_started_with_and_how_long_it_took_is_kept(
    bench: Bench,
) -> None:
    order = _order(accelerators=2, nodes=("n1", "n2"), host_memory_bytes=7)
    one = await _started(bench, order)
    assert one.record.nodes == ("n1", "n2")
    assert one.record.host_memory_bytes == 7
    await bench.runtime.mark(order.name, ReplicaState.READY, start_seconds=12.5)
    await bench.runtime.mark(order.name, ReplicaState.DRAINING, "why")
    (kept,) = await bench.restarted().list()
    assert (kept.record.nodes, kept.record.start_seconds) == (("n1", "n2"), 12.5)
    await bench.runtime.kill(kept.record, "it hangs")
    (dead,) = await bench.runtime.list()
    assert dead.record.nodes == ("n1", "n2")


async def test_a_stopped_replica_leaves_nothing(bench: Bench) -> None:
    one = await _started(bench, _order())
    await bench.runtime.stop(one.record, 5.0)
    assert await bench.runtime.list() == ()
    assert not any(is_alive(p) for p in _processes(one) if one.record.boot_id != "fake")


async def test_a_crashed_replica_is_listed_dead_and_wakes_its_watcher(bench: Bench) -> None:
    one = await _started(bench, _order())
    watcher = asyncio.ensure_future(bench.runtime.wait_for_exit(one.record))  # noqa: TID251
    await asyncio.sleep(0)  # noqa: TID251 (lets the watcher begin)
    bench.crash(one)
    async with asyncio.timeout(WAIT_SECONDS):
        await watcher
    (dead,) = await _until(bench.runtime, lambda live: not live[0].alive)
    assert "engine" in dead.fault or "host" in dead.fault


async def test_a_killed_replica_leaves_a_failed_record_and_free_ports(bench: Bench) -> None:
    one = await _started(bench, _order())
    await bench.runtime.kill(one.record, "it hangs")
    (dead,) = await bench.runtime.list()
    assert (dead.alive, dead.fault) == (False, "it hangs")
    assert (dead.record.state, dead.record.pid) == (ReplicaState.FAILED, 0)
    assert not await is_listening("127.0.0.1", one.record.health_port)
    await bench.runtime.forget(one.record.name)
    assert await bench.runtime.list() == ()


async def test_a_living_replica_is_not_forgotten(bench: Bench) -> None:
    await _started(bench, _order())
    with pytest.raises(Conflict):
        await bench.runtime.forget("demo-r1-aaaaaa")


async def test_a_refused_order_is_a_failed_record_with_the_reason(bench: Bench) -> None:
    await bench.runtime.refuse(_order(), "no such file; copy it there")
    (one,) = await bench.runtime.list()
    assert (one.alive, one.fault) == (False, "no such file; copy it there")
    assert one.record.state is ReplicaState.FAILED
    await bench.runtime.kill(one.record, one.fault)  # fencing nothing is harmless
    await bench.runtime.forget(one.record.name)


async def test_what_exists_is_not_refused(bench: Bench) -> None:
    one = await _started(bench, _order())
    with pytest.raises(Conflict, match=one.record.name):
        await bench.runtime.refuse(_order(), "no such file")
    (kept,) = await bench.runtime.list()
    assert (kept.alive, kept.record.pid) == (True, one.record.pid)


async def test_a_state_that_cannot_be_written_is_kept_and_written_once_it_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await _started(bench, _order())
    with monkeypatch.context() as full:
        full.setattr(record_store, "write_record", _disk_is_full)
        await bench.runtime.mark(one.record.name, ReplicaState.READY, start_seconds=3.5)
        (ready,) = await bench.runtime.list()
        assert (ready.record.state, ready.record.start_seconds) == (ReplicaState.READY, 3.5)
        await bench.runtime.mark(one.record.name, ReplicaState.DRAINING, "why")
        (draining,) = await bench.runtime.list()
        assert (draining.record.state, draining.record.message) == (ReplicaState.DRAINING, "why")
    await bench.runtime.list()
    (kept,) = await bench.restarted().list()
    assert (kept.record.state, kept.record.start_seconds) == (ReplicaState.DRAINING, 3.5)


async def test_a_start_that_cannot_be_written_down_in_the_end_is_a_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def once(directory: Path, record: ReplicaRecord) -> None:
        if record.name in written:
            _disk_is_full(directory, record)
        written.append(record.name)
        write_record(directory, record)

    with monkeypatch.context() as full:
        full.setattr(record_store, "write_record", once)
        await bench.runtime.start(_order())
    (one,) = await _until(bench.runtime, lambda live: bool(live and live[0].record.engine_pid))
    assert one.alive
    with pytest.raises(Conflict):
        await bench.runtime.forget(one.record.name)
    assert [found.record for found in await bench.restarted().list()] == [one.record]


async def test_devices_are_held_by_one_replica_each(bench: Bench) -> None:
    first = await _started(bench, _order(accelerators=2, pool_devices=(0, 1, 2)))
    assert first.record.devices == (0, 1)
    with pytest.raises(Exhausted):
        await bench.runtime.start(_order("demo-r1-bbbbbb", accelerators=2, pool_devices=(0, 1, 2)))
    assert len(await bench.runtime.list()) == 1


async def test_replicas_are_adopted_after_a_restart_of_the_agent(bench: Bench) -> None:
    one = await _started(bench, _order())
    (adopted,) = await bench.restarted().list()
    assert adopted == one


async def test_a_replica_with_a_torn_record_is_listed_alive_and_can_be_ended(
    bench: Bench,
) -> None:
    one = await _started(bench, _order())
    bench.tear(one)
    for runtime in (bench.runtime, bench.restarted()):
        (torn,) = await runtime.list()
        assert (torn.record.name, torn.alive) == (one.record.name, True)
        assert torn.record.pid == one.record.pid
        bench.tear(one)
    await bench.runtime.stop(torn.record, 5.0)
    assert await bench.runtime.list() == ()
    assert not any(is_alive(p) for p in _processes(one) if one.record.boot_id != "fake")


async def test_only_what_has_neither_record_nor_process_is_gone(bench: Bench) -> None:
    one = await _started(bench, _order())
    names = frozenset({one.record.name, "nobody-r1-aaaaaa"})
    assert await bench.runtime.gone(names) == {"nobody-r1-aaaaaa"}
    await bench.runtime.stop(one.record, 5.0)
    assert await bench.runtime.gone(names) == names


@pytest.mark.integration
async def test_a_replica_host_that_cannot_start_leaves_no_record(tmp_path: Path) -> None:
    place = LocalPlace(
        plane="here",
        replicas_dir=tmp_path / "replicas",
        logs_dir=tmp_path / "logs",
        command=lambda _: ("no-such-program-anywhere",),
    )
    runtime = LocalRuntime(place, SystemClock())
    with pytest.raises(Unavailable, match="no program"):
        await runtime.start(_order())
    assert await runtime.list() == ()


def _disk_is_full(directory: Path, record: ReplicaRecord) -> None:
    raise OSError(errno.ENOSPC, f"{directory / record.name}: no space left on device")


def _processes(one: LiveReplica) -> list[ProcessRecord]:
    return [p for p in (one.record.host_process, one.record.engine_process) if p is not None]
