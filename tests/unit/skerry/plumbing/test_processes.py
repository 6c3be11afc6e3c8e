"""Processes are found again by pid and start time, and no signal meets a stranger."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import InvalidInput, NotFound
from skerry.plumbing.processes import (
    ProcessRecord,
    children,
    is_alive,
    is_ending,
    is_kill_pending,
    kill_group,
    record_of,
    session_members,
    signal_process,
    spawn,
    terminate,
    wait_until_gone,
)
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.integration

Start = Callable[..., ProcessRecord]

IGNORES_TERM = (
    "import signal;signal.signal(15,signal.SIG_IGN);print('ready',flush=True);signal.pause()"
)
# A grandchild that outlives its parent, in the same session.
FAMILY = (
    "import subprocess,sys;p=subprocess.Popen(['sleep','100']);print(p.pid,flush=True);"
    "sys.stdin.read();p.wait()"
)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start programs whose output goes to tmp_path/out; all are ended after the test."""
    started: list[ProcessRecord] = []

    def start_one(*argv: str, die_with_parent: bool = False) -> ProcessRecord:
        record = spawn(
            argv,
            env=None,
            cwd=tmp_path,
            stdout_path=tmp_path / "out",
            die_with_parent=die_with_parent,
        )
        started.append(record)
        return record

    yield start_one
    for record in started:
        kill_group(record)
        await wait_until_gone(record)


async def output_of(path: Path) -> str:
    """Wait for the first whole line of a log."""
    await until(lambda: read(path).endswith("\n"))
    return read(path)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def until(condition: Callable[[], bool]) -> None:
    """Ask the kernel again and again: other processes set no event of ours."""
    async with asyncio.timeout(30):
        while not condition():
            await SystemClock().sleep(0.005)


async def test_spawned_process_leads_its_own_session_with_no_input(
    start: Start, tmp_path: Path
) -> None:
    code = (
        "import os,sys;print(os.getsid(0)==os.getpid(),repr(sys.stdin.read()),"
        "sorted(os.listdir('/proc/self/fd')))"
    )
    record = start(sys.executable, "-c", code)
    # One more descriptor is that of the listing itself.
    assert await output_of(tmp_path / "out") == "True '' ['0', '1', '2', '3']\n"
    assert await wait_until_gone(record) == 0


async def test_output_is_appended(start: Start, tmp_path: Path) -> None:
    for word in ("one", "two"):
        await wait_until_gone(start("sh", "-c", f"echo {word}; echo {word} >&2"))
    assert (tmp_path / "out").read_text() == "one\none\ntwo\ntwo\n"


async def test_environment_is_the_given_one_whole(tmp_path: Path) -> None:
    record = spawn(["/usr/bin/env"], env={"ONLY": "this"}, cwd=None, stdout_path=tmp_path / "out")
    await wait_until_gone(record)
    assert (tmp_path / "out").read_text() == "ONLY=this\n"


def test_missing_program_says_so(start: Start) -> None:
    with pytest.raises(NotFound, match="no program 'no-such-thing'"):
        start("no-such-thing")


async def test_living_is_told_from_dead_and_zombies_are_reaped(start: Start) -> None:
    record = start("sleep", "100")
    assert is_alive(record)
    os.kill(record.pid, signal.SIGKILL)
    assert await wait_until_gone(record) == -signal.SIGKILL
    assert not is_alive(record)
    assert not read(Path(f"/proc/{record.pid}/stat"))


async def test_exit_code_of_a_process_that_ended_before_the_wait_is_told(start: Start) -> None:
    record = start("sh", "-c", "exit 3")
    stat = Path(f"/proc/{record.pid}/stat")
    await until(lambda: ") Z" in read(stat))
    assert await wait_until_gone(record) == 3


async def test_exit_code_survives_a_look_that_reaped_the_process(start: Start) -> None:
    record = start("sh", "-c", "exit 4")
    await until(lambda: not is_alive(record))
    assert await wait_until_gone(record) == 4


async def test_reused_pid_is_a_stranger(start: Start) -> None:
    record = start("sleep", "100")
    for other in (replace(record, start_time=record.start_time - 1), replace(record, boot_id="x")):
        assert not is_alive(other)
        assert not signal_process(other, signal.SIGKILL)
        assert kill_group(other) == 0
        await terminate(other, FakeClock(), 1)
    assert is_alive(record)


async def test_record_survives_its_state_file(start: Start) -> None:
    record = start("sleep", "100")
    assert ProcessRecord.from_json(record.to_json()) == record
    assert record.name == "sleep"
    assert record_of(record.pid) == record


@pytest.mark.parametrize(
    "values", [{}, {"pid": 1, "start_time": 1, "name": "x", "boot_id": "y"}, {"pid": "7"}]
)
def test_record_of_nonsense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        ProcessRecord.from_json(values)


