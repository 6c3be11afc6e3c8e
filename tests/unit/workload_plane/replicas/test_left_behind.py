"""A child of an engine that outlives it and its host is ended with its replica, and not before."""

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.cli.supervisor.running import replica_processes
from skerry.cli.supervisor.stopping import stop_replicas
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict
from skerry.plumbing.processes import ProcessRecord, is_alive, kill_group
from tests.contract import stand_in_host
from workload_plane.replica_host.device_locks import take_devices
from workload_plane.replica_host.marks import left_of, left_on_devices
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.launcher import end_and_forget
from workload_plane.replicas.records import record_path
from workload_plane.replicas.recovery import state_path

pytestmark = pytest.mark.integration
NAME = "demo-r1-aaaaaa"
ORDER = ReplicaOrder(
    name=NAME,
    deployment="demo",
    revision=1,
    pool="here--gpu",
    served_name="demo",
    engine=EngineSpec(name=EngineName.LLAMACPP),
    pool_devices=(0,),
)


@dataclass(frozen=True)
class Left:
    """A replica whose host and engine were killed, and what its engine left behind."""

    directory: Path
    runtime: LocalRuntime
    replica: LiveReplica
    orphan: ProcessRecord

    @property
    def replicas_dir(self) -> Path:
        return self.directory / "replicas"

    @property
    def devices_dir(self) -> Path:
        return self.directory / "devices"


def a_runtime(directory: Path) -> LocalRuntime:
    host = (sys.executable, stand_in_host.__file__)
    place = LocalPlace(
        plane="here",
        replicas_dir=directory / "replicas",
        logs_dir=directory / "logs",
        command=lambda spec: (*host, "--spec", str(spec), stand_in_host.LEAVES_ONE),
        device_locks_dir=directory / "devices",
    )
    return LocalRuntime(place, SystemClock())


@pytest_asyncio.fixture
async def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Left]:
    monkeypatch.setenv("PYTHONPATH", str(Path(stand_in_host.__file__).parents[2]))
    runtime = a_runtime(tmp_path)
    await runtime.start(ORDER)
    clock = SystemClock()
    state_file = state_path(tmp_path / "replicas", NAME)
    while True:
        (one,) = await runtime.list()
        mine = left_of({NAME: state_file}).get(NAME, ())
        orphans = [process for process in mine if process.pid != one.record.engine_pid]
        if one.record.engine_pid and len(orphans) == 1 and orphans[0].name == "sleep":
            break
        await clock.sleep(0.05)
    for pid in (one.record.pid, one.record.engine_pid):
        os.kill(pid, signal.SIGKILL)
    for process in (one.record.host_process, one.record.engine_process):
        while process is not None and is_alive(process):
            await clock.sleep(0.02)
    yield Left(tmp_path, runtime, one, orphans[0])
    kill_group(orphans[0])


async def test_a_replica_that_is_killed_is_gone_with_what_its_engine_left(left: Left) -> None:
    assert is_alive(left.orphan)
    await left.runtime.kill(left.replica.record, "its host is gone")
    assert not is_alive(left.orphan)


async def test_a_replica_that_is_stopped_is_gone_with_what_its_engine_left(left: Left) -> None:
    await left.runtime.stop(left.replica.record, 1.0)
    assert not is_alive(left.orphan)
    assert await left.runtime.gone(frozenset({NAME})) == {NAME}


async def test_it_is_not_gone_while_its_engine_has_left_something(left: Left) -> None:
    with pytest.raises(Conflict, match="lives"):
        await left.runtime.forget(NAME)
    shutil.rmtree(left.replicas_dir)
    left.replicas_dir.mkdir()
    runtime = a_runtime(left.directory)
    assert await runtime.gone(frozenset({NAME, "other-r1-aaaaaa"})) == {"other-r1-aaaaaa"}


async def test_its_accelerator_is_not_free_while_it_lives(left: Left) -> None:
    assert list(left_on_devices(left.devices_dir, (0, 1)).values()) == [0]
    with pytest.raises(Conflict, match=f"accelerator 0 .* process {left.orphan.pid}"):
        take_devices(left.devices_dir, (1, 0))
    others = [take_devices(left.devices_dir, (1,)), take_devices(left.directory / "other", (0,))]
    for descriptor in (number for numbers in others for number in numbers):
        os.close(descriptor)


@pytest.mark.parametrize("loss", ["record", "directory"])
async def test_a_damaged_replica_is_removed_with_what_its_engine_left(
    left: Left, loss: str
) -> None:
    if loss == "directory":
        shutil.rmtree(left.replicas_dir / NAME)
    record_path(left.replicas_dir, NAME).write_bytes(b"torn")
    runtime = a_runtime(left.directory)
    for one in await runtime.list():
        await runtime.kill(one.record, "its host is gone")
    assert not is_alive(left.orphan)


async def test_a_fleet_that_is_ended_leaves_nothing_of_it(left: Left) -> None:
    assert replica_processes(left.directory) == (left.orphan,)
    assert replica_processes(left.directory / "re") == ()
    assert await stop_replicas([left.directory], SystemClock()) == 1
    assert not is_alive(left.orphan)


async def test_a_node_without_the_record_ends_it_all_the_same(left: Left) -> None:
    record_path(left.replicas_dir, NAME).unlink()
    shutil.rmtree(left.replicas_dir / NAME)
    assert await end_and_forget(a_runtime(left.directory), left.replica.record, 0.0) == ""
    assert not is_alive(left.orphan)
