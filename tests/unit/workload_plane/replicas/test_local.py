"""What the local runtime finds and tidies after its writer was killed at a bad moment."""

import os
import sys
from pathlib import Path

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.processes import record_of
from workload_plane.replicas.local import LOGS_OF_GONE_MAX, LocalPlace, LocalRuntime
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.records import ReplicaRecord, read_records, write_record

NAME = "demo-r1-aaaaaa"
ORDER = ReplicaOrder(
    name=NAME,
    deployment="demo",
    revision=1,
    pool="here--cpu",
    served_name="demo",
    engine=EngineSpec(name=EngineName.SIMULATED),
)


def a_runtime(directory: Path) -> LocalRuntime:
    place = LocalPlace(
        plane="here",
        replicas_dir=directory / "replicas",
        logs_dir=directory / "logs",
        command=lambda spec: (sys.executable, "-c", "pass", str(spec)),
    )
    return LocalRuntime(place, SystemClock())


def a_record(**values: object) -> ReplicaRecord:
    return ReplicaRecord(
        name=NAME,
        deployment="demo",
        revision=1,
        pool="here--cpu",
        **values,  # type: ignore[arg-type]
    )


async def test_a_record_whose_process_was_never_started_is_not_alive(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    write_record(tmp_path / "replicas", a_record())
    (one,) = await runtime.list()
    assert (one.alive, one.fault) == (False, "it was never started")


async def test_a_reused_pid_is_not_the_replica(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    us = record_of(os.getpid())
    stranger = a_record(pid=us.pid, start_time=us.start_time - 1, boot_id=us.boot_id)
    write_record(tmp_path / "replicas", stranger)
    (one,) = await runtime.list()
    assert not one.alive
    await runtime.kill(one.record, one.fault)  # and we are still here
    assert read_records(tmp_path / "replicas")[0].state is ReplicaState.FAILED


async def test_a_directory_without_a_record_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "replicas" / NAME
    left.mkdir(parents=True)
    (left / "spec.json").write_text("{}")
    a_runtime(tmp_path)
    assert not left.exists()


async def test_logs_of_replicas_that_are_gone_have_a_limit(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    logs = tmp_path / "logs"
    (logs / "envoy.log").write_text("kept")
    for number in range(LOGS_OF_GONE_MAX + 5):
        (logs / f"demo-r1-{number:06d}.log").write_text("")
        (logs / f"demo-r1-{number:06d}").mkdir()
    await runtime.refuse(ORDER, "no")
    await runtime.forget(NAME)
    assert len(list(logs.glob("demo-*.log"))) == LOGS_OF_GONE_MAX
    assert len([path for path in logs.iterdir() if path.is_dir()]) == LOGS_OF_GONE_MAX
    assert (logs / "envoy.log").exists()
