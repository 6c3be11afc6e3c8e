"""What a launcher starts is fenced and finds its group; what it ends is gone, known or not."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.processes import is_alive, record_of
from workload_plane.replica_host.device_locks import take_devices
from workload_plane.replica_host.spec import read_spec
from workload_plane.replicas.apart import spawn_apart
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.ray.launcher import Launcher, end_and_forget, node_runtime, see_out
from workload_plane.replicas.ray.values import Fault, LaunchPlace
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.recovery import spec_path

pytestmark = pytest.mark.integration

STAND_IN = Path(__file__).parents[3] / "contract" / "stand_in_host.py"


def _stand_in(spec: Path) -> Sequence[str]:
    return (sys.executable, str(STAND_IN), "--spec", str(spec))


def _place(home: Path) -> LaunchPlace:
    return LaunchPlace(
        plane="here",
        node="n1",
        node_id="a1",
        replicas_dir=str(home / "replicas"),
        logs_dir=str(home / "logs"),
        host="127.0.0.1",
        head_address="10.0.0.5:6379",
        command=_stand_in,
        device_locks_dir=str(home / "locks"),
    )


def _order(*nodes: str) -> ReplicaOrder:
    return ReplicaOrder(
        name="demo-r1-a",
        deployment="demo",
        revision=1,
        pool="here--h100",
        served_name="demo",
        engine=EngineSpec(name=EngineName.VLLM),
        nodes=nodes,
        accelerators=2,
        pool_devices=(0, 1, 2, 3),
    )


async def _started(launcher: Launcher, order: ReplicaOrder) -> ReplicaRecord:
    record = await launcher.start(order)
    assert isinstance(record, ReplicaRecord), record
    return record


async def test_accelerators_of_its_node_are_locked_by_the_host_that_it_starts(
    tmp_path: Path,
) -> None:
    launcher = Launcher(_place(tmp_path))
    record = await _started(launcher, _order("n1"))
    spec = read_spec(spec_path(tmp_path / "replicas", record.name))
    assert (spec.device_locks_dir, spec.accelerators) == (tmp_path / "locks", (0, 1))
    assert "SKERRY_RAY_PLACEMENT_GROUP" not in psutil.Process(record.pid).environ()
    assert await launcher.end(record, 0.0) == ""


async def test_an_engine_over_nodes_is_told_of_ray_and_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/etc/skerry/ray-token")
    monkeypatch.setenv("RAY_JOB_ID", "01")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    launcher = Launcher(_place(tmp_path))
    record = await _started(launcher, _order("n1", "n2"))
    assert read_spec(spec_path(tmp_path / "replicas", record.name)).nodes == 2
    told = psutil.Process(record.pid).environ()
    assert told["SKERRY_RAY_PLACEMENT_GROUP"] == "skerry/here/demo-r1-a"
    assert told["RAY_ADDRESS"] == "10.0.0.5:6379"
    assert told["RAY_AUTH_TOKEN_PATH"] == "/etc/skerry/ray-token"
    assert "RAY_JOB_ID" not in told
    first, second = told["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "sitecustomize.py").is_file()
    assert second == "/elsewhere"
    assert await launcher.end(record, 0.0) == ""


async def test_an_orphans_accelerators_are_not_free(tmp_path: Path) -> None:
    launcher = Launcher(_place(tmp_path))
    assert await launcher.check_devices((0, 1)) is None
    held = take_devices(tmp_path / "locks", (1,))
    fault = await launcher.check_devices((0, 1))
    assert isinstance(fault, Fault)
    assert fault.kind == "Conflict"
    assert "accelerator 1 of this host" in fault.message
    assert await launcher.check_devices((0, 2)) is None  # what was looked at is not held
    for descriptor in held:
        os.close(descriptor)


async def test_ranks_that_stay_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workload_plane.replicas.ray.launcher.SEE_OUT_SECONDS", 0.1)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time;time.sleep(60)")
    launcher = Launcher(_place(tmp_path))
    ranks = await launcher.processes((child.pid, 2**22 - 1))
    assert [rank.pid for rank in ranks] == [child.pid]
    await see_out(ranks, SystemClock())
    assert not is_alive(ranks[0])
    await launcher.see_out((replace(record_of(os.getpid()), start_time=1.0),))  # not us: harmless


async def test_a_process_without_a_record_is_ended_all_the_same(tmp_path: Path) -> None:
    place = _place(tmp_path)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    process = spawn_apart(command, env={}, stdout_path=tmp_path / "log")
    record = ReplicaRecord(name="demo-r1-a", deployment="demo", revision=1, pool="here--cpu")
    record = replace(
        record, pid=process.pid, start_time=process.start_time, boot_id=process.boot_id
    )
    assert is_alive(process)
    assert await end_and_forget(node_runtime(place), record, 5.0) == ""
    assert not is_alive(process)
    assert await end_and_forget(node_runtime(place), record, 5.0) == ""
