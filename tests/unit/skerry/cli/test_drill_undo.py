"""One drill at a time, and whatever is left of one is put back, however often it is tried."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.drills.guard import GUARD_SECONDS_MAX, keep_guard
from skerry.cli.drills.unfinished import (
    Unfinished,
    hold_fleet,
    lock_path,
    put_back,
    read_unfinished,
    write_unfinished,
)
from skerry.cli.main import run
from skerry.cli.supervisor.control_socket import serve
from skerry.cli.supervisor.layout import DataDirectory
from skerry.plumbing.errors import Conflict, InvalidInput, SkerryError
from skerry.plumbing.processes import ProcessRecord, is_alive, record_of
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.integration  # a Unix socket, and processes
_HOLDS = """
import sys
from pathlib import Path
from skerry.cli.drills.unfinished import hold_fleet
from skerry.cli.supervisor.layout import DataDirectory
with hold_fleet(DataDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


class Supervisor:
    """Answers at the fleet's socket, and refuses the first requests."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.asked: list[str] = []

    async def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(str(request["name"]))
        if len(self.asked) <= self.refusals:
            raise InvalidInput("not yet")
        return {"started": [request["name"]]}


def a_dead_runner() -> ProcessRecord:
    mine = record_of(os.getpid())
    return ProcessRecord(pid=mine.pid, start_time=1.0, name=mine.name, boot_id=mine.boot_id)


def left_by(directory: DataDirectory, *to_start: str, **more: Any) -> Unfinished:
    left = Unfinished(drill="plane-killed", runner=a_dead_runner(), to_start=to_start, **more)
    write_unfinished(directory, left)
    return left


def test_a_second_drill_is_refused_and_told_who_runs_the_first(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    with hold_fleet(directory):
        with pytest.raises(Conflict, match=f"another drill.*process {os.getpid()}.*Ctrl-C"):
            with hold_fleet(directory):
                pass
        mine = record_of(os.getpid())
        write_unfinished(directory, Unfinished(drill="leader-paused", runner=mine))
        with pytest.raises(Conflict, match=f"drill leader-paused.*process {os.getpid()}"):
            with hold_fleet(directory):
                pass


def test_a_drill_is_refused_while_one_before_it_is_not_put_back(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    left_by(directory)
    for _ in range(2):  # a refusal leaves nothing locked
        with pytest.raises(Conflict, match=r"drill plane-killed.*`skerry drill undo`"):
            with hold_fleet(directory):
                pass


def test_the_lock_of_a_killed_drill_is_free_at_once(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    held = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert held.stdout is not None
    assert held.stdin is not None
    try:
        assert held.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {held.pid}"):
            with hold_fleet(directory):
                pass
    finally:
        held.send_signal(signal.SIGKILL)
        held.wait()
        held.stdin.close()
        held.stdout.close()
    assert lock_path(directory).exists()
    with hold_fleet(directory):
        pass


async def test_the_guard_tries_again_after_a_refusal(tmp_path: Path) -> None:
    directory, clock, supervisor = DataDirectory(tmp_path), FakeClock(), Supervisor(refusals=3)
    left_by(directory, "a")
    async with serve(directory.socket, supervisor):
        await guarded(directory, clock)
    assert supervisor.asked == ["a"] * 4
    assert read_unfinished(directory) is None


async def test_the_guard_gives_up_at_its_deadline_and_leaves_the_record(tmp_path: Path) -> None:
    directory, clock, supervisor = DataDirectory(tmp_path), FakeClock(), Supervisor(refusals=999)
    left = left_by(directory, "a")
    began = clock.monotonic()
    async with serve(directory.socket, supervisor):
        await guarded(directory, clock)
    assert clock.monotonic() - began >= GUARD_SECONDS_MAX
    assert len(supervisor.asked) > 10
    assert read_unfinished(directory) == left


async def test_a_part_that_is_refused_keeps_no_other_one_from_being_put_back(
    tmp_path: Path,
) -> None:
    directory, supervisor = DataDirectory(tmp_path), Supervisor(refusals=1)
    stopped = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        stopped.send_signal(signal.SIGSTOP)
        paused = record_of(stopped.pid)
        left = left_by(directory, "a", "b", paused=(paused,))
        async with serve(directory.socket, supervisor):
            with pytest.raises(SkerryError, match=r"a: not yet.*`skerry drill undo`"):
                await put_back(directory, left)
            assert supervisor.asked == ["a", "b"]
            assert read_unfinished(directory) == left
            assert _state_of(paused) != "T"
            await put_back(directory, left)
        assert read_unfinished(directory) is None
    finally:
        stopped.kill()
        await stopped.wait()
    assert not is_alive(paused)


async def test_a_drill_that_came_after_is_not_forgotten_with_the_one_before(
    tmp_path: Path,
) -> None:
    directory = DataDirectory(tmp_path)
    before = left_by(directory)
    now = Unfinished(drill="leader-paused", runner=record_of(os.getpid()))
    write_unfinished(directory, now)
    await put_back(directory, before)
    assert read_unfinished(directory) == now


def test_undo_can_be_asked_for_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = DataDirectory(tmp_path)
    directory.fleet.write_text("{}", encoding="utf-8")
    left_by(directory)
    told = []
    for _ in range(3):
        assert run(["drill", "undo", "--data-dir", str(tmp_path)]) == 0
        told.append(capsys.readouterr().out.strip())
    assert told == ["drill plane-killed is put back", *["no drill is unfinished"] * 2]


async def guarded(directory: DataDirectory, clock: FakeClock) -> None:
    """Have the guard do its work to its end, in no time."""
    async with asyncio.TaskGroup() as group:
        turning = group.create_task(_turned(clock))
        await keep_guard(directory, clock)
        turning.cancel()


async def _turned(clock: FakeClock) -> None:
    while True:
        await clock.wait_for_sleepers(1)
        await clock.run_for(1.0)


def _state_of(record: ProcessRecord) -> str:
    return Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()[0]
