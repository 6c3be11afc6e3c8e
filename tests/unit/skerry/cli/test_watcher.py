"""The supervisor: starts what is not there, starts again what dies, renews, tells fleet.json."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.supervisor import parts, pki, running, stopping, watcher
from skerry.cli.supervisor.layout import (
    DataDirectory,
    Layout,
    choose_control_planes,
    extend_layout,
)
from skerry.cli.supervisor.restarts import PartKey, Role, control_plane_key
from skerry.cli.supervisor.watcher import RENEWAL_RETRY_SECONDS, Supervisor
from skerry.plumbing.errors import InvalidInput, NotFound
from skerry.plumbing.processes import ProcessRecord
from tests.fakes.clock import FakeClock

PLANE = "aws-us-east-1"
AGENT = PartKey(role=Role.AGENT, plane=PLANE)
FRONT = PartKey(role=Role.FRONT, plane=PLANE)
GATEWAY = PartKey(role=Role.GATEWAY, plane=PLANE)
PICKER = PartKey(role=Role.PICKER, plane=PLANE)
RELAY = PartKey(role=Role.RELAY, plane=PLANE)
CONTROL_PLANE = PartKey(role=Role.CONTROL_PLANE)
DAY_SECONDS = 86_400.0


class Host:
    """Processes that are not there: started by the supervisor, ended by the test."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = DataDirectory(directory)
        ports = itertools.count(20_000)
        self.layout: Layout = extend_layout(None, 1, "llamacpp", lambda: next(ports))
        self.clock = FakeClock()
        self.started: list[PartKey] = []
        self.renewed_at: list[float] = []
        self.renewal_fault: Exception | None = None
        self.has_streams_to_continue = False
        self.living: dict[int, PartKey] = {}
        self.dying: set[int] = set()
        self._pids = itertools.count(100)
        monkeypatch.setattr(parts, "start_part", self._start)
        monkeypatch.setattr(watcher, "is_alive", lambda record: record.pid in self.living)
        monkeypatch.setattr(watcher, "is_ending", lambda record: record.pid in self.dying)
        monkeypatch.setattr(running, "is_alive", lambda record: record.pid in self.living)
        monkeypatch.setattr(watcher, "bound_logs", lambda directory: None)
        monkeypatch.setattr(watcher, "end_all", self._end_all)
        monkeypatch.setattr(stopping, "end_all", self._end_all)
        monkeypatch.setattr(pki, "ensure_pki", self._renew)

    def _start(self, directory: DataDirectory, key: PartKey) -> ProcessRecord | None:
        if key == RELAY and not self.has_streams_to_continue:
            return None
        pid = next(self._pids)
        self.started.append(key)
        self.living[pid] = key
        return ProcessRecord(pid=pid, start_time=1.0, name=str(key), boot_id="b")

    async def _end_all(self, records: Any, clock: Any, grace_seconds: float) -> int:
        return sum(self.living.pop(record.pid, None) is not None for record in records)

    def _renew(self, *arguments: object) -> None:
        self.renewed_at.append(self.clock.monotonic())
        if self.renewal_fault is not None:
            raise self.renewal_fault

    def kill_slowly(self, key: PartKey) -> None:
        """Send SIGKILL to a process that waits for a disk: it is alive until that answers."""
        self.dying |= {pid for pid, held in self.living.items() if held == key}

    def kill(self, *keys: PartKey) -> None:
        """End the processes as kill -9 does."""
        self.living = {pid: key for pid, key in self.living.items() if key not in keys}

    def fleet(self) -> dict[str, Any]:
        """Return fleet.json."""
        values: dict[str, Any] = json.loads(self.directory.fleet.read_bytes())
        return values

    @asynccontextmanager
    async def supervised(self, *, restart_control_plane: bool = False) -> AsyncIterator[Supervisor]:
        """Run a supervisor for the block."""
        supervisor = Supervisor(
            self.directory,
            self.layout,
            self.clock,
            pid=7,
            restart_control_plane=restart_control_plane,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(supervisor.run())
            await self.clock.run_for(0.2)
            yield supervisor
            task.cancel()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with nothing running."""
    return Host(tmp_path, monkeypatch)


async def test_everything_is_started_and_told(host: Host) -> None:
    async with host.supervised():
        assert set(host.started) == {CONTROL_PLANE, AGENT, FRONT, GATEWAY, PICKER}
        plane = host.fleet()["planes"][0]
        parts = ("agent", "front", "gateway", "picker")
        assert None not in [plane[f"{part}_pid"] for part in parts]
        assert host.fleet()["supervisor_pid"] == 7


async def test_a_relay_is_started_when_there_are_streams_to_continue(host: Host) -> None:
    async with host.supervised():
        await host.clock.run_for(60.0)
        assert RELAY not in host.started
        assert host.fleet()["planes"][0]["relay_pid"] is None
        host.has_streams_to_continue = True
        await host.clock.run_for(1.0)
        assert host.started.count(RELAY) == 1
        assert host.fleet()["planes"][0]["relay_pid"] is not None
        host.kill(RELAY)
        await host.clock.run_for(1.0)
        assert host.started.count(RELAY) == 2


async def test_a_relay_that_waits_keeps_no_lost_plane_up(host: Host) -> None:
    async with host.supervised():
        await host.clock.run_for(60.3)
        host.kill(AGENT, FRONT, GATEWAY, PICKER)
        await host.clock.run_for(60.0)
        assert host.started.count(AGENT) == 1


@pytest.mark.parametrize("slow", [AGENT, GATEWAY])
async def test_a_plane_killed_as_a_whole_stays_down_though_a_part_of_it_dies_slowly(
    host: Host, slow: PartKey
) -> None:
    rest = {AGENT, FRONT, GATEWAY, PICKER} - {slow}
    async with host.supervised():
        await host.clock.run_for(60.3)
        host.kill_slowly(slow)
        host.kill(*rest)
        await host.clock.run_for(2.0)
        host.kill(slow)
        await host.clock.run_for(60.0)
        assert host.started.count(AGENT) == host.started.count(GATEWAY) == 1


async def test_a_dead_agent_is_started_again_and_the_control_plane_is_not(host: Host) -> None:
    async with host.supervised():
        host.kill(AGENT, CONTROL_PLANE)
        await host.clock.run_for(1.0)
        assert host.started.count(AGENT) == 2
        assert host.started.count(CONTROL_PLANE) == 1
        assert host.fleet()["control_planes"][0]["pid"] is None


async def test_the_control_plane_is_started_again_when_asked_for(host: Host) -> None:
    async with host.supervised(restart_control_plane=True):
        host.kill(CONTROL_PLANE)
        await host.clock.run_for(1.0)
        assert host.started.count(CONTROL_PLANE) == 2


async def test_who_has_standbys_asked_for_control_planes_that_are_always_there(host: Host) -> None:
    ports = itertools.count(21_000)
    url = "postgresql://somewhere/skerry"
    host.layout = choose_control_planes(host.layout, 2, url, lambda: next(ports), is_new=True)
    second = control_plane_key("control-plane-2")
    async with host.supervised() as supervisor:
        host.kill(CONTROL_PLANE, second)
        await host.clock.run_for(1.0)
        assert host.started.count(CONTROL_PLANE) == host.started.count(second) == 2
        reply = await supervisor.answer({"verb": "start", "name": "control-plane-2"})
        assert reply == {"started": []}


async def test_a_plane_of_which_all_died_stays_down_until_it_is_asked_for(host: Host) -> None:
    async with host.supervised() as supervisor:
        host.kill(AGENT, FRONT, GATEWAY, PICKER)
        await host.clock.run_for(60.0)
        assert host.started.count(AGENT) == 1
        assert host.fleet()["planes"][0]["agent_pid"] is None
        reply = await supervisor.answer({"verb": "start", "name": PLANE})
        assert len(reply["started"]) == 4
        assert host.started.count(AGENT) == 2


async def test_the_next_supervisor_adopts_what_runs(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skerry.cli.supervisor import processes_file

    monkeypatch.setattr(processes_file, "is_alive", lambda record: record.pid in host.living)
    async with host.supervised():
        pass
    host.started.clear()
    async with host.supervised():
        assert host.started == []


async def test_down_ends_everything_and_nothing_is_started_again(host: Host) -> None:
    async with host.supervised() as supervisor:
        reply = await supervisor.answer({"verb": "down"})
        assert reply == {"ended": 5}
        await host.clock.run_for(60.0)
        assert host.living == {}
        assert host.fleet()["supervisor_pid"] is None


async def test_unknown_verbs_and_names_are_refused(host: Host) -> None:
    async with host.supervised() as supervisor:
        with pytest.raises(InvalidInput):
            await supervisor.answer({"verb": "sing"})
        with pytest.raises(NotFound):
            await supervisor.answer({"verb": "start", "name": "mars"})


async def test_certificates_are_renewed_at_the_start_and_once_a_day(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 600.0)  # three days of looks, not of seconds
    begin = host.clock.monotonic()
    async with host.supervised():
        assert host.renewed_at == [begin]
        await host.clock.run_for(3 * DAY_SECONDS + 600.0)
    assert [round((at - begin) / DAY_SECONDS) for at in host.renewed_at] == [0, 1, 2, 3]


async def test_a_renewal_that_fails_is_tried_again_and_keeps_the_fleet_running(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 60.0)
    host.renewal_fault = OSError(28, "No space left on device")
    async with host.supervised():
        await host.clock.run_for(RENEWAL_RETRY_SECONDS + 60.0)
        assert len(host.renewed_at) == 2
        host.renewal_fault = None
        await host.clock.run_for(RENEWAL_RETRY_SECONDS + 60.0)
        assert len(host.renewed_at) == 3
        await host.clock.run_for(timedelta(hours=23).total_seconds())
        assert len(host.renewed_at) == 3
        assert host.started.count(AGENT) == 1
