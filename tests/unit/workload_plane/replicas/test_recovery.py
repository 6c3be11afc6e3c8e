"""A damaged record is no word that its replica is gone: real processes, without an engine."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.observation import ReplicaState
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.processes import ProcessRecord, is_alive, terminate
from tests.unit.workload_plane.replicas.test_local import NAME, ORDER
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.state import ReplicaRecord as HostRecord
from workload_plane.replica_host.state import write_record as write_state
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import ReplicaRecord, read_record, record_path
from workload_plane.replicas.recovery import (
    directory_of,
    find_hosts,
    spec_path,
    state_path,
    unknown_record,
    with_told,
)

SLEEPER = "import time; time.sleep(600)"


class Damaged:
    """A plane's directory with one replica whose files the test damages."""

    def __init__(self, directory: Path) -> None:
        self.replicas_dir = directory / "replicas"
        self._place = LocalPlace(
            plane="here",
            replicas_dir=self.replicas_dir,
            logs_dir=directory / "logs",
            command=lambda spec: (sys.executable, "-c", SLEEPER, "--spec", str(spec)),
        )
        self.runtime = self.restarted()

    def restarted(self) -> LocalRuntime:
        """Return the runtime of the next agent, which remembers nothing."""
        return LocalRuntime(self._place, SystemClock())

    @property
    def path(self) -> Path:
        return record_path(self.replicas_dir, NAME)

    def lose_copy(self) -> None:
        (directory_of(self.replicas_dir, NAME) / self.path.name).write_bytes(b"")

    async def end_host(self, one: LiveReplica) -> None:
        assert one.record.host_process is not None
        await terminate(one.record.host_process, SystemClock(), 5.0)


@pytest.fixture
async def damaged(tmp_path: Path) -> AsyncIterator[Damaged]:
    damaged = Damaged(tmp_path)
    await damaged.runtime.start(ORDER)
    yield damaged
    for one in await damaged.restarted().list():
        await damaged.restarted().stop(one.record, 5.0)


@pytest.mark.integration
async def test_a_record_damaged_under_the_agent_is_written_again(damaged: Damaged) -> None:
    await damaged.runtime.mark(NAME, ReplicaState.DRAINING, "why")
    before = await damaged.runtime.list()
    for fault in (b'{"name": "demo', b"", b"[]"):
        damaged.path.write_bytes(fault)
        assert await damaged.runtime.list() == before
        assert read_record(damaged.path) == before[0].record
    damaged.path.unlink()
    assert await damaged.runtime.list() == before


@pytest.mark.integration
async def test_a_state_of_a_later_release_is_rebuilt_after_a_rollback(damaged: Damaged) -> None:
    (before,) = await damaged.runtime.list()
    values = json.loads(damaged.path.read_bytes())
    damaged.path.write_text(json.dumps({**values, "state": "quarantined"}))
    assert await damaged.restarted().list() == (before,)
    assert read_record(damaged.path) == before.record


@pytest.mark.integration
async def test_a_lost_record_of_a_living_replica_is_rebuilt_by_the_next_agent(
    damaged: Damaged,
) -> None:
    before = await damaged.runtime.list()
    damaged.path.unlink()
    assert await damaged.restarted().list() == before


@pytest.mark.integration
async def test_with_no_good_file_left_the_replica_is_kept_as_unknown_until_it_ends(
    damaged: Damaged,
) -> None:
    (before,) = await damaged.runtime.list()
    damaged.path.write_bytes(b"{")
    damaged.lose_copy()
    runtime = damaged.restarted()
    (one,) = await runtime.list()
    assert (one.alive, one.known) == (True, False)
    assert (one.record.deployment, one.record.revision, one.record.pool) == ("demo", 1, "")
    assert one.record.pid == before.record.pid
    assert await runtime.gone(frozenset({NAME})) == frozenset()
    assert damaged.path.read_bytes() == b"{"
    await damaged.end_host(before)
    assert await runtime.list() == ()
    assert not damaged.path.exists()


@pytest.mark.integration
async def test_an_unknown_replica_may_hold_any_accelerator(damaged: Damaged) -> None:
    damaged.path.write_bytes(b"{")
    damaged.lose_copy()
    order = ORDER.__class__(
        name="demo-r1-bbbbbb",
        deployment="demo",
        revision=1,
        pool="here--gpu",
        served_name="demo",
        engine=ORDER.engine,
        pool_devices=(0, 1),
    )
    with pytest.raises(Exhausted, match=NAME):
        await damaged.restarted().start(order)


@pytest.mark.integration
async def test_an_unknown_replica_is_ended_on_request(damaged: Damaged) -> None:
    (before,) = await damaged.runtime.list()
    damaged.path.write_bytes(b"{")
    damaged.lose_copy()
    runtime = damaged.restarted()
    (one,) = await runtime.list()
    await runtime.stop(one.record, 5.0)
    assert before.record.host_process is not None
    assert not is_alive(before.record.host_process)
    assert list(damaged.replicas_dir.iterdir()) == []


