"""A fleet of an older release becomes one of this release, part after part, under load."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.cli.supervisor.fleet_file import read_fleet
from skerry.cli.supervisor.layout import CONTROL_PLANE_NAME
from skerry.cli.supervisor.restarts import Role
from skerry.cli.up import start_fleet, start_only
from skerry.fleet.observation import PlaneState
from skerry.plumbing.processes import record_of, signal_process, wait_until_gone
from tests.faults.fleet import (
    CLOCK,
    DEPLOYMENT,
    FaultFleet,
    a_deployment,
    replica_processes,
)
from tests.faults.load import Load, Through, under_load
from tests.faults.older import OLDER_RELEASES, an_older_fleet, extract, is_of
from tests.faults.promises import NONE_BROKEN, nothing_noticed
from tests.faults.record import Scenario, record
from workload_plane.gateway.draining import drain_gateway

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.faults_full,
    pytest.mark.timeout(900),
]

UPGRADE_SECONDS_MAX = 420.0
# Some fifteen processes of Python start meanwhile, two seconds of a core each.
RATE_PER_SECOND = 10.0
PARTS = (Role.AGENT, Role.FRONT, Role.PICKER, Role.RELAY, Role.GATEWAY)
NUMBERS = {"N-1": 60, "N-2": 61}


async def next_supervisor(fleet: FaultFleet) -> None:
    """Have this release's supervisor take over all that runs."""
    pid = read_fleet(fleet.directory.fleet)["supervisor_pid"]
    older = record_of(pid)
    signal_process(older, signal.SIGKILL)
    await wait_until_gone(older)
    await start_fleet(fleet.directory, None, None, restart_control_plane=False)

    async def is_supervised() -> bool:
        return read_fleet(fleet.directory.fleet)["supervisor_pid"] not in (None, pid)

    await fleet.until("the next supervisor is there", is_supervised)


async def next_control_plane(fleet: FaultFleet) -> None:
    """End the older control plane; this release's migrates the store and goes on."""
    older = fleet.part("", Role.CONTROL_PLANE)
    signal_process(older, signal.SIGTERM)
    await wait_until_gone(older)
    await start_only(fleet.directory, CONTROL_PLANE_NAME)
    await fleet.with_control_plane()

    async def is_taken() -> bool:
        planes = await fleet.operator.list_planes()
        refused = [plane.nack for plane in planes if plane.nack]
        assert refused == [], "older planes take what the next release tells them"
        # The new leader's epoch: it has told each plane anew.
        return all(one.held == one.desired and one.held.epoch > 1 for one in planes)

    await fleet.until("every older plane holds what it is told", is_taken)


async def next_part(fleet: FaultFleet, plane: str, role: Role) -> None:
    """End one of a plane's processes in order; its supervisor starts this release's."""
    older = fleet.part(plane, role)
    if role is Role.GATEWAY:
        await drain_gateway(fleet.layout.plane(plane).ports.admin, CLOCK)
    signal_process(older, signal.SIGTERM)
    await wait_until_gone(older)

    async def is_back() -> bool:
        # Heard again, too: a silent agent and a gateway that drains are a plane that is lost.
        states = {one.state for one in await fleet.operator.list_planes()}
        is_new = fleet.part(plane, role).pid != older.pid
        return is_new and states == {PlaneState.CONNECTED} and await fleet.is_whole()

    await fleet.until(f"{plane}'s {role.value} is back", is_back)


async def next_replicas(fleet: FaultFleet, tree: Path) -> None:
    """Apply a new revision: its replicas start under this release's hosts."""
    wanted = a_deployment(continuation=fleet.continuation)
    engine = replace(wanted.revision.engine, concurrent_requests=96)
    await fleet.operator.apply(replace(wanted, revision=replace(wanted.revision, engine=engine)))

    async def is_rolled_out() -> bool:
        records = [one for plane in fleet.shape for one in fleet.replicas(plane)]
        hosts = replica_processes(records)
        return {one.revision for one in records} == {2} and not any(is_of(h, tree) for h in hosts)

    await fleet.until(f"every replica of {DEPLOYMENT} is of the new revision", is_rolled_out)
    await fleet.settle()


@pytest.mark.parametrize("release", sorted(OLDER_RELEASES))
async def test_a_fleet_is_upgraded_part_by_part_and_nobody_notices(
    tmp_path_factory: pytest.TempPathFactory, release: str
) -> None:
    # Not `tmp_path`: with the test's name in it, older releases' sockets have too long a path.
    folder = tmp_path_factory.mktemp(release)
    tree = extract(release, folder)
    async with an_older_fleet(tree, folder / "fleet") as fleet:
        before = {plane: [r.name for r in fleet.replicas(plane)] for plane in fleet.shape}

        async def upgrade(load: Load) -> None:
            await next_supervisor(fleet)
            await next_control_plane(fleet)
            assert is_of(fleet.part(fleet.home, Role.AGENT), tree), "the planes are still older"
            for plane in sorted(fleet.shape):
                for role in PARTS:
                    # What the older release did not have is of this one already.
                    if fleet.has_part(plane, role) and is_of(fleet.part(plane, role), tree):
                        await next_part(fleet, plane, role)
            fleet.roles = tuple(role for role in PARTS if role is not Role.RELAY)
            await fleet.until("the fleet is whole", fleet.is_whole)
            after = {plane: [r.name for r in fleet.replicas(plane)] for plane in fleet.shape}
            assert after == before, "no replica was started again for it"
            await next_replicas(fleet, tree)

        found = await under_load(
            fleet,
            upgrade,
            seconds=UPGRADE_SECONDS_MAX,
            through=Through.CLIENT,
            rate=RATE_PER_SECOND,
        )
        scenario = Scenario(
            number=NUMBERS[release],
            text=f"a fleet of release {release} upgraded part by part, then its replicas",
            promise=f"{NONE_BROKEN}; no replica is started again before its own turn",
            through=Through.CLIENT,
            control_plane=True,
            rate_per_second=RATE_PER_SECOND,
        )
        record(scenario, found, fleet)
        nothing_noticed(found)
