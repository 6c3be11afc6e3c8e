"""What the local runtime finds and tidies after its writer was killed at a bad moment."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from skerry.fleet.engine import Disaggregation, EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.processes import record_of
from workload_plane.engines.port import PORT_NUMBERS
from workload_plane.replica_host import state as host_state
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import read_spec
from workload_plane.replicas import local
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.log_files import LOGS_OF_GONE_MAX
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


@pytest.mark.integration
async def test_what_its_own_host_gave_up_is_told_from_what_was_killed(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    record = await runtime.start(ORDER)
    assert record.host_process is not None
    for state, given_up in ((HostState.READY, False), (HostState.FAILED, True)):
        told = host_state.ReplicaRecord(
            name=NAME,
            deployment="demo",
            revision=1,
            pool="here--cpu",
            state=state,
            host=record.host_process,
            engine=None,
            http="127.0.0.1:1",
            grpc="127.0.0.1:2",
            health="127.0.0.1:3",
        )
        host_state.write_record(tmp_path / "replicas" / NAME / "state.json", told)
        (one,) = await runtime.list()
        assert one.given_up is given_up
    await runtime.kill(record, "enough")


@pytest.mark.integration
async def test_the_ports_of_an_engines_other_processes_are_nobody_elses(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    apart = Disaggregation(prefill_replicas=2, decode_replicas=1)
    engine = dataclasses.replace(ORDER.engine, disaggregation=apart)
    record = await runtime.start(dataclasses.replace(ORDER, engine=engine))
    assert len(record.worker_ports) == 3
    assert len(set(record.ports)) == 6
    assert read_records(tmp_path / "replicas") == (record,)
    spec = read_spec(tmp_path / "replicas" / NAME / "spec.json")
    assert spec.worker_ports == record.worker_ports
    await runtime.kill(record, "enough")


@pytest.mark.integration
async def test_devices_are_held_whatever_pool_a_replica_is_of(tmp_path: Path) -> None:
    runtime = a_runtime(tmp_path)
    # Of a release that numbered each pool from 0.
    old = dataclasses.replace(a_record(devices=(0, 1)), name="other-r1-aaaaaa", pool="here--other")
    write_record(tmp_path / "replicas", old)
    record = await runtime.start(dataclasses.replace(ORDER, pool_devices=(0, 1, 2, 3)))
    assert record.devices == (2,)
    await runtime.kill(record, "enough")


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


async def test_what_another_runtime_of_the_node_ended_does_not_come_back(tmp_path: Path) -> None:
    first = a_runtime(tmp_path)
    write_record(tmp_path / "replicas", a_record(devices=(0,)))
    assert len(await first.list()) == 1
    second = a_runtime(tmp_path)
    await second.forget(NAME)
    assert await first.list() == ()
    assert read_records(tmp_path / "replicas") == ()


async def test_a_record_that_vanished_while_its_replica_runs_is_written_again(
    tmp_path: Path,
) -> None:
    runtime = a_runtime(tmp_path)
    me = record_of(os.getpid())
    write_record(
        tmp_path / "replicas",
        a_record(pid=me.pid, start_time=me.start_time, boot_id=me.boot_id),
    )
    assert len(await runtime.list()) == 1
    (tmp_path / "replicas" / f"{NAME}.json").unlink()
    assert len(await runtime.list()) == 1
    assert len(read_records(tmp_path / "replicas")) == 1


def test_http_ports_differ_where_engines_make_numbers_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The third and the fifth would be 10,000's number once more.
    free = iter([10_000, 20_000, 10_256, 30_001, 30_001 + 256, 40_002, 40_003, 40_004, 40_005])
    monkeypatch.setattr(local, "free_port", lambda host: next(free))
    assert local._pick_ports("h", frozenset(), 2, frozenset()) == [10_000, 20_000]
    numbers = frozenset({10_000 % PORT_NUMBERS, 30_001 % PORT_NUMBERS})
    assert local._pick_ports("h", frozenset({10_000}), 3, numbers) == [40_002, 40_003, 40_004]


def test_with_every_number_taken_a_free_port_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "free_port", lambda host: 10_000)
    assert local._pick_ports("h", frozenset(), 1, frozenset(range(PORT_NUMBERS))) == [10_000]


@pytest.mark.integration
async def test_a_replica_never_takes_the_port_of_a_gateway_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter(range(10_000, 10_010))
    monkeypatch.setattr(local, "free_port", lambda host: next(free))
    place = a_runtime(tmp_path)._place
    reserved = frozenset({10_000, 10_002})
    runtime = LocalRuntime(dataclasses.replace(place, reserved_ports=reserved), SystemClock())
    record = await runtime.start(ORDER)
    assert record.ports == (10_001, 10_003, 10_004)
