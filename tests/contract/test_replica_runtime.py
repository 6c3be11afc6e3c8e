"""What every ReplicaRuntime promises, held by `local` and by the tests' own.

`local` runs a stand-in replica host: real processes and ports, no engine.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import ProcessRecord, is_alive
from tests.fakes.replica_runtime import FakeReplicaRuntime
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import LiveReplica, ReplicaOrder, ReplicaRuntime
from workload_plane.replicas.records import record_path

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


def _local(directory: Path) -> LocalRuntime:
    place = LocalPlace(
        plane="here",
        replicas_dir=directory / "replicas",
        logs_dir=directory / "logs",
        command=lambda spec: (sys.executable, str(STAND_IN), "--spec", str(spec)),
    )
    return LocalRuntime(place, SystemClock())


@pytest.fixture(params=["fake", "local"])
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    one = await _started(bench, _order(restarts=2))
    assert one.alive
    assert one.record.state is ReplicaState.STARTING
    assert one.record.restarts == 2
    assert one.record.pid != one.record.engine_pid
    assert len(set(one.record.ports)) == 3


async def test_a_name_is_used_once(bench: Bench) -> None:
    await _started(bench, _order())
    with pytest.raises(Conflict):
        await bench.runtime.start(_order())


async def test_a_marked_state_is_kept(bench: Bench) -> None:
    await _started(bench, _order())
    await bench.runtime.mark("demo-r1-aaaaaa", ReplicaState.DRAINING, "why")
    (one,) = await bench.runtime.list()
    assert (one.record.state, one.record.message) == (ReplicaState.DRAINING, "why")
    await bench.runtime.mark("nobody", ReplicaState.READY)


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


def _processes(one: LiveReplica) -> list[ProcessRecord]:
    return [p for p in (one.record.host_process, one.record.engine_process) if p is not None]