async def test_terminate_asks_first(start: Start, tmp_path: Path) -> None:
    record = start(
        "sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    )
    await output_of(tmp_path / "out")
    await terminate(record, SystemClock(), 10)
    assert not is_alive(record)
    assert (tmp_path / "out").read_text() == "ready\nbye\n"


async def test_terminate_kills_what_ignores_it_after_the_grace(
    start: Start, tmp_path: Path
) -> None:
    clock = FakeClock()
    record = start(sys.executable, "-c", IGNORES_TERM)
    await output_of(tmp_path / "out")
    async with asyncio.TaskGroup() as group:
        group.create_task(terminate(record, clock, 5))
        await clock.wait_for_sleepers(1)
        clock.advance(4.9)
        assert is_alive(record)
        clock.advance(0.2)
    assert not is_alive(record)


async def test_terminate_of_the_dead_returns_at_once(start: Start) -> None:
    record = start("true")
    await wait_until_gone(record)
    await terminate(record, FakeClock(), 100)


async def test_children_are_found_and_the_session_dies_whole(start: Start, tmp_path: Path) -> None:
    record = start(sys.executable, "-c", FAMILY.replace("sys.stdin.read();", ""))
    grandchild = int(await output_of(tmp_path / "out"))
    (child,) = children(record)
    assert (child.pid, child.name) == (grandchild, "sleep")
    assert kill_group(record) == 2
    await wait_until_gone(record)
    await wait_until_gone(child)
    assert not is_alive(child)
    assert children(record) == ()


async def test_session_is_found_after_its_leader_died(start: Start, tmp_path: Path) -> None:
    record = start(sys.executable, "-c", FAMILY.replace("p.wait()", ""))
    child = record_of(int(await output_of(tmp_path / "out")))
    await wait_until_gone(record)
    assert is_alive(child)
    assert kill_group(record) == 1
    await wait_until_gone(child)
    assert not is_alive(child)


async def test_child_dies_with_its_parent_when_asked(start: Start, tmp_path: Path) -> None:
    code = (
        "import pathlib,signal\nfrom skerry.plumbing.processes import spawn\n"
        "r=spawn(['sleep','100'],env=None,cwd=None,stdout_path=pathlib.Path('child'),"
        "die_with_parent=True)\nprint(r.pid,flush=True)\nsignal.pause()"
    )
    root = Path(__file__).parents[4]
    env = {**os.environ, "PYTHONPATH": str(root)}
    parent = spawn(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, stdout_path=tmp_path / "out"
    )
    child = record_of(int(await output_of(tmp_path / "out")))
    await until(lambda: read(Path(f"/proc/{child.pid}/comm")) == "sleep\n")
    assert is_alive(child)
    signal_process(parent, signal.SIGKILL)
    await wait_until_gone(parent)
    await wait_until_gone(child)
    assert not is_alive(child)


async def test_dead_children_that_nobody_waits_for_are_reaped_and_the_others_are_not(
    tmp_path: Path,
) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "from skerry.plumbing import processes\n"
        "processes.adopt_orphans()\n"
        # Not at once: the one that forks it would reap it itself.
        'child = \'import subprocess; subprocess.Popen(["sleep", "0.5"])\'\n'
        "fork = [sys.executable, '-c', child]\n"
        "subprocess.run(fork, check=True)\n"  # leaves us its child, which ends
        "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
        "ours = subprocess.Popen(['true'])\n"
        "print(processes.reap_orphans({ours.pid}))\n"
        "print(ours.wait())\n"
        "print(processes.reap_orphans(()))\n"
    )
    ended = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(ended.communicate(), 30)
    assert output.split() == [b"1", b"0", b"0"]


async def test_waiting_for_the_gone_returns(start: Start) -> None:
    record = start("true")
    assert await wait_until_gone(record) == 0
    assert await wait_until_gone(record) == 0


def test_a_process_of_another_pid_namespace_of_this_boot_is_not_ours() -> None:
    ours = record_of(os.getpid())
    boot, namespace = ours.boot_id.split("/")
    assert namespace == f"pid-{os.stat('/proc/self/ns/pid').st_ino}"
    other = replace(ours, boot_id=f"{boot}/pid-1")  # a container's on the same machine
    assert (is_alive(ours), is_alive(other)) == (True, False)
    assert not signal_process(other, signal.SIGCONT)
    assert session_members(other) == []


def test_what_a_release_before_wrote_down_is_still_found() -> None:
    ours = record_of(os.getpid())
    assert is_alive(replace(ours, boot_id=ours.boot_id.partition("/")[0]))


async def test_a_process_is_ending_from_the_moment_it_was_killed(start: Start) -> None:
    record = start("sleep", "60")
    assert not is_ending(record)
    os.kill(record.pid, signal.SIGKILL)
    assert is_ending(record)  # whatever it still waits for
    await wait_until_gone(record)
    assert is_ending(record)


def test_a_kill_that_waits_for_a_disk_is_seen_as_pending() -> None:
    waits = "State:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000100\n"
    assert is_kill_pending(waits)
    assert not is_kill_pending(waits.replace("0100", "0000"))
    assert not is_kill_pending(waits.replace("0100", "4000"))  # SIGTERM is for it to decide
