"""`skerry drill` on a live fleet: its promises hold, and whatever ends it, all is put back."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.cli.drills.unfinished import read_unfinished
from skerry.cli.supervisor.restarts import Role
from skerry.fleet.observation import PlaneState
from tests.faults.fleet import FaultFleet

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
]
full = pytest.mark.faults_full

ROOT = Path(__file__).resolve().parents[2]
EXIT_INTERRUPTED = 130
# Load before, the longest drill of these with its replacement, everything put back.
SECONDS_MAX = 240.0


@contextlib.asynccontextmanager
async def a_process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield `skerry drill` as it runs; what it prints is one stream."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skerry.cli.main", "drill", *arguments),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def a_drill(
    fleet: FaultFleet, *arguments: str
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Have `skerry drill run` under way on the fleet."""
    directory = ("--data-dir", str(fleet.directory.root))
    return a_process("run", *arguments, "--yes", *directory)


async def skerry_drill(*arguments: str) -> tuple[int, str]:
    """Run `skerry drill` to its end; return its exit code and what it printed."""
    async with a_process(*arguments) as process, asyncio.timeout(SECONDS_MAX):
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()


async def ready(fleet: FaultFleet) -> None:
    """Have the fleet whole, plainly routed, with the control plane up."""
    await fleet.mend()
    await fleet.with_control_plane()
    await fleet.route(continuation=False)


async def run_drill(fleet: FaultFleet, *arguments: str) -> tuple[int, str]:
    """Run a drill on the fleet to its end; return its exit code and what it printed."""
    directory = ("--data-dir", str(fleet.directory.root))
    return await skerry_drill("run", *arguments, "--yes", *directory)


async def test_the_documented_commands_do_what_the_page_says(
    shared_fleet: FaultFleet, tmp_path: Path
) -> None:
    await ready(shared_fleet)
    page = (ROOT / "docs" / "operating" / "drills.md").read_text(encoding="utf-8")
    block = page.partition("```console\n")[2].partition("```")[0]
    lines = [line.split()[2:] for line in block.splitlines() if line.startswith("skerry drill")]
    assert [line[0] for line in lines] == ["list", "run", "undo"]
    report = tmp_path / "report.json"
    said = []
    for words in lines:
        told = [str(report) if word.endswith("report.json") else word for word in words]
        directory = () if told == ["list"] else ("--data-dir", str(shared_fleet.directory.root))
        said.append(await skerry_drill(*told, *directory))
    found = json.loads(report.read_text(encoding="utf-8"))
    # Beside other tests times say more of those than of the fleet.
    broken = [one["promise"] for one in found["promises"] if not one["held"]]
    assert all(promise.startswith("seconds") for promise in broken), said
    assert [code for code, _ in said] == [0, 1 if broken else 0, 0], said
    assert found["requests"] > 10
    assert (found["failed"], found["interrupted"], found["moves"]) == (0, 0, 0)
    assert "no drill is unfinished" in said[-1][1]
    await shared_fleet.with_control_plane()
    written = [one.kind for one in await shared_fleet.operator.latest_changes(20)]
    assert [kind for kind in written if kind.startswith("drill.")] == [
        "drill.held" if found["held"] else "drill.broke"
    ]


@full
@pytest.mark.parametrize(
    "name",
    ["control-plane-off", "leader-paused", "gateway-killed", "agent-killed", "engine-killed"],
)
async def test_the_promises_of_a_drill_hold(shared_fleet: FaultFleet, name: str) -> None:
    await ready(shared_fleet)
    code, told = await run_drill(shared_fleet, name)
    assert code == 0, told


@full
@pytest.mark.parametrize("name", ["plane-killed", "region-lost"])
async def test_a_killed_plane_is_replaced_and_comes_back(
    shared_fleet: FaultFleet, name: str
) -> None:
    await ready(shared_fleet)
    code, told = await run_drill(shared_fleet, name)
    await shared_fleet.settle()
    assert code == 0, told


@full
async def test_a_drill_killed_in_the_middle_is_put_back_by_its_guard(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    await ready(fleet)
    async with a_drill(fleet, "control-plane-off", "--seconds", "120", "--rate", "0") as process:

        async def is_broken() -> bool:
            return not fleet.has_part("", Role.CONTROL_PLANE)

        await fleet.until("the control plane is dead", is_broken)
        process.kill()

    async def is_put_back() -> bool:
        return fleet.has_part("", Role.CONTROL_PLANE) and read_unfinished(fleet.directory) is None

    await fleet.until("the guard has put it back", is_put_back)
    await fleet.with_control_plane()


@full
async def test_a_drill_that_is_interrupted_puts_back_and_reports(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    await ready(fleet)
    async with a_drill(fleet, "plane-partitioned", "--seconds", "120") as process:

        async def is_broken() -> bool:
            agent = fleet.part(fleet.home, Role.AGENT)
            return _state_of(agent.pid) == "T"

        await fleet.until("the agent is stopped", is_broken)
        named = f"drill plane-partitioned is under way on this fleet as process {process.pid}"
        second, told = await run_drill(fleet, "agent-killed", "--force")
        assert (second, named in " ".join(told.split())) == (1, True), told
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(SECONDS_MAX):
            output, _ = await process.communicate()
    assert process.returncode == EXIT_INTERRUPTED, output.decode()
    assert "ended early" in output.decode()
    assert _state_of(fleet.part(fleet.home, Role.AGENT).pid) != "T"
    await fleet.with_control_plane()


@full
async def test_a_drill_is_refused_while_the_fleet_is_hurt_already(
    shared_fleet: FaultFleet,
) -> None:
    fleet = shared_fleet
    await ready(fleet)
    fleet.stop(fleet.part(fleet.home, Role.AGENT))

    async def is_silent() -> bool:
        planes = await fleet.operator.list_planes()
        return any(plane.state is not PlaneState.CONNECTED for plane in planes)

    await fleet.until("the plane is silent", is_silent)
    code, told = await run_drill(fleet, "plane-killed")
    fleet.go_on()
    assert code == 1, told
    assert "not fit for it" in told
    await fleet.with_control_plane()


def _state_of(pid: int) -> str:
    """Return the state letter of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