@pytest.mark.integration
async def test_a_fault_is_logged_once(damaged: Damaged, caplog: pytest.LogCaptureFixture) -> None:
    damaged.path.write_bytes(b"{")
    damaged.lose_copy()
    spec_path(damaged.replicas_dir, NAME).with_name("state.json").write_bytes(b"{")
    runtime = damaged.restarted()
    for _ in range(3):
        await runtime.list()
    events = [record.getMessage() for record in caplog.records]
    assert events.count("replica.record-unreadable") == 1
    assert events.count("replica.state-unreadable") == 1


@pytest.mark.integration
async def test_the_hosts_own_state_tells_what_serves(damaged: Damaged) -> None:
    (before,) = await damaged.runtime.list()
    host = before.record.host_process
    assert host is not None
    told = HostRecord(
        name=NAME,
        deployment="demo",
        revision=3,
        pool="here--cpu",
        state=HostState.READY,
        host=host,
        engine=None,
        http="127.0.0.1:10",
        grpc="127.0.0.1:11",
        health="127.0.0.1:12",
    )
    write_state(state_path(damaged.replicas_dir, NAME), told)
    record = unknown_record(NAME, told, "torn")
    assert (record.pool, record.revision, record.ports) == ("here--cpu", 3, (10, 11, 12))
    assert (record.state, record.host_process) == (ReplicaState.READY, host)
    damaged.path.write_bytes(b"{")
    damaged.lose_copy()
    (one,) = await damaged.restarted().list()
    assert (one.known, one.record.ports) == (False, (10, 11, 12))
    (damaged.replicas_dir / NAME / "state.json").unlink()


def _process(pid: int) -> ProcessRecord:
    return ProcessRecord(pid=pid, start_time=float(pid), name="x", boot_id="b")


TOLD = HostRecord(
    name=NAME,
    deployment="demo",
    revision=3,
    pool="here--cpu",
    state=HostState.READY,
    host=_process(7),
    engine=_process(8),
    http="127.0.0.1:10",
    grpc="127.0.0.1:11",
    health="127.0.0.1:12",
)
RECORD = ReplicaRecord(
    name=NAME, deployment="demo", revision=3, pool="here--cpu", state=ReplicaState.READY
)


def test_the_processes_are_those_that_the_host_tells() -> None:
    record = with_told(RECORD, TOLD)
    assert (record.host_process, record.state) == (
        replace(_process(7), name="skerry-replica"),
        ReplicaState.READY,
    )
    assert (record.engine_pid, record.engine_start_time) == (8, 8.0)
    before_the_engine = replace(TOLD, engine=None, state=HostState.STARTING)
    assert with_told(record, before_the_engine).engine_pid == 8


@pytest.mark.parametrize("state", [HostState.RESTARTING, HostState.CRASH_LOOPING])
def test_a_replica_whose_engine_is_restarted_is_starting_again_and_says_why(
    state: HostState,
) -> None:
    told = replace(TOLD, state=state, engine=None, restarts=2, message="it ended")
    record = with_told(with_told(RECORD, TOLD), told)
    assert (record.state, record.message) == (ReplicaState.STARTING, "it ended")
    assert (record.engine_process, record.restarts) == (None, 2)
    draining = replace(RECORD, state=ReplicaState.DRAINING, message="why")
    record = with_told(draining, told)
    assert (record.state, record.message) == (ReplicaState.DRAINING, "why")


def test_restarts_of_replicas_before_it_are_kept() -> None:
    assert with_told(replace(RECORD, restarts=3), TOLD).restarts == 3


def test_failures_in_a_row_are_its_hosts_word_where_that_tells_them() -> None:
    before = replace(RECORD, failures=2)
    assert with_told(before, replace(TOLD, failures=0)).failures == 0
    assert with_told(before, replace(TOLD, failures=None)).failures == 2


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "own_session", "is_host"),
    [
        (("--spec",), True, True),
        (("--spec",), False, False),
        ((), True, False),
        (("--spec", "other.json"), True, False),
    ],
)
def test_only_a_leader_of_a_session_that_was_given_the_spec_is_its_host(
    tmp_path: Path, words: tuple[str, ...], own_session: bool, is_host: bool
) -> None:
    spec = tmp_path / "spec.json"
    command = (sys.executable, "-c", SLEEPER, *words, str(spec))
    process = subprocess.Popen(command, start_new_session=own_session)
    try:
        found = find_hosts([spec])
        assert [one.pid for one in found.values()] == ([process.pid] if is_host else [])
    finally:
        process.kill()
        process.wait()


def test_what_is_to_be_known_of_a_replica_that_is_well_is_its_message_until_another_is() -> None:
    told = replace(TOLD, state=HostState.READY, note="the engine runs as user 1000")
    ready = replace(RECORD, state=ReplicaState.READY)
    assert with_told(ready, told).message == "the engine runs as user 1000"
    assert with_told(replace(ready, message="moves"), told).message == "moves"
    assert with_told(replace(RECORD, state=ReplicaState.STARTING), told).message == ""
