"""The control plane's database lost, then an older backup restored: real processes, none of which
notices.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.cli.supervisor.restarts import Role
from skerry.fleet.generation import Version
from tests.faults.fleet import CLOCK, FaultFleet, a_deployment, a_fault_fleet, replica_processes

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

READY_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 30.0
SKERRY = Path(sys.executable).with_name("skerry")


async def skerry(fleet: FaultFleet, *arguments: str) -> str:
    """Run the command line for this fleet and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(str(SKERRY), "--config", str(fleet.directory.config), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    async with asyncio.timeout(COMMAND_SECONDS_MAX):
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


async def running(fleet: FaultFleet) -> set[int]:
    """Return the processes of every replica."""
    return {p.pid for plane in fleet.shape for p in replica_processes(fleet.replicas(plane))}


def held(fleet: FaultFleet) -> dict[str, Version]:
    """Return what every plane holds, by its agent's own word."""
    found = {}
    for plane in fleet.shape:
        told: Any = json.loads((fleet.plane_directory(plane) / "agent.json").read_bytes())
        epoch, generation = map(int, told["desired"]["held"].split("."))
        found[plane] = Version(epoch=epoch, generation=generation)
    return found


async def is_recovered(fleet: FaultFleet) -> bool:
    """Say whether planes are connected, the deployment known, and nothing left to recover."""
    planes = await fleet.operator.list_planes()
    known = await fleet.operator.list_deployments()
    placed = await fleet.operator.list_placements()
    return (
        [plane.state.value for plane in planes] == ["connected"] * len(fleet.shape)
        and [one.deployment.name for one in known] == [a_deployment(continuation=False).name]
        and {row.plane: row.replicas for row in placed if row.replicas} == fleet.shape
        and not (await fleet.operator.get_recovery()).is_recovering
    )


async def led_again(fleet: FaultFleet) -> float:
    """Start a control plane and return in how many seconds it knows all that the planes hold."""
    started = CLOCK.monotonic()
    await fleet.with_control_plane()
    await fleet.until("the control plane knows the fleet", lambda: is_recovered(fleet))
    return CLOCK.monotonic() - started


async def dead(fleet: FaultFleet) -> Path:
    """Kill the control plane and return its database's file, which nobody has open then."""
    await fleet.without_control_plane()

    async def is_dead() -> bool:
        return not fleet.has_part("", Role.CONTROL_PLANE)

    await fleet.until("the control plane is dead", is_dead)
    return fleet.directory.control_plane / "skerry.db"


async def test_a_lost_database_and_an_older_backup_cost_no_replica(tmp_path: Path) -> None:
    async with a_fault_fleet(tmp_path / "fleet") as fleet:
        before, versions = await running(fleet), held(fleet)
        wanted = await fleet.operator.get_deployment("chat")

        # Lost: every file of it.
        database = await dead(fleet)
        for path in database.parent.glob("skerry.db*"):
            path.unlink()
        assert await led_again(fleet) < READY_SECONDS_MAX
        assert (await fleet.operator.get_deployment("chat")).deployment == wanted.deployment
        assert await running(fleet) == before
        assert "nothing to recover" in await skerry(fleet, "recover", "status")

        # It leads: what is wanted now reaches every plane, above all that they held.
        backup, where = tmp_path / "fleet.backup", ("--data-dir", str(fleet.directory.root))
        await skerry(fleet, "backup", str(backup), *where)
        assert "is sound" in await skerry(fleet, "backup", "--verify", str(backup))
        await fleet.operator.apply(a_deployment(continuation=True))
        await fleet.until("every plane holds more", lambda: _hold_more(fleet, versions))

        # The backup knows nothing of that; the planes do.
        newest = held(fleet)
        await dead(fleet)
        await skerry(fleet, "restore", str(backup), "--force", *where)
        assert await led_again(fleet) < READY_SECONDS_MAX
        assert (await fleet.operator.get_deployment("chat")).deployment.routing.continuation
        assert await running(fleet) == before
        changes = await fleet.operator.latest_changes(500)
        kinds = {change.kind for change in changes}
        assert {"database.restored", "recovery.ended", "deployment.adopted"} <= kinds
        await fleet.operator.apply(a_deployment(continuation=False))
        await fleet.until("every plane holds more", lambda: _hold_more(fleet, newest))
        assert await running(fleet) == before


async def _hold_more(fleet: FaultFleet, versions: dict[str, Version]) -> bool:
    return all(version > versions[plane] for plane, version in held(fleet).items())
