"""Failures in a row: what an engine that serves soundly leaves behind it."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from skerry.plumbing.processes import record_of
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.replica_host.test_drain import LAUNCH, TellingEngine, a_host
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.load import UNKNOWN_LOAD
from workload_plane.replica_host.restarts import WINDOW_SECONDS
from workload_plane.replica_host.state import read_record


def a_host_after(directory: Path, clock: FakeClock, failures: int) -> ReplicaHost:
    """A host that takes over from others which failed so often in a row."""
    host = a_host(directory, TellingEngine(LAUNCH, UNKNOWN_LOAD), clock)
    spec = replace(host.spec, failures=failures, restarts=7)
    return ReplicaHost(spec, host.launch, host.engine, clock)


def end_once(host: ReplicaHost) -> None:
    host.become(HostState.RESTARTING, "it ended")
    host.record_with(record_of(os.getpid()), is_restart=True)


async def serve(host: ReplicaHost, clock: FakeClock, seconds: float) -> None:
    """Have the engine that was started last answer every probe for so long."""
    async with asyncio.TaskGroup() as group:
        probing = group.create_task(host.probe_until_too_late())
        await clock.run_for(seconds)
        probing.cancel()


async def test_restarts_count_for_ever_and_failures_until_it_served_soundly(tmp_path: Path) -> None:
    clock = FakeClock()
    host = a_host_after(tmp_path, clock, failures=1)
    path = host.spec.state_file
    await serve(host, clock, 1.0)
    end_once(host)
    record = read_record(path)
    assert (record.restarts, record.failures) == (8, 2)
    await serve(host, clock, WINDOW_SECONDS - 1.0)
    end_once(host)
    assert read_record(path).failures == 3, "it served for less than the window"
    await serve(host, clock, WINDOW_SECONDS + 1.0)
    assert read_record(path).failures == 0, "written at once: its host may be killed next"
    end_once(host)
    record = read_record(path)
    assert (record.restarts, record.failures) == (10, 1)


async def test_a_host_of_a_release_before_tells_no_failures(tmp_path: Path) -> None:
    host = a_host_after(tmp_path, FakeClock(), failures=1)
    host.become(HostState.READY)
    path = host.spec.state_file
    text = path.read_text().replace('"failures": 1,', "")
    path.write_text(text)
    assert read_record(path).failures is None
